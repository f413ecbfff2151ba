"""What is published stays as it is when a later run is refused, and is mended where it was damaged."""

from pathlib import Path

import pytest
import torch
from scenes import SIDES, prepare, write_pairs

from unetpipe.ingest import ingest
from unetpipe.label import write_objects
from unetpipe.locks import held
from unetpipe.mask import write_mask
from unetpipe.network import UNet
from unetpipe.predict.part import predict_part
from unetpipe.predict.publish import publish_probabilities
from unetpipe.saved import save_network
from unetpipe.truth import write_truth
from unetpipe.weights import write_weights


def tree(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".ledger" not in path.parts}


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"half"), lambda path: path.unlink()])
def test_a_damaged_shard_is_written_again_and_labels_stay(tmp_path, damage):
    made = prepare(tmp_path, [(100, 130)])
    before = tree(tmp_path / "images")
    damage(next(path for path in (tmp_path / "images/s.ome.zarr/0/0/c").rglob("*") if path.is_file()))
    ingest([str(tmp_path / "data/images/00.tif")], made["image"], sample="s", **SIDES)
    assert tree(tmp_path / "images") == before


@pytest.mark.parametrize("lost", [[0], [1], [0, 1, 2]])
def test_a_source_that_is_away_for_a_while_costs_nothing_of_what_is_published(tmp_path, lost):
    made = prepare(tmp_path, [(100, 130), (60, 80), (70, 50)])
    images, before = sorted((tmp_path / "data/images").iterdir()), tree(tmp_path / "images")
    contents = {images[number]: images[number].read_bytes() for number in lost}
    for path in contents:
        path.unlink()
    with pytest.raises(RuntimeError, match=rf'sample "s": {len(lost)} series could not be read'):
        ingest(list(map(str, images)), made["image"], sample="s", **SIDES)
    assert tree(tmp_path / "images") == before
    for path, content in contents.items():
        path.write_bytes(content)
    ingest(list(map(str, images)), made["image"], sample="s", **SIDES)
    assert tree(tmp_path / "images") == before


def test_a_second_run_that_is_refused_hides_nothing(tmp_path):
    made = prepare(tmp_path, [(60, 80)])
    before = tree(tmp_path)
    jobs = {
        "images/s.ome.zarr/.ledger/ingest": lambda: ingest(
            [str(tmp_path / "data/images/00.tif")], made["image"], sample="s", **SIDES
        ),
        "weights/s.zarr/.ledger/weights": lambda: write_weights(
            made["image"], made["truth"], made["weights"], sample="s", dimensions=2
        ),
    }
    for folder, job in jobs.items():
        with held(tmp_path / folder / "all.lock"), pytest.raises(BlockingIOError, match="is being written by process"):
            job()
    assert tree(tmp_path) == before


def test_a_network_that_is_refused_leaves_what_another_has_predicted(tmp_path):
    made = prepare(tmp_path, [(60, 80)])
    for seed in range(2):
        torch.manual_seed(seed)
        save_network(UNet(features=2, depth=1, dropout=0.0), tmp_path / f"{seed}.json", {"precision": "float32"})
    store = str(tmp_path / "p.zarr" / "zarr.json")

    def part(network):
        paths = [made["image"], made["tissue"], [str(tmp_path / f"{network}.json")], str(tmp_path / "part.json")]
        predict_part(*paths, store=store, sample="s", block=64)

    part(0)
    publish_probabilities(made["image"], made["tissue"], [str(tmp_path / "0.json")], store, sample="s", block=64)
    before = tree(tmp_path / "p.zarr")
    (tmp_path / "1.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"1.safetensors is not the file that"):
        part(1)
    assert tree(tmp_path / "p.zarr") == before
    part(0)
    assert tree(tmp_path / "p.zarr") == before


def test_what_a_root_or_manifest_stands_for_is_on_the_disk_before_it(tmp_path, monkeypatch):
    """After a power cut nobody finds a store whose shards are empty."""
    images, labels = write_pairs(tmp_path / "data", [(100, 130), (60, 80)])
    names = ("images", "truth.json", "tissue.json", "weights", "n.json", "part.json", "probabilities", "objects.json")
    image, truth, tissue, weights, network, part, store, objects = (
        str(tmp_path / name / "zarr.json" if "." not in name else tmp_path / name) for name in names
    )
    save_network(UNet(features=2, depth=1, dropout=0.0), network, {"precision": "float32"})
    found = {"sample": "s", "block": 64}
    stages = {
        image: lambda: ingest(images, image, sample="s", **SIDES),
        truth: lambda: write_truth(labels, image, truth, sample="s"),
        tissue: lambda: write_mask(image, tissue, sample="s", contrast=0),
        weights: lambda: write_weights(image, truth, weights, sample="s", dimensions=2),
        part: lambda: predict_part(image, tissue, [network], part, store=store, **found),
        store: lambda: publish_probabilities(image, tissue, [network], store, **found),
        objects: lambda: write_objects(image, store, objects, sample="s"),
    }
    flushed = []
    monkeypatch.setattr(
        "unetpipe.store.flush_folder", lambda folder: flushed.append((Path(folder), tree(Path(folder).parent)))
    )
    for output, write in stages.items():
        write()
        folder, then = flushed.pop()
        now = tree(tmp_path)
        assert set(now) - set(then) == {Path(output)}
        assert all(now[path] == content for path, content in then.items())
        assert folder == Path({part: store, weights: weights, store: store}.get(output, image)).parent
        assert not flushed
