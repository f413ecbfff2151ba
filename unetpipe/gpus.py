"""Gives every job GPUs of its own, also where nothing else shares a machine's GPUs out among jobs."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch

from unetpipe.device import choose_device
from unetpipe.locks import held

logger = logging.getLogger(__name__)
PAUSE = 0.5  # seconds between two looks for a free GPU


@contextmanager
def granted(name: str, count: int = 1) -> Iterator[list[torch.device]]:
    """Devices for a job. A GPU that another job of the same user computes on is waited for.

    Parameters
    ----------
    name : "auto", "cpu" or "cuda"
        See `device.choose_device`, also for what is raised.
    count : int
        Of the devices; on a CPU the same one so many times.
    """
    first = choose_device(name, count - 1)
    if first.type != "cuda":
        yield [first] * count
        return
    identities = [str(torch.cuda.get_device_properties(number).uuid) for number in range(torch.cuda.device_count())]
    with reserved(identities, count, Path(tempfile.gettempdir()) / f"unetpipe-gpus-{os.getuid()}") as numbers:
        yield [torch.device("cuda", number) for number in numbers]


@contextmanager
def reserved(names: Sequence[str], count: int, folder: Path) -> Iterator[list[int]]:
    """Numbers of `count` of the names that nobody else has reserved in that folder; waits for them.

    Whoever chooses keeps others from choosing, so that two that need several never wait for each other.
    """
    with ExitStack() as kept:
        with ExitStack() as choosing:
            _hold_one(choosing, [folder / "choosing.lock"])
            numbers: list[int] = []
            for _ in range(count):
                numbers.append(_hold_one(kept, [folder / f"{name}.lock" for name in names], numbers))
        yield sorted(numbers)


def _hold_one(stack: ExitStack, paths: Sequence[Path], own: Sequence[int] = ()) -> int:
    """Hold the first of the locks that nobody holds, also not this process, as locks say or its own numbers."""
    waited = False
    while True:
        for number, path in enumerate(paths):
            if number in own:
                continue
            with suppress(BlockingIOError):
                stack.enter_context(held(path))
                return number
        if not waited:
            holders = ", ".join(path.read_text().strip() for path in paths)
            logger.warning("waiting for a GPU of this machine, all of which are taken: %s", holders)
        waited = True
        time.sleep(PAUSE)
