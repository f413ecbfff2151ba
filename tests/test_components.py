"""Defining equality: components found block by block are those of the whole image at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import generate_binary_structure
from skimage.measure import label

from unetpipe.components import Components, space_structure


def blockwise(mask, block, connectivity, workers=1):
    structure = generate_binary_structure(mask.ndim, connectivity)
    parts = Components(mask.__getitem__, mask.shape, block, structure, workers=workers)
    ids = parts.canonical_ids(np.ones(len(parts.sizes), dtype=bool))
    return parts.paint(tuple(slice(0, size) for size in mask.shape), ids)


@given(
    shape=st.lists(st.integers(1, 24), min_size=2, max_size=3),
    block=st.integers(1, 9),
    density=st.floats(0.1, 0.9),
    seed=st.integers(0, 2**32 - 1),
    full=st.booleans(),
)
def test_blocks_give_the_components_of_the_whole(shape, block, density, seed, full):
    mask = np.random.default_rng(seed).random(shape) < density
    connectivity = len(shape) if full else 1
    found = blockwise(mask, [block] * len(shape), connectivity)
    np.testing.assert_array_equal(found, label(mask, connectivity=connectivity))  # both number in raster order


def spiral(size):
    mask = np.zeros((size, size), dtype=bool)
    for ring in range(0, size // 2, 2):
        mask[ring, ring : size - ring] = mask[size - 1 - ring, ring : size - ring] = True
        mask[ring + 2 : size - ring, ring] = mask[ring : size - ring, size - 1 - ring] = True
        if ring:
            mask[ring, ring - 2 : ring] = True
    return mask


@pytest.mark.parametrize("workers", [1, 4])
def test_a_spiral_across_many_blocks_is_one_object(workers):
    mask = spiral(36)
    assert label(mask, connectivity=1).max() == blockwise(mask, (7, 5), 1, workers).max()


def test_sizes_count_every_pixel_once():
    mask = np.ones((10, 11), dtype=bool)
    structure = generate_binary_structure(2, 1)
    assert Components(mask.__getitem__, mask.shape, (3, 4), structure).sizes.tolist() == [110]


def test_time_points_are_never_connected():
    mask = np.ones((3, 2, 5, 5), dtype=bool)
    parts = Components(mask.__getitem__, mask.shape, (1, 1, 3, 3), space_structure(3))
    assert parts.sizes.tolist() == [50, 50, 50]


def test_an_empty_image_has_no_components():
    mask = np.zeros((5, 6), dtype=bool)
    assert blockwise(mask, (2, 2), 1).max() == 0
