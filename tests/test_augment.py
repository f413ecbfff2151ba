"""Augmentation draws what it says, and changes nothing when switched off."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from unetpipe.augment import Augmentation, recolour, sampling_field

OFF = Augmentation(elastic=0, rotate=0, flip=0, scale=0, blur=0, gain=0, offset=0, gamma=0, stain=0, noise=0)
SQUARE = (1.0, 1.0, 1.0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def places(*arguments):
    return sampling_field(*arguments).coordinates()


@given(sides=st.tuples(st.sampled_from([1, 4, 5]), st.integers(2, 9), st.integers(2, 9)), seed=st.integers(0, 99))
def test_switched_off_it_reads_whole_pixels(sides, seed):
    at = (0 if sides[0] == 1 else 7, 12, 15)
    field = places(at, sides, (3.0, 1.0, 1.7), OFF, generator(seed))
    corner = [a - (side - 1) // 2 for a, side in zip(at, sides, strict=True)]
    steps = [torch.arange(start, start + side) for start, side in zip(corner, sides, strict=True)]
    assert torch.equal(field, torch.stack(torch.meshgrid(*steps, indexing="ij"), dim=-1).float())


def test_switched_off_it_leaves_grey_values():
    tile = torch.rand(2, 1, 8, 9)
    assert torch.equal(recolour(tile, OFF, generator(), generator()), tile)


@pytest.mark.parametrize("sides", [(1, 41, 41), (21, 41, 41)])
def test_displacements_have_the_stated_deviation_at_the_grid_points(sides):
    moving, spacing = OFF._replace(elastic=10.0, grid=3), (4.0, 1.0, 1.0)
    still = places((0, 20, 20), sides, spacing, OFF, generator())
    moved = [places((0, 20, 20), sides, spacing, moving, generator(seed)) - still for seed in range(300)]
    points = torch.stack([field[:: max(1, sides[0] // 2), ::20, ::20] for field in moved])  # the grid points
    assert points.shape[1:4] == ((3 if sides[0] > 1 else 1), 3, 3)
    for axis, length in enumerate(spacing):
        expected = 0 if axis == 0 and sides[0] == 1 else 10 / length
        found = points[..., axis]
        assert found.std().item() == pytest.approx(expected, rel=4 / np.sqrt(2 * found.numel()))  # 4 standard errors
        assert abs(found.mean().item()) <= 4 * expected / np.sqrt(found.numel())


def test_displacements_are_cubic_in_between():
    moving = OFF._replace(elastic=10.0)
    field = places((0, 2, 4), (1, 5, 9), SQUARE, moving, generator(1)) - places(
        (0, 2, 4), (1, 5, 9), SQUARE, OFF, generator()
    )
    points = field[0, ::2, ::4]  # 3 × 3
    middle = (-points[0] + 9 * points[0] + 9 * points[1] - points[2]) / 16  # Keys, half way; the end is repeated
    torch.testing.assert_close(field[0, 1, ::4], middle)


def test_the_same_seed_draws_the_same():
    fields = [places((0, 30, 30), (1, 20, 20), SQUARE, Augmentation(), generator(7)) for _ in range(2)]
    assert torch.equal(*fields)


@given(seed=st.integers(0, 999))
def test_rotations_and_flips_keep_distances(seed):
    turning = OFF._replace(rotate=180, flip=0.5)
    field = places((0, 0, 0), (5, 9, 11), (1.0, 1.5, 1.0), turning, generator(seed))
    vectors = (field - field[2, 4, 5]) * torch.tensor([1.0, 1.5, 1.0])
    grid = np.indices((5, 9, 11)) - np.reshape([2, 4, 5], (3, 1, 1, 1))
    expected = np.linalg.norm(grid * np.reshape([1.0, 1.5, 1.0], (3, 1, 1, 1)), axis=0)
    np.testing.assert_allclose(vectors.norm(dim=-1), expected, atol=1e-4)  # float32


@given(seed=st.integers(0, 999))
def test_coarse_slices_are_not_turned_into_others(seed):
    turning = OFF._replace(rotate=180)
    field = places((5, 0, 0), (5, 9, 11), (3.0, 1.0, 1.0), turning, generator(seed))
    assert torch.equal(field[..., 0], torch.arange(3.0, 8.0)[:, None, None].expand(5, 9, 11))


def test_half_a_turn_at_most_means_every_angle():
    angles = []
    for seed in range(400):
        field = places((0, 0, 0), (1, 3, 3), SQUARE, OFF._replace(rotate=180), generator(seed))
        y, x = (field[0, 1, 2] - field[0, 1, 1])[1:].tolist()
        angles.append(np.degrees(np.arctan2(y, x)))
    assert np.histogram(angles, 8, (-180, 180))[0].min() > 25  # 50 each on average


def test_scale_and_flip_have_the_stated_size():
    sizes, flips = [], []
    for seed in range(600):
        field = places((0, 0, 0), (1, 3, 3), SQUARE, OFF._replace(scale=0.2, flip=0.25), generator(seed))
        step = (field[0, 1, 2] - field[0, 1, 1])[2].item()
        sizes.append(np.log(abs(step)))
        flips.append(step < 0)
    assert np.std(sizes) == pytest.approx(0.2, rel=0.12)  # 4 standard errors
    assert np.mean(flips) == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize(
    ("name", "size"), [("gain", 0.4), ("offset", 0.4), ("gamma", 0.4), ("blur", 3.0), ("stain", 0.4), ("noise", 0.4)]
)
def test_each_change_of_grey_values_works_alone(name, size):
    tile = torch.rand(3, 2, 30, 40, generator=generator(1))
    changed = recolour(tile, OFF._replace(**{name: size}), generator(2), generator(3))
    assert (changed - tile).abs().mean() > 0.005


def test_noise_and_offset_have_the_stated_deviation():
    flat = torch.full((1, 1, 200, 200), 0.5)
    noisy = recolour(flat, OFF._replace(noise=0.05), generator(), generator())
    assert noisy.std().item() == pytest.approx(0.05, rel=0.015)  # 4 standard errors of 40,000
    levels = [recolour(flat, OFF._replace(offset=0.1), generator(s), generator()).mean().item() for s in range(400)]
    assert np.std(levels) == pytest.approx(0.1, rel=0.15)


def test_blur_is_scipys():
    tile = torch.rand(1, 2, 30, 40, generator=generator(1))
    width = 1.5 * torch.rand((), generator=generator(4)).item()
    found = recolour(tile, OFF._replace(blur=1.5), generator(4), generator())
    for plane, blurred in zip(tile[0].numpy(), found[0].numpy(), strict=True):
        expected = ndimage.gaussian_filter(plane, width, mode="mirror", radius=int(np.ceil(3 * width)))
        np.testing.assert_allclose(blurred, expected, atol=1e-5)  # float32


def test_stain_mixes_what_is_absorbed():
    white = torch.ones(3, 1, 4, 4)
    assert torch.equal(recolour(white, OFF._replace(stain=0.3), generator(), generator()), white)
