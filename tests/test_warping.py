"""Moving borders costs nothing, a change of topology does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetpipe.warping import AROUND, CROSS, SQUARE, simple_points, warping_error


def topology(mask):
    """Objects, and parts of the background: components of the padded image."""
    padded = np.pad(mask, 1)
    return ndimage.label(padded, CROSS)[1], ndimage.label(~padded, SQUARE)[1]


@given(seed=st.integers(0, 10**6), density=st.floats(0.2, 0.8))
def test_simple_points_change_no_topology_and_the_others_do(seed, density):
    mask = np.random.default_rng(seed).random((5, 5)) < density
    window = [mask[2 + y, 2 + x] for y, x in AROUND]
    simple = simple_points()[sum(int(value) << bit for bit, value in enumerate(window))]
    flipped = mask.copy()
    flipped[2, 2] = ~flipped[2, 2]
    assert (topology(flipped) == topology(mask)) == simple


def reachable(truth):
    """All images that simple flips make of one, as tuples."""
    seen, todo = {truth.tobytes()}, [truth]
    while todo:
        padded = np.pad(todo.pop(), 1)
        for y, x in np.ndindex(truth.shape):
            around = [padded[1 + y + dy, 1 + x + dx] for dy, dx in AROUND]
            if simple_points()[sum(int(value) << bit for bit, value in enumerate(around))]:
                other = padded[1:-1, 1:-1].copy()
                other[y, x] = ~other[y, x]
                if other.tobytes() not in seen:
                    seen.add(other.tobytes())
                    todo.append(other)
    return np.array([np.frombuffer(image, bool) for image in seen])


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_it_is_no_less_than_the_best_warping_and_no_more_than_all_pixels(seed):
    random = np.random.default_rng(seed)
    truth, found = random.random((2, 3, 4)) < 0.6
    best = (reachable(truth) != found.ravel()).mean(axis=1).min()
    own = warping_error(truth, found)
    assert best <= own <= (truth != found).mean()


@given(seed=st.integers(0, 1000), density=st.floats(0.3, 0.7), width=st.sampled_from([40, 130]))
@settings(max_examples=20)
def test_passing_by_what_has_not_changed_changes_nothing(seed, density, width):
    """The definition: whole sweeps in raster order until one flips nothing."""
    random = np.random.default_rng(seed)
    smooth = [ndimage.gaussian_filter(random.random((20, width)), 1.5) for _ in range(2)]
    truth, found = (part > np.quantile(part, density) for part in smooth)
    warped, target, simple, changed = np.pad(truth, 1), np.pad(found, 1), simple_points(), True
    while changed:
        changed = False
        for y, x in np.argwhere(warped != target):
            bits = [warped[y + dy, x + dx] << k for k, (dy, dx) in enumerate(AROUND)]
            if warped[y, x] != target[y, x] and simple[sum(map(int, bits))]:
                warped[y, x], changed = target[y, x], True
    assert warping_error(truth, found) == (warped != target).sum() / truth.size


def test_a_moved_border_costs_nothing():
    truth, found = np.zeros((2, 30, 30), bool)
    truth[5:15, 5:15], found[6:17, 4:14] = True, True
    assert warping_error(truth, found) == 0
    assert (truth != found).mean() > 0.05


@pytest.mark.parametrize("gap", [1, 2])
def test_a_merger_costs_its_bridge(gap):
    truth = np.zeros((20, 30), bool)
    truth[5:15, 3:14], truth[5:15, 14 + gap : 27] = True, True
    found = truth.copy()
    found[9, 10:20] = True
    assert warping_error(truth, found) == pytest.approx(1 / 600)


def test_unknown_pixels_do_not_count():
    truth, known = np.zeros((10, 10), bool), np.ones((10, 10), bool)
    found = truth.copy()
    found[4, 4] = True
    assert warping_error(truth, found) == 0.01
    known[4, 4] = False
    assert warping_error(truth, found, known) == 0
    assert warping_error(truth, found, np.zeros_like(known)) == 0
