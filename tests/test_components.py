"""Defining equality: components found block by block are those of the whole image at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import generate_binary_structure
from skimage.measure import label, regionprops_table

from unetpipe.components import Components, space_structure


def components(mask, block, connectivity, **others):
    structure = generate_binary_structure(mask.ndim, connectivity)
    return Components(mask.__getitem__, mask.shape, block, structure, **others)


def blockwise(mask, block, connectivity, **others):
    parts = components(mask, block, connectivity, **others)
    ids = parts.canonical_ids(np.ones(len(parts.sizes), dtype=bool))
    return parts.paint(tuple(slice(0, size) for size in mask.shape), ids)


@given(
    shape=st.one_of(st.tuples(*[st.integers(1, 24)] * 2), st.tuples(*[st.integers(1, 9)] * 3)),
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
    assert label(mask, connectivity=1).max() == blockwise(mask, (7, 5), 1, workers=workers).max()


@given(seed=st.integers(0, 10**6), rim=st.integers(0, 4), window=st.tuples(*[st.integers(0, 30)] * 4))
def test_rims_show_what_labelling_again_shows(seed, rim, window):
    mask = np.random.default_rng(seed).random((30, 31)) < 0.5
    region = tuple(slice(min(pair), max(pair) + 1) for pair in (window[:2], window[2:]))
    parts = components(mask, (10, 8), 1, rim=rim)
    ids = parts.canonical_ids(np.ones(len(parts.sizes), dtype=bool))
    clipped = tuple(slice(part.start, min(part.stop, size)) for part, size in zip(region, mask.shape, strict=True))
    np.testing.assert_array_equal(parts.paint(clipped, ids), label(mask, connectivity=1)[clipped])


def test_what_lies_in_a_rim_is_not_labelled_again():
    mask = np.random.default_rng(1).random((30, 32)) < 0.5
    parts = components(mask, (10, 8), 1, rim=3)
    values, read = np.arange(1, len(parts.sizes) + 1), []
    parts.foreground = lambda region: read.append(region) or mask[region]
    parts.paint((slice(7, 23), slice(5, 19)), values)
    assert read == [(slice(10, 20), slice(8, 16))]


@given(density=st.floats(0.1, 0.9), seed=st.integers(0, 10**6))
def test_boxes_and_sizes_are_those_of_the_whole(density, seed):
    mask = np.random.default_rng(seed).random((3, 17, 18)) < density
    parts = components(mask, (2, 7, 5), 3, boxes=True)
    order = np.argsort(parts.first)
    expected = regionprops_table(label(mask, connectivity=3), properties=("area", "bbox"))
    np.testing.assert_array_equal(parts.sizes[order], expected["area"])
    found = np.concatenate([parts.low[order], parts.high[order]], axis=1)
    np.testing.assert_array_equal(found, np.stack([expected[f"bbox-{k}"] for k in range(6)], axis=1))


def test_ids_beyond_32_bits_have_64(monkeypatch):
    monkeypatch.setattr("unetpipe.components.MOST_IDS", 3)
    mask = np.eye(4, dtype=bool)
    assert blockwise(mask[:3], (2, 2), 1).dtype == np.uint32
    found = blockwise(mask, (2, 2), 1)
    assert (found.dtype, found.diagonal().tolist()) == (np.uint64, [1, 2, 3, 4])


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
