"""Geometry against NumPy's padding and against the layers of the paper's figure 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.geometry import blocks, reflect, unet_halo, unet_input, unet_output

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
    assert (unet_output(388, 4), unet_input(388, 4), unet_halo(4), unet_output(512, 4)) == (388, 572, 92, 516)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("minimum", [1, 17, 100, 512])
def test_sides_follow_the_layers(depth, minimum):
    side = unet_input(minimum, depth)
    for _ in range(depth):
        side -= 4
        assert side % 2 == 0
        side //= 2
    side -= 4
    for _ in range(depth):
        side = 2 * side - 4
    assert side == unet_output(minimum, depth) >= minimum
    assert side - 2**depth < minimum
