"""Says what a disk refuses in one sentence: where, how much room there is, and what to do."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AGAIN = "then run again: what is finished stays"
SAID_BY_RUST = re.compile(r"\(os error (\d+)\)")  # zarrs raises RuntimeError with this at its end


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Within it an error of the disk becomes a sentence that names the path.

    Raises
    ------
    OSError
        If the disk is full or read-only, or denies access.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        sentence = _sentence(_number(error), Path(getattr(error, "filename", None) or path).absolute())
        if sentence is None:
            raise
        raise OSError(sentence) from error  # without a number: it is explained once


@contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """Within it an error of reading an array becomes a sentence that names it, see `explained` too.

    Raises
    ------
    RuntimeError
        If a shard is damaged.
    """
    with explained(path):
        try:
            yield
        except RuntimeError as error:
            if _number(error):
                raise
            raise RuntimeError(
                f"{path} cannot be read: {error}; if a run wrote it, `unetpipe verify` on its results says what to "
                "delete before the next run, else copy it again from where it came from"
            ) from error


def _number(error: Exception) -> int | None:
    found = SAID_BY_RUST.search(str(error))
    return int(found[1]) if found else getattr(error, "errno", None)


def _sentence(number: int | None, path: Path) -> str | None:
    if number == errno.ENOSPC:
        return f"{path} cannot be written: its disk is full, {_room(path)}; make room or take another disk, {AGAIN}"
    if number == errno.EDQUOT:
        return f"{path} cannot be written: the quota is used up, {_room(path)}; delete files or ask for more, {AGAIN}"
    if number == errno.EROFS:
        return f"{path} cannot be written: its disk is read-only; mount it writable or take another disk, {AGAIN}"
    if number == errno.EACCES:
        return f"{path} is closed to user {os.getuid()}: change its rights, or those of its folder, {AGAIN}"
    return None


def _room(path: Path) -> str:
    """What the disk of a path has left, for files and for their content."""
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    room = os.statvfs(there)
    free, whole = (blocks * room.f_frsize / 1e6 for blocks in (room.f_bavail, room.f_blocks))
    files = ", no file more can be made" if room.f_files and not room.f_favail else ""
    return f"{free:.1f} of {whole:.0f} MB free{files}"
