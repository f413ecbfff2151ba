"""Keeps two processes from writing one thing, also where the one that started them is gone."""

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unetpipe.disk import explained

logger = logging.getLogger(__name__)
WITHOUT = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}  # what file systems say that know no locks


@contextmanager
def held(path: str | Path) -> Iterator[None]:
    """Hold a lock as long as the block lasts; whatever ends the process ends the lock.

    Parameters
    ----------
    path : path
        A file that says who holds it; empty when nobody does.

    Raises
    ------
    BlockingIOError
        If another process holds it.
    OSError
        If the disk refuses the file, see `disk.explained`.
    """
    path = Path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed below
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = path.read_text().strip() or "another process"
            raise BlockingIOError(
                f"{path.parent} is being written by {holder}; wait for it to end, or end it"
            ) from error
        except OSError as error:
            if error.errno not in WITHOUT:
                raise
            logger.warning("%s: no locks on this file system; see to it that no second run writes there", path.parent)
        with explained(path):
            file.truncate(0)
            file.write(_own_name().encode())
        try:
            yield
        finally:
            file.truncate(0)


def _own_name() -> str:
    job = os.environ.get("SLURM_JOB_ID")
    return f"process {os.getpid()} on {socket.gethostname()}" + (f", job {job} of Slurm" if job else "")
