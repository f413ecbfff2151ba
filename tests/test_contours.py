"""Outlines are simple polygons that hold the pixels and no others, whatever blocks their corners are found in."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.draw import polygon2mask
from skimage.measure import label

from unetpipe.contours import corners, corners_of_part, polygons, signed_area

seeds = st.integers(0, 10**6)


def rings(mask):
    return [ring for polygon in polygons(corners(mask)) for ring in polygon]


def crossings(ring):
    """Corners and edges of a polygon that occur twice."""
    steps = [np.linspace(a, b, int(np.abs(b - a).sum()) + 1)[:-1] for a, b in pairwise(ring)]
    points = np.concatenate(steps)
    return len(points) - len(np.unique(points, axis=0))


@given(seed=seeds, density=st.floats(0.05, 0.95), connected=st.booleans())
def test_outlines_hold_the_pixels_and_no_others(seed, density, connected):
    mask = np.random.default_rng(seed).random((9, 11)) < density
    if connected:
        mask = label(mask, connectivity=1) == 1
    found = rings(mask)
    assert sum(signed_area(ring) for ring in found) == mask.sum()
    assert [crossings(ring) for ring in found] == [0] * len(found)
    painted = np.zeros(mask.shape, int)
    for ring in found:
        painted += np.sign(signed_area(ring)).astype(int) * polygon2mask(mask.shape, ring[:, ::-1] - 0.5)
    np.testing.assert_array_equal(painted, mask)
    parts, holes = label(mask, connectivity=1, return_num=True)[1], sum(signed_area(ring) < 0 for ring in found)
    if connected and mask.any():
        background = label(np.pad(~mask, 1, constant_values=True), connectivity=1, return_num=True)[1]
        assert (parts, holes) == (1, background - 1)


@pytest.mark.parametrize(("rows", "expected"), [(["1"], 5), (["11", "11"], 5), (["11", "10"], 7)])
def test_outlines_have_corners_only_where_they_turn(rows, expected):
    mask = np.array([[int(letter) for letter in row] for row in rows], bool)
    assert [len(ring) for ring in rings(mask)] == [expected]


def test_pixels_that_meet_at_a_corner_are_two_polygons():
    found = polygons(corners(np.eye(2, dtype=bool)))
    assert [signed_area(ring) for (ring,) in found] == [1, 1]


def test_nothing_has_no_outline():
    assert rings(np.zeros((3, 3), bool)) == []


@given(seed=seeds, density=st.floats(0.05, 0.95), zoom=st.integers(1, 2))
def test_each_polygon_is_a_component_with_its_holes(seed, density, zoom):
    """In another component's hole, and where components meet at corners, too."""
    mask = np.random.default_rng(seed).random((9, 11)) < density
    mask = np.kron(mask, np.ones((zoom, zoom), bool))
    parts, count = ndimage.label(mask)
    found = polygons(corners(mask))
    assert len(found) == count
    for outer, *holes in found:
        painted = polygon2mask(mask.shape, outer[:, ::-1] - 0.5).astype(int)
        for hole in holes:
            assert signed_area(hole) < 0
            painted -= polygon2mask(mask.shape, hole[:, ::-1] - 0.5)
        top, left = np.argwhere(painted)[0]
        np.testing.assert_array_equal(painted, parts == parts[top, left])


@given(seed=seeds, density=st.floats(0.05, 0.95), side=st.integers(1, 8), top=st.integers(0, 50))
def test_corners_found_in_blocks_are_those_of_the_whole(seed, density, side, top):
    mask = np.pad(np.random.default_rng(seed).random((9, 11)) < density, 1)
    found = [
        corners_of_part(mask[y : y + side + 1, x : x + side + 1], top + y, 7 + x)
        for y in range(0, 10, side)
        for x in range(0, 12, side)
    ]
    together = np.concatenate(found)
    expected = corners(mask[1:-1, 1:-1], top, 7)
    assert expected.tolist() == sorted(expected.tolist(), key=lambda turn: (turn[0], turn[1], turn[2] & 1))
    np.testing.assert_array_equal(sorted(together.tolist()), sorted(expected.tolist()))
