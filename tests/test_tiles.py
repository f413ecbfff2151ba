"""What a step sees: with augmentation off exactly what lies in the stores, ignored pixels without weight."""

import numpy as np
import pytest
import torch
import zarr
from scenes import prepare

from unetpipe.augment import Augmentation
from unetpipe.geometry import tile_sides
from unetpipe.network import UNet
from unetpipe.tiles import Drawing, batches, choose, draw_batch, list_series, load, tile_seed

OFF = Augmentation(elastic=0, rotate=0, flip=0, scale=0, blur=0, gain=0, offset=0, gamma=0, stain=0, noise=0)


def drawing(sides, margins, **changes):
    plain = {"batch": 2, "anywhere": 1.0, "seed": 3, "augmentation": OFF, "device": torch.device("cpu")}
    return Drawing(sides, margins, class_weights=torch.tensor([0.5, 2.0]), **{**plain, **changes})


@pytest.fixture(scope="module", params=[2, 3])
def made(request, tmp_path_factory):
    """One sample of a plane or of a volume, its stores, and how its tiles are drawn."""
    dimensions, folder = request.param, tmp_path_factory.mktemp("tiles")
    shape = [(70, 90)] if dimensions == 2 else [(14, 40, 50)]
    paths = prepare(folder, shape, spacing=(2.0, 0.5, 0.5) if dimensions == 3 else None, dimensions=dimensions)
    border = zarr.open_array(folder / "weights" / "s.zarr" / "0" / "target", mode="r+")
    ignored = border[...]
    ignored[..., :20] = 255
    border[...] = ignored
    (entry,) = list_series([paths["image"]], [paths["tissue"]], [paths["weights"]])
    sides = ((1, 30, 26), (0, 5, 4)) if dimensions == 2 else ((6, 20, 16), (1, 5, 4))
    return load([entry], dimensions, torch.device("cpu")), sides, folder, entry


def test_switched_off_a_tile_is_a_piece_of_the_mirrored_stores(made):
    material, (sides, margins), folder, entry = made
    names = {"image": "images/s.ome.zarr/0/0", "target": "weights/s.zarr/0/target", "border": "weights/s.zarr/0/border"}
    stored = {name: zarr.open_array(folder / path, mode="r")[0].squeeze() for name, path in names.items()}
    low, high = (entry["tissue"][name][0] for name in ("low", "high"))
    unit = (stored["image"].astype(np.float32) - np.float32(low)) / np.float32(high - low)
    flat = sides[0] == 1
    pads = [(side, side) for side in sides[1 if flat else 0 :]]
    whole = {name: np.pad(values, pads, mode="reflect") for name, values in (stored | {"image": unit}).items()}
    image, target, weight = draw_batch(material, drawing(sides, margins, batch=8), 5)
    inner = tuple(slice(m, -m or None) for m in margins[1 if flat else 0 :])
    for tile in range(8):
        found = image[tile, 0].numpy()
        corner = find(whole["image"], found)
        window = tuple(slice(c, c + s) for c, s in zip(corner, found.shape, strict=True))
        np.testing.assert_array_equal(target[tile], whole["target"][window][inner])
        known = whole["target"][window][inner] != 255
        classes = np.array([0.5, 2.0])[np.where(known, whole["target"][window][inner], 0)]
        expected = np.where(known, classes + whole["border"][window][inner] * np.float32(10 / 255), 0)
        np.testing.assert_allclose(weight[tile], expected, rtol=1e-6)  # float32
    assert (target == 255).any()
    assert not weight[target == 255].any()


def find(whole, part):
    """Where a piece lies in an array: the one corner from which it is equal, bit for bit."""
    windows = np.lib.stride_tricks.sliding_window_view(whole, part.shape)
    (corner, *_) = np.argwhere((windows == part).all(axis=tuple(range(part.ndim, 2 * part.ndim))))
    return corner


def test_a_batch_is_a_function_of_seed_and_step(made):
    material, (sides, margins), *_ = made
    full = drawing(sides, margins, augmentation=Augmentation())
    first, again = (draw_batch(material, full, 7) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (draw_batch(material, full, 8), draw_batch(material, full._replace(seed=4), 7)):
        assert not torch.equal(first[0], other[0])


def test_tiles_read_from_the_stores_are_those_of_memory(made):
    material, (sides, margins), _, entry = made
    stored = load([entry], 3 if sides[0] > 1 else 2, torch.device("cpu"), limit=0)
    assert [type(space).__name__ for space in (*material.spaces, *stored.spaces)] == ["Held", "Stored"]
    full = drawing(sides, margins, augmentation=Augmentation())
    for step in range(30):
        (image, target, weight), others = draw_batch(material, full, step), draw_batch(stored, full, step)
        torch.testing.assert_close(others[0], image, rtol=0, atol=2e-4)  # float32 coordinates
        assert (others[1] != target).float().mean() < 5e-3  # at halves
        assert (others[2] - weight).abs().mean() < 5e-3


@pytest.mark.parametrize("ahead", [1, 4])
def test_threads_that_draw_ahead_draw_the_same(made, ahead):
    material, (sides, margins), *_ = made
    full = drawing(sides, margins, augmentation=Augmentation())
    found = list(batches(material, full, range(5, 14), ahead=ahead))
    assert len(found) == 9
    for step, batch in zip(range(5, 14), found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, draw_batch(material, full, step), strict=True))


def test_no_two_steps_of_any_two_runs_share_a_seed():
    numbers = {tile_seed(seed, step) for seed in range(50) for step in range(0, 100_000, 97)}
    assert len(numbers) == 50 * len(range(0, 100_000, 97))
    assert max(numbers) < 2**32


def test_larger_images_are_drawn_more_often(tmp_path):
    paths = prepare(tmp_path, [(40, 40), (40, 120)])
    entries = list_series([paths["image"]], [paths["tissue"]], [paths["weights"]])
    material = load(entries, 2, torch.device("cpu"))
    drawn = [choose(material, drawing((1, 8, 8), (0, 2, 2), batch=1), step)[0].space for step in range(800)]
    assert np.mean(drawn) == pytest.approx(0.75, abs=0.06)  # 4 standard errors


def test_a_volume_of_one_plane_is_a_volume(tmp_path):
    """Where nothing is convolved along z the output of a step may be one plane deep."""
    made = prepare(tmp_path, [(5, 60, 60)], spacing=(4.0, 1.0, 1.0), dimensions=3)
    network = UNet(dimensions=3, depth=1, features=2, spacing=(4.0, 1.0, 1.0))
    sides, margins = tile_sides(network.axes, 20, 1)
    material = load(list_series([made["image"]], [made["tissue"]], [made["weights"]]), 3, torch.device("cpu"))
    image, target, _ = draw_batch(material, drawing(sides, margins, volumes=True), 0)
    assert sides[0] == 1
    assert (
        network(image).shape[2:]
        == target.shape[1:]
        == (1, *(side - 2 * lost for side, lost in zip(sides[1:], margins[1:], strict=True)))
    )
