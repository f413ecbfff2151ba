"""Sampling against its definition, pixel by pixel; outside the image it is NumPy's `reflect`."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from unetpipe.sampling import Field, cubic_taps, interpolate, linear_taps, nearest_taps, sample


def keys(distance):
    """The cubic convolution kernel of Keys (1981), a = −1/2."""
    d = abs(distance)
    if d <= 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0


def hat(distance):
    return max(0.0, 1 - abs(distance))


def naive(image, at, kernel):
    """Sum of the image, mirrored without end, times the kernel along each axis."""
    low = [int(np.floor(a)) - 1 for a in at]
    total = 0.0
    for offset in np.ndindex(*(4 if size > 1 else 1 for size in image.shape)):
        index = [start + o if size > 1 else 0 for start, o, size in zip(low, offset, image.shape, strict=True)]
        weight = np.prod([kernel(a - i) for a, i, size in zip(at, index, image.shape, strict=True) if size > 1])
        mirrored = [
            np.pad(np.arange(size), 60, mode="reflect")[i + 60] for i, size in zip(index, image.shape, strict=True)
        ]
        total += weight * image[tuple(mirrored)]
    return total


shapes = st.sampled_from([(1, 9, 13), (1, 2, 40), (5, 8, 7), (1, 1, 6)])


def scene(shape, seed, count=12):
    """An image of two channels, a target, a border term, and a row of places in and around them."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, *shape, generator=generator)
    target = torch.randint(0, 4, shape, generator=generator, dtype=torch.uint8)
    border = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    size = torch.tensor(shape)
    places = (torch.rand(count, 3, generator=generator) * 3 - 1) * (size - 1)
    return image, target, border, row_of(places.float())


def row_of(places):
    """A field of one row with these coordinates."""
    none = torch.zeros(1, 1)
    return Field(
        (torch.zeros(1, 3), torch.zeros(1, 3), places),
        (none, none, torch.zeros(1, len(places))),
        torch.zeros(1, 1, 1, 3),
    )


@given(shape=shapes, seed=st.integers(0, 10**6))
def test_it_is_the_definition(shape, seed):
    image, target, border, field = scene(shape, seed)
    found = sample(image, target, border, field, (0, 0, 0))
    for number, at in enumerate(field.coordinates()[0, 0].double().tolist()):
        expected = [naive(channel.double().numpy(), at, keys) for channel in image]
        np.testing.assert_allclose(found[0][:, 0, 0, number], expected, atol=2e-5)  # float32
        assert found[2][0, 0, number].item() == pytest.approx(naive(border.numpy(), at, hat), abs=5e-3)  # of 255
        nearest = [
            np.pad(np.arange(s), 60, mode="reflect")[int(np.floor(a + 0.5)) + 60]
            for a, s in zip(at, shape, strict=True)
        ]
        assert found[1][0, 0, number] == target[tuple(nearest)]


@given(shape=shapes, seed=st.integers(0, 10**6))
def test_compiled_code_gives_what_any_device_gives(shape, seed):
    image, target, border, field = scene(shape, seed, count=50)
    found, places = sample(image, target, border, field, (0, 0, 0)), field.coordinates()
    torch.testing.assert_close(found[0], interpolate(image, places, cubic_taps), rtol=0, atol=2e-6)  # float32 sums
    assert torch.equal(found[1].float(), interpolate(target[None], places, nearest_taps)[0])
    torch.testing.assert_close(found[2], interpolate(border[None], places, linear_taps)[0], rtol=0, atol=2e-4)  # of 255


def test_linear_is_torchs():
    image, _, _, field = scene((1, 30, 40), 1, count=200)
    places = field.coordinates()
    unit = 2 * places[..., [2, 1]] / torch.tensor([39, 29]) - 1
    expected = functional.grid_sample(image[:, 0][None], unit, padding_mode="reflection", align_corners=True)[0]
    torch.testing.assert_close(interpolate(image, places, linear_taps)[:, 0], expected, rtol=0, atol=1e-4)  # unit


def tile_of(corner, sides, waves):
    """A field of whole steps, displaced on a grid of 3 × 3 × 3 points by `waves` (3, 3, 3, 3), linearly in between."""
    along = [torch.zeros(side, 3) for side in sides]
    bases = []
    for axis, (start, side) in enumerate(zip(corner, sides, strict=True)):
        along[axis][:, axis] = torch.arange(start, start + side)
        at = torch.linspace(0, 2, side)
        bases.append(torch.stack([(1 - (at - point).abs()).clamp(min=0) for point in range(3)]))
    return Field(tuple(along), tuple(bases), waves)


def test_whole_numbers_copy_bit_for_bit():
    image, target, border, _ = scene((4, 20, 30), 2)
    field = tile_of((-7, -7, -7), (20, 36, 46), torch.zeros(3, 3, 3, 3))
    for got, whole in zip(sample(image, target, border, field, (2, 3, 4)), (image, target, border), strict=True):
        pads = [(0, 0)] * (whole.ndim - 3) + [(7, 9)] * 3
        expected = np.pad(whole.numpy(), pads, mode="reflect")
        inner = expected if whole.ndim == 4 else expected[2:-2, 3:-3, 4:-4]
        np.testing.assert_array_equal(got.numpy(), inner)


def test_coordinates_are_the_sum_of_what_the_axes_give():
    waves = torch.randn(3, 3, 3, 3)
    field = tile_of((1, 2, 3), (5, 9, 7), waves)
    found = field.coordinates()
    assert found.shape == (5, 9, 7, 3)
    grid = [range(3)] * 3
    for index in np.ndindex(5, 9, 7):
        hats = [
            [hat(2 * i / (side - 1) - point) for point in axis]
            for i, side, axis in zip(index, (5, 9, 7), grid, strict=True)
        ]
        displaced = np.einsum("i,j,k,ijkc->c", *hats, waves.numpy())
        np.testing.assert_allclose(found[index], np.add(index, (1, 2, 3)) + displaced, atol=1e-5)  # float32


@pytest.mark.parametrize("margins", [(0, 0, 0), (1, 2, 3)])
def test_a_displaced_tile_is_what_its_coordinates_say(margins):
    image, target, border, _ = scene((6, 20, 30), 5)
    field = tile_of((-1, -3, -3), (7, 19, 27), torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(1)))
    places = field.coordinates()
    inner = places[tuple(slice(m, -m or None) for m in margins)]
    found = sample(image, target, border, field, margins)
    torch.testing.assert_close(found[0], interpolate(image, places, cubic_taps), rtol=0, atol=1e-4)  # of coordinates
    assert (found[1] != interpolate(target[None], inner, nearest_taps)[0]).float().mean() < 1e-2  # at halves
    torch.testing.assert_close(found[2], interpolate(border[None], inner, linear_taps)[0], rtol=0, atol=1e-2)  # of 255


def test_a_target_gains_no_value():
    image, _, border, field = scene((1, 30, 40), 3, count=5000)
    target = torch.tensor([0, 3, 255], dtype=torch.uint8)[torch.randint(0, 3, (1, 30, 40))]
    assert set(sample(image, target, border, field, (0, 0, 0))[1].unique().tolist()) <= {0, 3, 255}


def test_threads_do_not_change_it():
    scenes = scene((4, 30, 40), 4)[:3]
    field = tile_of((-1, -3, -3), (7, 19, 27), torch.randn(3, 3, 3, 3))
    before = torch.get_num_threads()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(sample(*scenes, field, (0, 2, 2)))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@given(
    corner=st.tuples(*[st.integers(-40, 60)] * 3),
    shape=st.sampled_from([(1, 60, 50), (6, 20, 30), (9, 9, 9)]),
    seed=st.integers(0, 99),
)
def test_a_window_of_the_image_is_all_that_a_tile_reads(corner, shape, seed):
    image, *_ = scene(shape, seed)
    start = (0, *corner[1:]) if shape[0] == 1 else corner
    sides = (1, 8, 9) if shape[0] == 1 else (5, 8, 9)
    waves = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    if shape[0] == 1:
        waves[..., 0] = 0
    field = tile_of(start, sides, waves)
    window, moved = field.window(shape)
    assert all(0 <= part.start < part.stop <= size for part, size in zip(window, shape, strict=True))
    whole = interpolate(image, field.coordinates(), cubic_taps)
    part = interpolate(image[:, *window], moved.coordinates(), cubic_taps)
    assert torch.equal(part, whole)


def test_a_window_is_no_larger_than_it_has_to_be():
    field = tile_of((0, 500, 700), (1, 30, 40), torch.zeros(3, 3, 3, 3))
    window, _ = field.window((1, 5000, 5000))
    assert [part.stop - part.start for part in window] == [1, 35, 45]
