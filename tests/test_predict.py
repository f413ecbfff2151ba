"""Defining equality: blocks, whatever their size and number of jobs, give what one pass over the whole image gives."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import prepare

from unetpipe.geometry import blocks as cut
from unetpipe.ingest import ingest
from unetpipe.manifest import read_json, write_json
from unetpipe.mask import write_mask
from unetpipe.network import UNet
from unetpipe.overlap_tile import read_mirrored
from unetpipe.predict.part import predict_part
from unetpipe.predict.publish import publish_probabilities
from unetpipe.predictor import Predictor
from unetpipe.saved import load_network, save_network
from unetpipe.store import open_array, read_attributes
from unetpipe.train import train

CPU = {"device": torch.device("cpu"), "precision": torch.float32}


def whole_number_network(depth, seed, **arguments):
    """Weights from −1, 0, 1: sums of small integers are exact in float32, whatever their order."""
    torch.manual_seed(seed)
    network = UNet(features=2, depth=depth, dropout=0.0, **arguments).eval()
    for parameter in network.parameters():
        parameter.data = torch.randint(-1, 2, parameter.shape).float()
    return network


def logits(network, image, window, minimum):
    """Logits of a window, from a window of valid sides around it that is mirrored outside the image."""
    read = tuple(
        slice(part.start - axis.halo, part.start - axis.halo + axis.input(size))
        for part, axis, size in zip(window, network.axes, minimum, strict=True)
    )
    with torch.inference_mode():
        return network(torch.from_numpy(read_mirrored(image, (slice(None),), read)[None]))[0].numpy()


spacings = st.sampled_from([(1, 1), (1, 1, 1), (3, 1, 1)])


@settings(max_examples=40)
@given(
    depth=st.integers(1, 3),
    spacing=spacings,
    downsample=st.sampled_from(["pool", "stride"]),
    blocks=st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
def test_tiles_equal_the_whole_exactly(depth, spacing, downsample, blocks, seed):
    kind = {"dimensions": len(spacing), "spacing": spacing, "downsample": downsample}
    network = whole_number_network(min(depth, 4 - len(spacing) + 1), seed, **kind)
    random = np.random.default_rng(seed)
    shape = random.integers(1, 50 if len(spacing) == 2 else 20, len(spacing))
    image = random.integers(-1, 2, (1, *shape)).astype(np.float32)
    whole = logits(network, image, [slice(0, size) for size in shape], shape)
    sides = [blocks * axis.stride for axis in network.axes]
    for block in cut(shape, sides):
        tile = logits(network, image, block.write, sides)
        inside = tuple(slice(0, part.stop - part.start) for part in block.write)
        np.testing.assert_array_equal(tile[(slice(None), *inside)], whole[(slice(None), *block.write)])


def test_a_wrong_phase_shows():
    network = whole_number_network(2, 1)
    image = np.random.default_rng(1).integers(-1, 2, (1, 40, 40)).astype(np.float32)
    whole = logits(network, image, [slice(0, 40)] * 2, (40, 40))
    tile = logits(network, image, [slice(2, 10)] * 2, (8, 8))  # not a multiple of the stride
    assert (tile[:, :8, :8] != whole[:, 2:10, 2:10]).any()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sample of two series, one larger than a block, and a network that was never trained."""
    folder = tmp_path_factory.mktemp("predict")
    made = prepare(folder, [(150, 203), (40, 37)])
    torch.manual_seed(3)
    network = UNet(features=4, depth=2, dropout=0.0)
    made["network"] = str(folder / "network.json")
    save_network(network, made["network"], {"precision": "float32"})
    return made


def predict(made, folder, *, block=64, parts=1, views=1, **changes):
    networks = changes.get("networks", [made["network"]])
    paths = [made["image"], made["tissue"], networks]
    store = str(folder / "p.zarr" / "zarr.json")
    for part in changes.get("only", range(parts)):
        predict_part(
            *paths,
            str(folder / f"{part}.json"),
            store=store,
            sample="s",
            part=part,
            parts=parts,
            block=block,
            views=views,
        )
    publish_probabilities(*paths, store, sample="s", block=block, views=views)
    return Path(store).parent


def arrays(store):
    return [zarr.open_array(store / str(series), mode="r")[...] for series in (0, 1)]


@pytest.mark.parametrize("views", [1, 8])
def test_stored_blocks_have_no_seam(made, tmp_path, views):
    small = arrays(predict(made, tmp_path / "a", block=64, views=views))
    large = arrays(predict(made, tmp_path / "b", block=256, views=views))
    for a, b in zip(small, large, strict=True):
        difference = np.abs(a.astype(int) - b)
        assert difference.max() <= 1
        assert (difference > 0).mean() <= 1e-3  # kernels round by tile shape


def test_an_image_equals_the_network_called_directly(made, tmp_path):
    network, _ = load_network(made["network"])
    entry = read_json(made["tissue"])["series"][0]
    image = zarr.open_array(Path(made["image"]).parent / "0" / "0", mode="r")[0, 0, 0].astype(np.float32)
    unit = (image - entry["low"][0]) / (entry["high"][0] - entry["low"][0])
    axes = zip(network.axes, unit.shape, strict=True)
    padded = np.pad(unit, [(a.halo, a.input(size) - size - a.halo) for a, size in axes], mode="reflect")
    with torch.inference_mode():
        expected = torch.softmax(network(2 * torch.from_numpy(padded)[None, None] - 1), dim=1)[0, 1].numpy()
    found = arrays(predict(made, tmp_path))[0][0, 0, 0]
    assert np.abs(found - 255 * expected[: unit.shape[0], : unit.shape[1]]).max() <= 0.51  # half a step of uint8


def test_parts_equal_one_job(made, tmp_path):
    one = predict(made, tmp_path / "a")
    three = predict(made, tmp_path / "b", parts=3)
    for a, b in zip(arrays(one), arrays(three), strict=True):
        np.testing.assert_array_equal(a, b)
    assert read_attributes(one / "zarr.json") == read_attributes(three / "zarr.json")


def test_a_volume_is_learnt_and_predicted_without_seams(tmp_path):
    made = prepare(tmp_path, [(21, 90, 75)], spacing=(2.0, 0.5, 0.5), dimensions=3)
    made["network"] = str(tmp_path / "network.json")
    settings = {"depth": 2, "features": 3, "tile": 12, "planes": 3, "steps": 3, "precision": "float32"}
    train([made["image"]], [made["tissue"]], [made["weights"]], made["network"], dimensions=3, **settings)
    axes = read_json(made["network"])["axes"]
    assert [stride for stride, *_ in axes] == [1, 4, 4]  # slices are four times as far apart as pixels
    paths, found = [made["image"], made["tissue"], [made["network"]]], []
    for planes, block in ((4, 32), (32, 128)):
        store = str(tmp_path / f"{planes}.zarr" / "zarr.json")
        sides = {"planes": planes, "block": block}
        predict_part(*paths, str(tmp_path / "part.json"), store=store, sample="s", **sides)
        publish_probabilities(*paths, store, sample="s", **sides)
        found.append(zarr.open_array(Path(store).parent / "0", mode="r")[...].astype(int))
    assert found[0].shape == (1, 1, 21, 90, 75)
    assert np.abs(found[0] - found[1]).max() <= 1
    assert (found[0] != found[1]).mean() <= 1e-3  # kernels round by tile shape
    assert found[0].std() > 0


def test_a_missing_part_is_never_background(made, tmp_path):
    with pytest.raises(RuntimeError, match="blocks are not accounted for"):
        predict(made, tmp_path, parts=2, only=[0])


def test_a_deleted_shard_is_never_background(made, tmp_path):
    store = predict(made, tmp_path)
    next(path for path in (store / "0" / "c").rglob("*") if path.is_file()).unlink()
    with pytest.raises(RuntimeError, match=r"1 blocks are not accounted for \(0 t 0, z 0, y \d+, x \d+\)"):
        predict(made, tmp_path, only=[])


def test_a_block_that_the_ledger_lost_is_never_background(made, tmp_path):
    store = predict(made, tmp_path)
    path = store / ".ledger" / "predict" / "0.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if "y 64, x 128" not in line) + "\n")
    paths = [made["image"], made["tissue"], [made["network"]], str(store / "zarr.json")]
    with pytest.raises(RuntimeError, match=r"\(0 t 0, z 0, y 64, x 128\); delete results/s.parts and run again"):
        publish_probabilities(*paths, sample="s", block=64, parts=["results/s.parts/0.json"])


def test_a_second_run_calls_no_network(made, tmp_path, monkeypatch):
    store = predict(made, tmp_path)
    before = read_attributes(store / "zarr.json")
    monkeypatch.setattr(Predictor, "__call__", None)
    (store / "zarr.json").unlink()
    assert read_attributes(predict(made, tmp_path) / "zarr.json") == before


def test_another_network_reuses_nothing(made, tmp_path):
    before = arrays(predict(made, tmp_path))
    torch.manual_seed(4)
    save_network(UNet(features=4, depth=2, dropout=0.0), tmp_path / "other.json", {"precision": "float32"})
    after = arrays(predict(made, tmp_path, networks=[str(tmp_path / "other.json")]))
    assert (before[0] != after[0]).mean() > 0.5


def test_another_block_size_leaves_no_strays(made, tmp_path):
    predict(made, tmp_path, block=64)
    store = predict(made, tmp_path, block=128)
    fresh = predict(made, tmp_path / "fresh", block=128)
    trees = [{p.relative_to(s) for p in s.rglob("c/**/*") if p.is_file()} for s in (store, fresh)]
    assert trees[0] == trees[1]


def test_other_chunks_leave_nothing_stale(tmp_path, made):
    own = prepare(tmp_path, [(70, 80)]) | {"network": made["network"]}
    expected = open_array(predict(own, tmp_path / "fresh") / "0")[...]
    with pytest.raises(RuntimeError, match="blocks are not accounted for"):
        predict(own, tmp_path, parts=2, only=[0])
    images = [str(tmp_path / "data" / "images" / "00.tif")]
    ingest(images, own["image"], sample="s", chunk=16, shard=64)
    write_mask(own["image"], own["tissue"], sample="s", contrast=0)
    np.testing.assert_array_equal(open_array(predict(own, tmp_path) / "0")[...], expected)


def test_wrong_channels_are_refused(made, tmp_path):
    save_network(UNet(channels=3, features=2, depth=2), tmp_path / "n.json", {"precision": "float32"})
    with pytest.raises(ValueError, match=r'sample "s": image .* has 1 channels, network .* was trained on 3'):
        predict(made, tmp_path, networks=[str(tmp_path / "n.json")])


def test_blocks_without_tissue_are_skipped_and_counted(made, tmp_path):
    copy = tmp_path / "images" / "s.ome.zarr"
    shutil.copytree(Path(made["image"]).parent, copy)
    note = read_json(made["tissue"])
    tissue = zarr.open_array(copy / "0" / "labels" / "tissue" / str(note["series"][0]["level"]))
    tissue[...] = 0
    note["series"][0]["fraction"] = 0.0
    write_json(tmp_path / "tissue.json", note)
    changed = {**made, "image": str(copy / "zarr.json"), "tissue": str(tmp_path / "tissue.json")}
    store = predict(changed, tmp_path)
    assert read_attributes(store / "zarr.json")["blocks"] == {"computed": 1, "no tissue": 12}
    assert not arrays(store)[0].any()


def test_compiling_follows_from_the_number_of_calls_and_changes_no_more_than_rounding(made, tmp_path, monkeypatch):
    eager, calls = arrays(predict(made, tmp_path / "eager")), []
    original = Predictor._compile
    monkeypatch.setattr(Predictor, "_compile", lambda *given: calls.append(1) or original(*given))
    half = (150 * 203 + 40 * 37) / 2  # the sample has 12 blocks of one shape and 1 of another
    monkeypatch.setattr("unetpipe.predict.job.WORTH", half)
    compiled = arrays(predict(made, tmp_path / "compiled", parts=2))
    for a, b in zip(eager, compiled, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1  # kernels round in another order
    assert len(calls) == 2  # once a part, though each has half of the work
    monkeypatch.setattr("unetpipe.predict.job.WORTH", half + 1)
    predict(made, tmp_path / "few")
    assert len(calls) == 2


def test_without_a_compiler_prediction_says_so_and_goes_on(made, tmp_path, monkeypatch, caplog):
    def broken(*_, **__):
        def call(_):
            raise RuntimeError("no C++ compiler")

        return call

    eager = arrays(predict(made, tmp_path / "eager"))
    monkeypatch.setattr("unetpipe.predict.job.WORTH", 1)
    monkeypatch.setattr(torch, "compile", broken)
    for a, b in zip(eager, arrays(predict(made, tmp_path / "broken")), strict=True):
        np.testing.assert_array_equal(a, b)
    assert "torch.compile does not work here, prediction is slower without: no C++ compiler" in caplog.text


def test_out_of_memory_names_what_to_set(made, tmp_path, monkeypatch):
    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Predictor, "_view", exhausted)
    with pytest.raises(
        RuntimeError, match=r"reads \d+ x \d+ pixels does not fit into the memory of cpu; set predict.block to 32 "
    ):
        predict(made, tmp_path)
