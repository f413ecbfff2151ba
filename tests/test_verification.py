"""What is lost is told for each sample, with what to delete; a network from elsewhere is found by the config."""

import shutil

import numpy as np
import pytest
from scenes import prepare

from unetpipe import verification
from unetpipe.label import Objects, write_objects
from unetpipe.measure import write_measurements
from unetpipe.network import UNet
from unetpipe.predict.part import predict_part
from unetpipe.predict.publish import publish_probabilities
from unetpipe.report import write_report
from unetpipe.saved import save_network
from unetpipe.verification import verify


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project of one sample that a given network has predicted, with objects almost everywhere."""
    folder = tmp_path_factory.mktemp("project")
    results, network = folder / "results", str(folder / "given" / "network.json")
    made = prepare(results, [(200, 150)])
    note = {"precision": "float32", "curve": [[1, 0.5, 0.1]]}
    save_network(UNet(features=2, depth=1, dropout=0.0), network, note)
    (folder / "config.yaml").write_text("samples: samples.tsv\nnetwork: given/network.json\n")
    store = str(results / "probabilities/s.zarr/zarr.json")
    part = str(results / "probabilities/s.parts/0.json")
    inputs = made["image"], made["tissue"], [network]
    predict_part(*inputs, part, store=store, sample="s", block=64)
    publish_probabilities(*inputs, store, sample="s", block=64)
    objects = {end: str(results / f"objects/s.{end}") for end in ("json", "parquet", "geojson.gz")}
    write_objects(made["image"], store, objects["json"], sample="s", threshold=0.0, min_size=1)
    write_measurements(made["image"], store, *objects.values(), sample="s")
    return folder


@pytest.fixture
def project(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "p")
    return tmp_path / "p"


def said(project, **options):
    return [str(problem) for problem in verify(project / "results", device="cpu", **options)]


def test_the_network_that_the_config_names_is_found(finished, tmp_path):
    assert said(finished) == []
    write_report(tmp_path / "page.html", results=finished / "results")
    assert "There is no network yet" not in (tmp_path / "page.html").read_text()


def test_a_mistyped_network_is_told_at_once(finished):
    with pytest.raises(FileNotFoundError, match=r"network .*nope\.json does not exist; mend the path"):
        said(finished, networks=[finished / "nope.json"])


def test_a_damaged_network_of_the_config_is_no_reason_to_delete(project):
    (project / "given" / "network.json").write_text('{"arguments": ')
    with pytest.raises(ValueError, match=r"network\.json is no network, or is damaged"):
        said(project)


def test_a_network_that_is_not_at_hand_is_no_reason_to_delete(project):
    (project / "config.yaml").unlink()
    (told,) = said(project)
    assert told.endswith("was made by a network that is not at hand: name its network.json with --network")
    assert said(project, networks=[project / "given/network.json"]) == []


@pytest.mark.parametrize("lost", ["images/s.ome.zarr", "tissue/s.json", "probabilities/s.zarr"])
def test_what_is_missing_is_told_and_the_rest_is_looked_at(project, lost):
    path = project / "results" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    (project / "results/objects/s.parquet").write_bytes(b"half")
    first, second = said(project)
    assert first.endswith("is missing; run again")
    assert str(path) in first
    assert second.endswith("delete objects/s.parquet and run again")


def test_lost_labels_are_one_thing_to_delete(project):
    folder = project / "results/images/s.ome.zarr/0/labels/objects"
    shards = [path for path in folder.rglob("*") if path.is_file() and "c" in path.relative_to(folder).parts]
    levels = len([*folder.glob("[0-9]*")])
    shutil.rmtree(folder)
    (told,) = said(project)
    assert told.count(" is missing") == 3
    assert told.endswith(f", and {len(shards) + levels - 3} files more; delete objects/s.json and run again")


def test_an_array_that_says_nothing_ends_nothing(project):
    """Its metadata are in no ledger."""
    (project / "results/images/s.ome.zarr/0/labels/objects/0/zarr.json").write_text("{")
    (told,) = said(project)
    assert "zarr.json is not whole JSON" in told
    assert told.endswith("delete objects/s.json and run again")


def test_threads_find_objects_again(finished, monkeypatch):
    used = []

    class Noted(Objects):
        def __init__(self, *arguments):
            used.append(arguments[3])
            super().__init__(*arguments)

    monkeypatch.setattr(verification, "Objects", Noted)
    assert said(finished, workers=3) == []
    assert np.unique(used) == [3]
