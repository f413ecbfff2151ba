"""Geometry against NumPy's padding and against the layers of the paper's figure 1."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.geometry import Axis, blocks, reflect, relative_spacing, unet_levels

sides = st.integers(1, 40)


@given(shape=st.tuples(sides, sides), block=st.tuples(sides, sides))
def test_blocks_cover_every_pixel_once(shape, block):
    count = np.zeros(shape, dtype=int)
    for part in blocks(shape, block, [(3, 5), (3, 5)]):
        count[part.write] += 1
    assert (count == 1).all()


@given(shape=st.tuples(sides, sides), block=st.tuples(sides, sides))
def test_all_blocks_read_one_shape_around_what_they_write(shape, block):
    for part in blocks(shape, block, [(3, 5), (2, 4)]):
        assert [window.stop - window.start for window in part.read] == [block[0] + 8, block[1] + 6]
        assert part.read[0].start == part.write[0].start - 3


@given(size=st.integers(1, 20), before=st.integers(0, 50), after=st.integers(0, 50))
def test_reflect_is_numpys(size, before, after):
    expected = np.pad(np.arange(size), (before, after), mode="reflect")
    np.testing.assert_array_equal(reflect(-before, size + after, size), expected)


def test_the_papers_numbers():
    (axis,) = (levels.axis() for levels in unet_levels(4, [1.0]))
    assert axis == Axis(stride=16, halo=92, lost=60)
    assert (axis.output(388), axis.input(388), axis.output(512)) == (388, 572, 516)


@given(
    depth=st.integers(0, 5), spacing=st.lists(st.floats(0.2, 9), min_size=1, max_size=3), minimum=st.integers(1, 300)
)
def test_sides_follow_the_layers(depth, spacing, minimum):
    for levels in unet_levels(depth, spacing):
        axis = levels.axis()
        side = axis.input(minimum)
        skips = []
        for kernel, stride in zip(levels.kernels, levels.strides, strict=False):
            side -= 2 * (kernel - 1)
            skips.append(side)
            assert side % stride == 0
            side //= stride
        side -= 2 * (levels.kernels[-1] - 1)
        assert side > 0
        up = zip(reversed(levels.kernels[:-1]), reversed(levels.strides), reversed(levels.crops()), strict=True)
        for kernel, stride, crop in up:
            side *= stride
            assert skips.pop() - 2 * crop == side
            side -= 2 * (kernel - 1)
        assert side == axis.output(minimum) >= minimum
        assert side == axis.input(minimum) - 2 * axis.halo
        assert side - axis.stride < minimum


@given(depth=st.integers(1, 5), ratio=st.floats(1, 40))
def test_a_coarse_axis_waits_until_the_others_are_within_a_factor_of_two(depth, ratio):
    coarse, fine = unet_levels(depth, [ratio, 1.0])
    length, size = ratio, 1.0
    for level in range(depth):
        within = length < 2 * size
        assert coarse.kernels[level] == (3 if within else 1)
        assert coarse.strides[level] == (2 if within else 1)
        length, size = length * coarse.strides[level], size * fine.strides[level]
    assert fine.strides == (2,) * depth


def test_spacing_is_relative_to_the_finest_axis():
    assert relative_spacing([2.0, 0.5, 1.0], 3) == (4.0, 1.0, 2.0)
    assert relative_spacing([2.0, 0.5, 1.0], 2) == (1.0, 2.0)
    assert relative_spacing(None, 3) == (1.0, 1.0, 1.0)
