"""Tiles find objects, borders and rare classes in the shares that were asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import prepare

from unetpipe.cells import NEAR, cell_side, count_kinds
from unetpipe.places import Places
from unetpipe.store import open_array

CELL = 8


def places(targets, nears=None, classes=3):
    nears = nears or [np.zeros_like(target, bool) for target in targets]
    counts = [count_kinds(*pair, classes, CELL) for pair in zip(targets, nears, strict=True)]
    return Places(counts, [target.shape for target in targets], [CELL] * len(targets))


def draw(found, anywhere, count=600):
    return [found.draw(anywhere, torch.Generator().manual_seed(number)) for number in range(count)]


@given(seed=st.integers(0, 10**6), y=st.integers(1, 40), x=st.integers(1, 40), z=st.integers(1, 3))
def test_the_index_counts_the_pixels_of_every_kind(seed, y, x, z):
    random = np.random.default_rng(seed)
    target, near = random.choice([0, 1, 2, 255], (z, y, x)).astype(np.uint8), random.random((z, y, x)) < 0.2
    counts = count_kinds(target, near, 3, CELL)
    for plane, row, column in np.ndindex(counts.shape[1:]):
        cell = (plane, slice(CELL * row, CELL * (row + 1)), slice(CELL * column, CELL * (column + 1)))
        part = target[cell]
        expected = [(part != 255).sum(), (part == 1).sum(), (part == 2).sum(), near[cell].sum()]
        assert counts[:, plane, row, column].tolist() == expected


def test_a_rare_object_is_found_as_often_as_was_asked_for():
    target = np.zeros((1, 400, 400), np.uint8)
    target[0, 300:304, 100:104] = 1
    drawn = draw(places([target], classes=2), 0.25)
    shown = [296 <= place.at[1] < 304 and 96 <= place.at[2] < 104 for place in drawn]  # its cell
    assert np.mean(shown) == pytest.approx(0.75, abs=0.07)  # 4 standard errors


def test_every_class_and_the_borders_alike():
    target, near = np.zeros((1, 80, 80), np.uint8), np.zeros((1, 80, 80), bool)
    target[0, :40, :40], target[0, 70, 70], near[0, 10, 70] = 1, 2, True
    corners = np.array([place.at[1:] for place in draw(places([target], [near]), 0.0)]) // CELL
    shares = [
        ((corners < 5).all(axis=1)).mean(),
        (corners == 8).all(axis=1).mean(),
        (corners == [1, 8]).all(axis=1).mean(),
    ]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.08)  # 4 standard errors
    assert sum(shares) == 1


def test_anywhere_is_where_somebody_annotated():
    target = np.full((2, 60, 60), 255, np.uint8)
    target[1, 33, 50] = 0
    drawn = draw(places([target, np.full((1, 9, 9), 255, np.uint8)]), 1.0, count=50)
    assert {(place.space, place.at[0]) for place in drawn} == {(0, 1)}
    assert all(32 <= place.at[1] < 40 and 48 <= place.at[2] < 56 for place in drawn)


def test_images_are_drawn_by_their_annotated_pixels():
    large, small = np.zeros((1, 40, 120), np.uint8), np.zeros((1, 40, 40), np.uint8)
    assert np.mean([place.space == 0 for place in draw(places([large, small]), 0.5)]) == pytest.approx(0.75, abs=0.07)


def test_places_lie_inside():
    found = places([np.zeros((3, 13, 9), np.uint8)])
    at = np.array([place.at for place in draw(found, 1.0)])
    assert at.min() == 0
    assert at.max(axis=0).tolist() == [2, 12, 8]


def test_nothing_annotated_is_an_error():
    with pytest.raises(ValueError, match=r"no pixel of the training truths is annotated; set truth\.ignore"):
        places([np.full((1, 9, 9), 255, np.uint8)])


@pytest.mark.parametrize(("chunk", "side"), [(256, 64), (16, 16), (48, 16), (100, 4)])
def test_cells_divide_the_chunk(chunk, side):
    assert cell_side(chunk) == side


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_weights_job_writes_the_index_of_what_it_wrote(tmp_path, dimensions):
    prepare(tmp_path, [(5, 90, 70)], spacing=(1.0, 1.0, 1.0), dimensions=dimensions)
    target, border, index = (
        open_array(tmp_path / "weights" / "s.zarr" / "0" / name) for name in ("target", "border", "index")
    )
    cell = index.attrs["unetpipe"]["cell"]
    np.testing.assert_array_equal(index[0], count_kinds(target[0], border[0] >= NEAR * 255, 2, cell))
    assert index[0, 2].any()
