"""The files that a sample is made of: their digest, and whether they stay what they are while they are read."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import xxhash

from unetpipe.manifest import digest

PIECE = 2**24  # bytes of a file that one thread digests
CACHED = 2**18  # of them at once: they stay in the cache of a core
State = tuple[int, int]


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
    hasher, held, read = xxhash.xxh3_128(), memoryview(bytearray(CACHED)), 0
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        while count := file.readinto(held[: PIECE - read]):
            hasher.update(held[:count])
            read += count
    return read, hasher.hexdigest()


def file_state(path: str | Path) -> State:
    """What changes when a file, or what lies directly in a folder, is written: the time of it, and the size."""
    state = Path(path).stat()
    return state.st_mtime_ns, state.st_size


def file_states(paths: Iterable[str | Path]) -> dict[str, State]:
    """The state of each file that is there; folders have none, their times mean little on mounted object stores."""
    return {str(path): file_state(path) for path in paths if Path(path).is_file()}


def changes(before: dict[str, State]) -> dict[str, Exception]:
    """An error for each file that was written, or taken away, since its state was taken.

    Ask after the digest, which is then that of the file that was opened, and again when all is read: pixels of a file
    still being copied must not be taken for those of the whole one.
    """
    now = file_states(before)
    return {
        path: OSError(f"{path}: written, or taken away, while it was read; run again when it is complete")
        for path, state in before.items()
        if now.get(path) != state
    }
