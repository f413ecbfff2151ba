"""Small JSON files that say what exists, and the digests that they carry."""

import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


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
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{os.getpid()}.{path.name}")
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
    head = f"{array.dtype.str} {array.shape}".encode()
    return _short(head, np.ascontiguousarray(array).data)


def source_digest(path: str | Path) -> str:
    """Digest of a file's bytes, or of all files of a folder (a Zarr store) and their names."""
    root = Path(path)
    if not root.is_dir():
        return file_digest(root)
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return digest([[str(file.relative_to(root)), file_digest(file)] for file in files])


def file_digest(path: str | Path) -> str:
    """Digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _short(*parts) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()
