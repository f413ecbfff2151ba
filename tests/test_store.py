"""Arrays of a store read as NumPy arrays do, whatever the codecs make of it."""

import numpy as np
import pytest

from unetpipe.store import create_array, open_array

VALUES = np.random.default_rng(0).integers(0, 200, (2, 2, 1, 129, 65), np.uint8)


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "a"
    create_array(path, VALUES.shape, VALUES.dtype, chunk=32, shard=64)[...] = VALUES
    return open_array(path)


@pytest.mark.parametrize(
    "selection",
    [
        (0, 1, 0, slice(63, 129), slice(0, 65)),
        (0, slice(None), 0, slice(127, 129), slice(63, 65)),
        (-1, ...),
        (..., 3),
        (np.int64(1), 1),
        0,
        (1, 0, 0, 128, 64),
        ...,
        (slice(0, 1), slice(None), slice(None), slice(5, 70), slice(5, 6)),
    ],
    ids=str,
)
def test_windows_and_numbers_read_as_in_numpy(array, selection):
    read = array[selection]
    assert np.shape(read) == np.shape(VALUES[selection])
    assert np.array_equal(read, VALUES[selection])


def test_a_window_of_one_row_and_one_column_of_a_shard(tmp_path):
    """Of labels, zarrs 0.2.3 takes the axes of its first shard for those of the next."""
    create_array(tmp_path / "a", VALUES[:, 0].shape, VALUES.dtype, chunk=32, shard=64, kind="label")[...] = VALUES[:, 0]
    window = (0, 0, slice(63, 128), slice(0, 65))
    assert np.array_equal(open_array(tmp_path / "a")[window], VALUES[:, 0][window])


def test_a_damaged_array_is_named_with_what_to_do(tmp_path):
    array = create_array(tmp_path / "a", (1, 1, 70, 50), np.uint8, chunk=32, shard=64)
    array[...] = 7
    (shard,) = {path for path in (tmp_path / "a" / "c").rglob("0/0") if path.is_file()}
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(RuntimeError, match=rf"^{tmp_path}/a cannot be read: .*checksum.*`unetpipe verify` .* delete"):
        open_array(tmp_path / "a")[...]
    np.testing.assert_array_equal(open_array(tmp_path / "a")[0, 0, 64:], 7)
