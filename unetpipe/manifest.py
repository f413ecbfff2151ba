"""Small JSON files that say what exists, and the digests that they carry."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from unetpipe.disk import explained

PIECE = 2**24  # bytes of a file that are digested at once


def write_json(path: str | Path, content: Any) -> None:
    """Write a JSON file, keys sorted, as `write_bytes` does."""
    write_bytes(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file aside, flush it and rename it: readers see the old one or the whole new one."""
    with replacing(path) as aside, open(aside, "wb") as file:
        file.write(content)


@contextmanager
def replacing(path: str | Path):
    """A path to write a file at, which takes the place of `path` when the block ends without an error."""
    path = Path(path)
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            with open(aside, "rb") as file:
                os.fsync(file.fileno())
            aside.rename(path)
        finally:
            aside.unlink(missing_ok=True)


def read_json(path: str | Path) -> Any:
    """Read a JSON file; a broken one is an error that names it."""
    try:
        return json.loads(Path(path).read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not whole JSON ({error}); if a run wrote it, delete it and run again") from error


def digest(content: Any) -> str:
    """Digest of anything JSON can hold, whatever the order of its keys."""
    return _short(json.dumps(content, sort_keys=True).encode())


def array_digest(array: np.ndarray) -> str:
    """Digest of an array's values, shape and type."""
    hasher = _fast_hasher(f"{array.dtype.str} {array.shape}".encode())
    hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def source_digest(path: str | Path) -> str:
    """Digest of a file's bytes, or of all files of a folder (a Zarr store) and their names; on all cores."""
    root = Path(path)
    files = sorted(file for file in root.rglob("*") if file.is_file()) if root.is_dir() else [root]
    pieces = [(file, start) for file in files for start in range(0, max(1, file.stat().st_size), PIECE)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(_piece_digest, pieces)
        names = [str(file.relative_to(root)) if root.is_dir() else "" for file, _ in pieces]
        return digest([[name, *piece] for name, piece in zip(names, digests, strict=True)])


def _piece_digest(piece: tuple[Path, int]) -> tuple[int, str]:
    path, start = piece
    with open(path, "rb") as file:
        file.seek(start)
        content = file.read(PIECE)
    return len(content), _fast_hasher(content).hexdigest()


def _fast_hasher(first: bytes):
    """Of much data that nobody forges: twice as fast as BLAKE2 where the processor knows SHA, as fast elsewhere."""
    return hashlib.sha1(first, usedforsecurity=False)


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
