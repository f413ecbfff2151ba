"""What a disk refuses is one sentence that names the path and what to do."""

import errno
import os

import pytest

from unetpipe.disk import explained


def refusal(number, path=None):
    return OSError(number, os.strerror(number), *([path] if path else []))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (refusal(errno.ENOSPC), r"store cannot be written: its disk is full, \d+\.\d of \d+ MB free; make room"),
        (refusal(errno.EDQUOT), r"store cannot be written: the quota is used up, .* free; delete files"),
        (refusal(errno.EROFS), "store cannot be written: its disk is read-only; mount it writable"),
        (refusal(errno.EACCES), rf"store is closed to user {os.getuid()}: change its rights"),
        (refusal(errno.EACCES, "/data/other.tif"), "^/data/other.tif is closed to user"),
        (RuntimeError("No space left on device (os error 28)"), "store cannot be written: its disk is full"),
    ],
)
def test_a_refusal_names_the_path_and_what_to_do(tmp_path, error, says):
    with pytest.raises(OSError, match=says) as raised, explained(tmp_path), explained(tmp_path / "store"):
        raise error
    assert "run again: what is finished stays" in str(raised.value)
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [refusal(errno.ENOENT, "x"), RuntimeError("other"), ValueError("other")])
def test_other_errors_stay_as_they_are(error):
    with pytest.raises(type(error)) as raised, explained("store"):
        raise error
    assert raised.value is error


def test_a_disk_without_room_for_more_files_says_so(tmp_path, monkeypatch):
    room = os.statvfs_result((4096, 4096, 100, 50, 50, 1000, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    with pytest.raises(OSError, match=r"0\.2 of 0 MB free, no file more can be made"), explained(tmp_path):
        raise refusal(errno.ENOSPC)
