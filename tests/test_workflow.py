"""Whole runs, started as a user starts them: what reruns, what does not, and what a failure leaves."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
import zarr
from projects import ROOT, Project, draw_data

from unetpipe.cli import main
from unetpipe.manifest import read_json
from unetpipe.store import read_attributes
from unetpipe.totals import wide

NETWORK = "results/network/all/network.json"
AFTER_LABEL = {"label", "measure", "score", "report"}
AFTER_WEIGHTS = {"weights", "train", "predict_part", "predict", *AFTER_LABEL}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run on small data."""
    project = draw_data(tmp_path_factory.mktemp("project"))
    code, said = project.run()
    assert code == 0, said
    return project


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished run that a test may change."""
    shutil.copytree(finished.folder, tmp_path / "p", copy_function=shutil.copy2)
    return Project(tmp_path / "p")


def test_the_whole_chain(finished):
    results = finished.folder / "results"
    scores = pd.read_csv(results / "scores.tsv", sep="\t")
    assert set(scores["sample"]) == {"test"}
    assert scores.series.nunique() == 3  # two images and both together
    assert wide(scores).f1.item() > 0.5
    assert len(pd.read_parquet(results / "objects" / "slide.parquet")) > 50
    table = pd.read_csv(results / "report" / "samples.tsv", sep="\t")
    assert set(table.state) == {"done"}
    assert table.objects.sum() == sum(len(pd.read_parquet(path)) for path in (results / "objects").glob("*.parquet"))
    assert not (results / "report-so-far.html").exists()
    page = (results / "report.html").read_text()
    for chart in (
        "loss over the steps",
        "F1 of each sample",
        "scores of pixels over the threshold",
        "sizes of objects",
    ):
        assert f'aria-label="{chart}"' in page
    assert page.count('class="errors"') == 2  # of both annotated test images


def test_a_second_run_does_nothing(finished):
    assert finished.planned() == {}


def test_snakemake_reports_too(finished, tmp_path):
    code, said = finished.run("--report", tmp_path / "run.html")
    assert code == 0, said
    page = (tmp_path / "run.html").read_text()
    for caption in (
        "What failed and which samples",
        "in the order of the report",
        "with 95 % intervals",
        "of network all",
    ):
        assert caption in page


def test_a_changed_threshold_reruns_labels_and_what_follows(project):
    project.config["label"]["threshold"] = 0.6
    assert set(project.planned()) == AFTER_LABEL


def test_a_changed_border_reruns_weights_and_what_follows(project):
    project.config["weights"] = {"border": 12.0}
    assert set(project.planned()) == AFTER_WEIGHTS


def test_swapped_values_are_a_change(project):
    project.config["weights"] = {"border": 5.0, "sigma": 10.0}
    assert set(project.planned()) == AFTER_WEIGHTS


def test_the_order_of_keys_is_no_change(project):
    project.config["train"] = dict(reversed(project.config["train"].items()))
    assert project.planned() == {}


def test_a_new_predict_row_plans_its_own_jobs(project):
    shutil.copy(project.folder / "slide.tif", project.folder / "more.tif")
    project.rows.append("more\tmore.tif\t\tpredict")
    own = dict.fromkeys(["ingest", "mask", "predict", "label", "measure", "report"], 1)
    assert project.planned() == {**own, "predict_part": 2}


def test_a_new_test_row_also_scores(project):
    project.rows.append("more\ttest/images/00.tif\ttest/labels/00.tif\ttest")
    own = dict.fromkeys(["ingest", "truth", "mask", "predict", "label", "measure", "score", "report"], 1)
    assert project.planned() == {**own, "predict_part": 2}


def test_a_new_train_row_trains_and_predicts_again(project):
    for kind in ("images", "labels"):
        shutil.copy(project.folder / "test" / kind / "00.tif", project.folder / f"more-{kind}.tif")
    project.rows.append("more\tmore-images.tif\tmore-labels.tif\ttrain")
    once = dict.fromkeys(["ingest", "truth", "mask", "weights", "train", "score", "report"], 1)
    assert project.planned() == {**once, **dict.fromkeys(["predict", "label", "measure"], 2), "predict_part": 4}


def test_a_row_to_be_scored_on_while_learning_trains_again(project):
    project.rows = [row.removesuffix("test") + "val" if row.endswith("test") else row for row in project.rows]
    once, twice = ["train", "score", "report"], ["predict", "label", "measure"]
    assert project.planned() == {**dict.fromkeys(once, 1), **dict.fromkeys(twice, 2), "predict_part": 4}


def test_folds_train_a_network_each_and_predict_together(project):
    project.config["train"] |= {"folds": 2, "steps": 20}
    project.rows = [row for row in project.rows if not row.startswith("slide")]
    assert project.planned()["train"] == 2
    code, said = project.run()
    assert code == 0, said
    notes = [read_json(project.folder / "results" / "network" / fold / "network.json") for fold in "01"]
    assert all(note["kept"]["step"] <= 20 for note in notes)
    predicted = read_attributes(project.folder / "results" / "probabilities" / "test.zarr" / "zarr.json")
    assert predicted["networks"] == [note["digest"] for note in notes]
    assert "The mean of 2 networks predicts" in (project.folder / "results" / "report.html").read_text()
    assert project.planned() == {}


def test_a_network_from_elsewhere_trains_nothing(project, capsys):
    shutil.move(project.folder / "results" / "network" / "all", project.folder / "elsewhere")
    project.config["network"] = "elsewhere/network.json"
    project.rows = [row for row in project.rows if row.startswith(("sample", "slide"))]
    assert "train" not in project.planned()
    code, said = project.run()
    assert code == 0, said
    assert (project.folder / "results" / "report.html").exists()
    assert verified(project.folder / "results", capsys)[0] == 0


def test_a_touched_small_source_is_no_change(project):
    for path in (project.folder / "train").rglob("*.tif"):
        path.touch()
    assert project.planned() == {}


def test_a_touched_large_source_runs_no_network(project):
    before = project.digests()
    (project.folder / "slide.tif").touch()
    assert set(project.planned()) >= {"ingest", "predict"}
    code, said = project.run()
    assert code == 0, said
    assert project.digests() == before
    logs = "".join(path.read_text() for path in (project.folder / "logs" / "predict" / "slide").iterdir())
    assert "blocks of predict" not in logs
    assert project.planned() == {}


def test_a_truncated_file_fails_alone(project):
    whole = (project.folder / "test/images/01.tif").read_bytes()
    (project.folder / "test/images/01.tif").write_bytes(whole[: len(whole) // 2])
    slide = tifffile.imread(project.folder / "slide.tif")
    tifffile.imwrite(project.folder / "slide.tif", slide[::-1])
    code, said = project.run("--keep-going")
    assert code == 1
    assert re.search(r'sample "test": 1 series could not be read(.|\n)*01\.tif: cut short', said)
    results = project.folder / "results"
    assert not (results / "images" / "test.ome.zarr" / "zarr.json").exists()
    assert (results / "objects" / "slide.geojson.gz").exists()  # the good one went through
    reported = pd.read_csv(results / "report-so-far" / "samples.tsv", sep="\t")
    assert list(reported.state) == ["failed", "done", "done"]
    assert re.match(
        r'ingest: .*sample "test": 1 series could not be read(.|\n)*01\.tif: cut short', reported.message[0]
    )

    assert set(project.planned()) >= {"ingest", "score", "report"}  # although the old report still lies there
    (project.folder / "test/images/01.tif").write_bytes(whole)
    planned = project.planned()
    assert planned["ingest"] == 1
    code, said = project.run()
    assert code == 0, said
    assert not (results / "report-so-far.html").exists()
    assert project.planned() == {}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda p: p.config.update(weights={"sgima": 1}), "unknown key weights.sgima; did you mean sigma?"),
        (lambda p: p.rows.append("x\tnowhere.tif\t\tpredict"), 'sample "x": {folder}/nowhere.tif names no file'),
        (lambda p: p.config.update(network="results/network/all/network.json"), "copy its folder elsewhere first"),
        (lambda p: p.rows.append("x\tslide.tif"), "samples.tsv, line 5: split missing"),
    ],
)
def test_mistakes_are_refused_before_any_job(project, change, sentence):
    change(project)
    start = time.monotonic()
    code, said = project.run()
    assert time.monotonic() - start < 10
    assert code == 1
    assert sentence.format(folder=project.folder) in said
    assert "Traceback" not in said


def flip(path):
    """Another bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_what_is_damaged_is_found_and_alone_made_again(project, capsys):
    before, results = project.digests(), project.folder / "results"
    assert verified(results, capsys) == (0, "everything is as it was written\n")
    damaged = {
        "images/test.ome.zarr/0/0/c/**/*": flip,
        "images/slide.ome.zarr/0/labels/objects/0/c/**/*": flip,
        "weights/train.zarr/0/border/c/**/*": lambda path: path.unlink(),
        "probabilities/slide.zarr/0/c/**/*": flip,
        "network/all/network.safetensors": flip,
        "objects/slide.parquet": flip,
        "objects/test.parquet": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    }
    for pattern, damage in damaged.items():
        damage(min(path for path in results.glob(pattern) if path.is_file()))
    assert verified(results, capsys)[0] == 1  # it goes on beside what cannot be read
    code, said = verified(results, capsys, "--blocks", "0")
    assert code == 1
    assert said.count("; delete ") == len(damaged)
    for told in re.findall(r"; delete (.*) and run again", said):
        for path in told.split():
            shutil.rmtree(results / path) if (results / path).is_dir() else (results / path).unlink()
    code, said = project.run()
    assert code == 0, said
    assert project.digests() == before
    assert verified(results, capsys)[0] == 0


def verified(results, capsys, *options):
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(results), "--device", "cpu", *options])
    return ended.value.code, capsys.readouterr().out


def test_what_another_network_or_threshold_would_give_is_told(project, capsys):
    results = project.folder / "results"
    for sample in ("slide", "test"):
        store = results / "probabilities" / f"{sample}.zarr"
        for series in sorted(store.glob("[0-9]*")):
            array = zarr.open_array(series)
            array[...] = 255 - array[...]
    code, said = verified(results, capsys)
    assert code == 1
    assert "is not what was written" in said
    assert re.search(r"probabilities of slide, series 0, .*: computed again it differs by \d", said)
    assert re.search(r"objects of slide, series .*: found again they are others", said)


def test_a_killed_run_goes_on(finished, tmp_path):
    """Kill it -9 in the middle of training; the next run ends with the same network as an undisturbed one."""
    project = Project(tmp_path / "p")
    shutil.copytree(
        finished.folder,
        project.folder,
        copy_function=shutil.copy2,
        ignore=shutil.ignore_patterns("results", ".snakemake", "logs"),
    )
    (project.folder / "config.yaml").write_text(yaml.safe_dump(project.config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", project.folder]
    command += ["--configfile", project.folder / "config.yaml", "--cores", "2", "--", NETWORK]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 120
        while not (project.folder / "logs" / "train").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(np.random.default_rng().uniform(0, 4))
        os.killpg(process.pid, 9)
    code, said = project.run("--unlock")
    assert code == 0, said
    code, said = project.run("--rerun-incomplete", "--", NETWORK)
    assert code == 0, said
    made = project.digests()
    assert made[Path(NETWORK).with_name("network.safetensors")]
    assert made.items() <= finished.digests().items()
