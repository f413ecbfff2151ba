"""Small JSON files that say what exists, and the digests that they carry: XXH3 of pixels, BLAKE2 of all else."""

import ctypes
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
import xxhash

from unetpipe.disk import explained

ASIDE = 8  # random letters that a file's name begins with while it is written
LIBC = ctypes.CDLL(None, use_errno=True)


def write_json(path: str | Path, content: Any, *, flush: bool = True) -> None:
    """Write a JSON file, keys sorted, as `write_bytes` does."""
    write_bytes(path, json_bytes(content), flush=flush)


def json_bytes(content: Any) -> bytes:
    """JSON as it stands in files: keys sorted, a line for each."""
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def write_bytes(path: str | Path, content: bytes, *, flush: bool = True) -> None:
    """Write a file aside and rename it: readers see the old one or the whole new one, see `replacing`."""
    with replacing(path, flush=flush) as aside, open(aside, "wb") as file:
        file.write(content)


def flush_folder(folder: str | Path) -> None:
    """Bring all that was written on a folder's file system, by this machine, to its disk.

    One call for thousands of files, each of which would wait for the disk's journal alone.

    Raises
    ------
    OSError
        If the disk refused some of it after it was written, see `disk.explained`.
    """
    with explained(folder):
        handle = os.open(folder, os.O_RDONLY)
        try:
            if not hasattr(LIBC, "syncfs"):  # macOS
                os.sync()
            elif LIBC.syncfs(handle):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
        finally:
            os.close(handle)


@contextmanager
def replacing(path: str | Path, *, flush: bool = True) -> Iterator[Path]:
    """A path to write a file at, which takes the place of `path` when the block ends without an error.

    What a killed process left on its way to the same path is deleted.

    Parameters
    ----------
    flush : bool
        The file is on the disk before it takes the place; False where `flush_folder` comes before anything relies
        on it.

    Raises
    ------
    OSError
        If the disk refuses it, see `disk.explained`.
    """
    path = Path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_asides(path.parent, path.name)
        with _aside(path) as aside:
            yield aside
            if flush:
                with open(aside, "rb") as file:
                    os.fsync(file.fileno())
            aside.rename(path)


def clear_asides(folder: Path, name: str) -> None:
    """Delete the files beside one of this name that nobody writes any more.

    Parameters
    ----------
    name : str
        `*` stands for any letters.
    """
    for aside in folder.glob(f".{'[0-9a-f]' * ASIDE}.{name}"):
        with suppress(FileNotFoundError, BlockingIOError), open(aside, "rb") as file:
            if _lock(file, fcntl.LOCK_NB):
                aside.unlink()


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A new file beside a path, locked while its writer lives."""
    aside, file = _new_aside(path)
    with file:
        try:
            yield aside
        finally:
            aside.unlink(missing_ok=True)


def _new_aside(path: Path) -> tuple[Path, BinaryIO]:
    while True:
        aside = path.with_name(f".{uuid.uuid4().hex[:ASIDE]}.{path.name}")
        file = open(aside, "wb")  # noqa: SIM115 - the caller closes it
        _lock(file)
        if aside.exists():
            return aside, file
        file.close()  # before it was locked another process took it for a left one


def _lock(file: BinaryIO, how: int = 0) -> bool:
    """Lock an open file; False where the file system knows no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | how)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def read_json(path: str | Path) -> Any:
    """Read a JSON file; a broken one is an error that names it."""
    with whole_json(path):
        return json.loads(Path(path).read_text())


@contextmanager
def whole_json(path: str | Path) -> Iterator[None]:
    """Within it JSON that is broken is a ValueError that names its file."""
    try:
        yield
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not whole JSON ({error}); if a run wrote it, delete it and run again") from error


def digest(content: Any) -> str:
    """Digest of anything JSON can hold, whatever the order of its keys."""
    return _short(json.dumps(content, sort_keys=True).encode())


def array_digest(array: np.ndarray) -> str:
    """Digest of an array's values, shape and type."""
    hasher = xxhash.xxh3_128(f"{array.dtype.str} {array.shape}".encode())
    hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def file_digest(path: str | Path) -> str:
    """Digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def file_checksum(path: str | Path) -> str:
    """Length and CRC-32C of a file's bytes: tells a damaged file from a whole one, in a tenth of a digest's time."""
    content = Path(path).read_bytes()
    return f"{len(content)} {google_crc32c.value(content):08x}"


def _short(*parts) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()
