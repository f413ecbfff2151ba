"""Augmentation: mirrors as NumPy does, draws what it says, changes nothing when switched off."""

import numpy as np
import pytest
import torch

from unetpipe.augment import Augmentation, _displacements, recolour, sample, sampling_field

OFF = Augmentation(elastic=0, rotate=False, flip=False, scale=0, gain=0, offset=0, gamma=0, noise=0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_switched_off_it_reads_the_mirrored_image(mode):
    image = torch.rand(1, 40, 50, generator=generator())
    field = sampling_field((19.5, 24.5), (60, 70), OFF, generator())
    expected = np.pad(image[0], 10, mode="reflect")
    np.testing.assert_allclose(sample(image, field, mode)[0], expected, atol=2e-5)  # float32 coordinates


def test_switched_off_it_leaves_grey_values():
    tile = torch.rand(2, 8, 9)
    torch.testing.assert_close(recolour(tile, OFF, generator()), tile)


def test_displacements_have_the_stated_deviation_at_the_grid_points():
    augmentation = Augmentation(elastic=10.0, grid=3)
    fields = [_displacements((41, 41), augmentation, generator(seed)) for seed in range(400)]
    corners = torch.stack([field[::20, ::20] for field in fields])  # the 3 × 3 grid points
    assert corners.std().item() == pytest.approx(10.0, rel=0.03)  # 7,200 samples: 0.8 % standard error
    assert abs(corners.mean().item()) < 0.5


def test_truth_gains_no_value():
    truth = torch.tensor([0.0, 3.0, 255.0])[torch.randint(0, 3, (1, 64, 64), generator=generator())]
    field = sampling_field((30, 30), (80, 80), Augmentation(), generator(1))
    assert set(sample(truth, field, "nearest").unique().tolist()) <= {0.0, 3.0, 255.0}


def test_the_same_seed_draws_the_same():
    fields = [sampling_field((30, 30), (20, 20), Augmentation(), generator(7)) for _ in range(2)]
    assert torch.equal(*fields)


def test_a_rotation_keeps_distances():
    turning = OFF._replace(rotate=True, flip=True)
    field = sampling_field((0, 0), (21, 21), turning, generator(3))
    corner = field[0, 0] - field[10, 10]
    assert corner.norm().item() == pytest.approx(np.hypot(10, 10), abs=1e-4)  # float32
