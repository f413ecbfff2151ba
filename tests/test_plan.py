"""What is said before a run is what then happens."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scenes import prepare, write_pairs

from unetpipe.cli import main
from unetpipe.config import load_project, read_config
from unetpipe.fitting import wanted_tiles
from unetpipe.geometry import unet_levels
from unetpipe.ingest import ingest
from unetpipe.inspection import stored
from unetpipe.manifest import write_json
from unetpipe.mask import write_mask
from unetpipe.needs import Kind, block_side, network_axes, parameters, prediction_mb, prediction_memory
from unetpipe.network import UNet
from unetpipe.notes import kind_of, read_notes
from unetpipe.plan import Plan, Size, make_network, table
from unetpipe.plan.calibration import Costs
from unetpipe.plan.lines import Line
from unetpipe.predict.job import open_job, seams, units
from unetpipe.saved import save_network

DEFAULTS = Path(__file__).parents[1] / "config" / "config.yaml"
RULES = {"ingest", "truth", "mask", "weights", "label", "measure", "score"}
COSTS = Costs(1.0, 2.0, dict.fromkeys(RULES, 1e-6), 0.5, 0.25)
PEAK = """
import json, sys
from unetpipe.predict.part import predict_part
call = json.loads(sys.argv[1])
predict_part(*call.pop("paths"), **call)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize(
    "settings", [{"depth": 4, "features": 64}, {"depth": 2, "features": 8}, {"depth": 4, "features": 32}]
)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_network_is_known_without_being_built(settings, dimensions):
    network = UNet(dimensions=dimensions, **settings)
    assert network_axes(settings, dimensions) == network.axes
    weights = sum(tensor.numel() for tensor in network.parameters())
    assert parameters(settings, dimensions) == pytest.approx(weights, rel=0.02)  # biases and the head are left out


def sparse(folder, side):
    """A large image of which one corner holds tissue, without a file of that size."""
    image, tissue = str(folder / "s.ome.zarr" / "zarr.json"), str(folder / "tissue.json")
    pixels = np.lib.format.open_memmap(folder / "i.npy", "w+", np.uint8, (1, 1, 1, side, side))
    pixels[..., :1100, :1100] = np.random.default_rng(0).integers(1, 255, (1100, 1100), np.uint8)
    del pixels
    ingest([str(folder / "i.npy")], image, sample="s")
    write_mask(image, tissue, sample="s")
    return image, tissue


def peak(folder, image, tissue, features, block):
    """Bytes that a job of prediction takes at most, measured, and as computed before."""
    network = UNet(features=features, dropout=0.0)
    save_network(network, folder / "n.json", {"precision": "float32"})
    paths = [image, tissue, [str(folder / "n.json")], str(folder / "part.json")]
    call = {"paths": paths, "store": str(folder / "p" / "zarr.json"), "sample": "s", "block": block, "threads": 2}
    done = subprocess.run([sys.executable, "-c", PEAK, json.dumps(call)], check=True, capture_output=True, text=True)
    weights = sum(tensor.numel() for tensor in network.parameters())
    said = prediction_memory(Kind(features, weights, network.axes, 1), block, 32, compiled=False)
    return 1024 * float(done.stdout), said


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_memory_follows_from_block_and_network_whatever_the_size_of_the_image(tmp_path):
    found = {}
    for side in (2048, 6144):
        folder = tmp_path / str(side)
        folder.mkdir()
        found[side] = peak(folder, *sparse(folder, side), 16, 512)
    assert found[6144][0] < 1.2 * found[2048][0]  # one size measured ten times: 630 to 750 MB, as threads meet
    folder = tmp_path / "2048"
    found[0] = peak(folder, str(folder / "s.ome.zarr" / "zarr.json"), str(folder / "tissue.json"), 8, 256)
    for measured, said in found.values():
        assert said / 2 < measured < said


@given(
    st.sampled_from([8, 16, 32, 64, 128]),
    st.integers(1, 5),
    st.sampled_from([(1, 1), (1, 1, 1), (4, 1, 1)]),
    st.sampled_from([16, 96, 256, 512]),
)
def test_auto_takes_the_largest_block_that_fits(features, depth, spacing, chunk):
    axes = tuple(level.axis() for level in unet_levels(depth, spacing))
    side = block_side("auto", features, axes, 32, chunk)
    step = math.lcm(chunk, axes[-1].stride)
    assert side % step == 0
    assert side <= 1024
    activations = {s: 24 * features * math.prod(a.input(b) for a, b in zip(axes, (32, s, s)[-len(axes) :], strict=True))
                   for s in (side, 2 * side + step)}  # fmt: skip
    assert activations[side] <= 6e9 or side == step
    assert activations[2 * side + step] > 6e9 or 2 * side + step > 1024
    assert block_side(step, features, axes, 32, chunk) == step


def test_the_papers_network_takes_blocks_of_1024():
    assert block_side("auto", 64, network_axes({"depth": 4}, 2), 32, 256) == 1024


def test_the_scheduler_is_asked_for_more_at_each_attempt():
    config = yaml.safe_load(DEFAULTS.read_text())
    kind = Kind.of_config(config)
    first = prediction_mb(config, kind, 1)
    assert 3000 < first < 8000
    assert prediction_mb(config, kind, 2) == 2 * first
    config["predict"]["block"] = 2048
    assert prediction_mb(config, kind, 1) > first


def test_the_scheduler_is_asked_for_what_the_given_networks_need(tmp_path):
    """Whatever the config would have trained."""
    config, asked = yaml.safe_load(DEFAULTS.read_text()), []
    kinds = {"volume": {"dimensions": 3, "depth": 2, "features": 8}, "wide": {"depth": 5, "features": 64}}
    for name, settings in kinds.items():
        network, paths = UNet(**settings, dropout=0.0), [str(tmp_path / f"{name}{n}.json") for n in range(2)]
        for path in paths:
            save_network(network, path, {"precision": "float32"})
        one, two = (kind_of(several, read_notes(several)) for several in (paths[:1], paths))
        weights = sum(tensor.numel() for tensor in network.parameters())
        assert (one.features, list(one.axes)) == (settings["features"], list(network.axes))
        assert two.weights == 2 * one.weights
        assert one.weights == pytest.approx(weights, rel=0.02)  # the names in the file count as weights
        asked.append([prediction_mb(config, kind, 1) for kind in (one, two)])
    assert 7000 < asked[0][0] < 10000  # a block of 32 x 256² in 8 features, and CUDA's libraries
    assert asked[1][1] - asked[1][0] == pytest.approx(8 * weights / 1e6, rel=0.02)  # likewise, and whole MB


@pytest.fixture
def project(tmp_path):
    """A sheet of three samples, and the config's file."""
    for name, shapes in {"train": [(96, 110)] * 3, "val": [(300, 290)], "slide": [(700, 600)]}.items():
        write_pairs(tmp_path / name, shapes)
    rows = ["sample\tpath\tlabels\tsplit", *(f"{n}\t{n}/images/*.tif\t{n}/labels/*.tif\t{n}" for n in ("train", "val"))]
    (tmp_path / "samples.tsv").write_text("\n".join([*rows, "slide\tslide/images/00.tif\t\tpredict"]) + "\n")
    small = {"train": {"features": 4, "depth": 2, "steps": 100}, "predict": {"block": 256, "parts": 2}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(small))
    return tmp_path / "config.yaml"


def plan_of(path, **changes):
    config = read_config(path)
    for section, values in changes.items():
        config[section] = {**config[section], **values} if isinstance(values, dict) else values
    samples, problems = load_project(config, path.parent)
    assert not problems
    sizes = {sample.name: Size.of(stored(sample, config["ingest"])) for sample in samples}
    return Plan(config, samples, sizes, make_network(config, path.parent, sizes))


def test_the_network_is_planned_as_it_will_be_trained(tmp_path):
    """Its classes, and the shape of the voxels, which says along which axes it convolves and pools."""
    config = yaml.safe_load(DEFAULTS.read_text()) | {"dimensions": 3}
    config["truth"] |= {"kind": "classes", "classes": [0, 1, 2]}
    config["train"] |= {"depth": 2, "features": 2}
    sizes = {"s": Size([(1, 4, 9, 50, 50)], (4.0, 1.0, 1.0), 0)}
    network = make_network(config, tmp_path, sizes)
    assert network.axes == UNet(depth=2, dimensions=3, features=2, spacing=(4, 1, 1)).axes
    assert network.axes[0] != UNet(depth=2, dimensions=3, features=2).axes[0]
    assert (network.arguments["classes"], network.arguments["channels"]) == (3, 4)


def test_every_job_of_the_workflow_is_in_the_plan(project):
    lines = {(one.sample, one.rule): one for one in plan_of(project).lines(COSTS)}
    call = [sys.executable, "-m", "snakemake", "--snakefile", DEFAULTS.parents[1] / "Snakefile", "--dry-run"]
    call += ["--directory", project.parent, "--configfile", project]
    said = subprocess.run(call, capture_output=True, text=True, check=True)
    counted = re.search(r"\njob +count\n[- ]+\n(.*?)\n\n", said.stdout + said.stderr, flags=re.DOTALL)
    jobs = dict(line.split() for line in counted[1].splitlines())
    jobs["predict"] = int(jobs["predict"]) + int(jobs.pop("predict_part"))
    planned = {rule: sum(one.jobs for (_, r), one in lines.items() if r == rule) for _, rule in lines}
    assert planned == {rule: int(count) for rule, count in jobs.items() if rule not in ("all", "total")}


def test_blocks_and_steps_cost_what_was_measured(project):
    lines = {(one.sample, one.rule): one for one in plan_of(project).lines(COSTS)}
    assert lines["slide", "predict"].work == "10 blocks at most"  # 3 x 3, and one that checks a seam
    views = {(one.sample, one.rule): one for one in plan_of(project, predict={"views": 8}).lines(COSTS)}
    starts = 2 * COSTS.heavy_start + COSTS.start  # two parts, and what publishes them
    assert views["slide", "predict"].seconds - starts == pytest.approx(8 * (lines["slide", "predict"].seconds - starts))
    folds = {(one.sample, one.rule): one for one in plan_of(project, train={"folds": 3}).lines(COSTS)}
    assert folds["all", "train"].jobs == 3
    assert folds["slide", "predict"].seconds - starts == pytest.approx(3 * (lines["slide", "predict"].seconds - starts))
    never = plan_of(project, train={"validations": 0})
    trained = next(one for one in never.lines(COSTS) if one.rule == "train")
    assert trained.seconds == pytest.approx(COSTS.heavy_start + 100 * COSTS.step)


def test_the_blocks_are_those_of_the_job(project, tmp_path):
    made = prepare(tmp_path / "made", [(700, 600)])
    plan = plan_of(project)
    save_network(plan.network, tmp_path / "n.json", {"precision": "float32"})
    write_json(tmp_path / "tissue.json", json.loads(Path(made["tissue"]).read_text()))
    sides = {"sample": "s", "block": 256, "planes": 32, "views": 1}
    job = open_job(made["image"], made["tissue"], [str(tmp_path / "n.json")], **sides)
    every = units(job)
    assert plan._calls(plan.sizes["slide"])[0] == len(every) + len(seams(job, every))


def test_the_command_prints_it_and_its_sum(project, capsys):
    main(["plan", str(project), "--threads", "1"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["sample", "rule", "jobs", "work", "memory", "disk", "time"]
    assert rows[-1][:2] == ["all", "sum"]
    assert int(rows[-1][2]) == sum(int(row[2]) for row in rows[1:-1])


def test_a_wrong_sheet_is_said_before_anything_is_timed(project):
    project.write_text(yaml.safe_dump({"trian": {}}))
    with pytest.raises(SystemExit, match="unknown key trian; did you mean train"):
        main(["plan", str(project)])


def test_a_table_has_a_line_for_each():
    text = table([Line("a", "ingest", 1, "1 MB", None, 2e6, 61), Line("b", "predict", 2, "3 blocks", 5e8, 3e6, 3600)])
    assert [line.split()[-1] for line in text.splitlines()] == ["time", "0:01:01", "1:00:00", "1:01:01"]
    assert "0.50 GB" in text


def test_tiles_are_those_that_training_takes():
    settings = {"dimensions": 2, "tile": "auto", "batch": "auto"}
    assert wanted_tiles(settings, 2000) == (388, 1)
    assert wanted_tiles(settings, 97) == (97, 16)
    assert wanted_tiles({**settings, "tile": 60, "batch": 3}, 97) == (60, 3)


def test_the_plan_counts_the_pixels_that_are_stored(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((400, 600), np.uint8))
    (tmp_path / "samples.tsv").write_text("sample\tpath\tlabels\tsplit\ns\ta.npy\ta.npy\ttrain\n")
    (tmp_path / "config.yaml").write_text("samples: samples.tsv\n")
    config = read_config(tmp_path / "config.yaml")
    (sample,), _ = load_project(config, tmp_path)
    assert Size.of(stored(sample, config["ingest"])).pixels == 400 * 600
    resampled = config["ingest"] | {"pixel_size": 0.25, "resample": 0.5}
    assert Size.of(stored(sample, resampled)).pixels == 200 * 300
