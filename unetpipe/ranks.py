"""Several devices of one job: a process for each, which take the same steps on their own tiles.

The job itself is rank 0; it starts the others as `python -m` of its own module, and they end with it. Outside of
`together` there is one rank, and everything here does nothing.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import distributed

logger = logging.getLogger(__name__)
FAILED = "rank {} of {} failed, its message stands above: start again to go on"
MOMENT = 2.0  # seconds in which a process that has gone is seen to be gone
PATIENCE = 30.0  # seconds that the others have to end after rank 0
SHARED = (InterruptedError, FloatingPointError)  # errors that all ranks run into at the same step


def rank() -> int:
    """The number of this process among those of the job, 0 for the one that the user started."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """Processes of the job."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def add(tensor: torch.Tensor) -> torch.Tensor:
    """The sum over all ranks, with its gradient."""
    return _Sum.apply(tensor) if size() > 1 else tensor


class _Sum(torch.autograd.Function):
    """Every rank's sum depends on every rank's part, so the gradients are summed as well."""

    @staticmethod
    def forward(_, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def agree(value: Any) -> Any:
    """What rank 0 says."""
    if size() == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def everyone(value: Any) -> list[Any]:
    """What every rank says, in their order."""
    if size() == 1:
        return [value]
    said: list[Any] = [None] * size()
    distributed.all_gather_object(said, value)
    return said


def agree_on_flags(*flags: bool) -> list[bool]:
    """What rank 0 says, cheaply: through the memory of the CPU, so that no device is waited for."""
    if size() == 1:
        return [*flags]
    told = torch.tensor(flags, dtype=torch.uint8)
    distributed.broadcast(told, src=0)
    return told.bool().tolist()


@contextlib.contextmanager
def together(module: str, call: dict, count: int) -> Iterator[None]:
    """Within it this process is rank 0 of `count`; the others run `module` with the same call.

    Parameters
    ----------
    module : str
        What `python -m` runs; it must hand `follow` what takes the call.
    call : dict
        Keyword arguments, anything JSON can hold.

    Raises
    ------
    RuntimeError
        If another rank failed; the process ends where that leaves this one waiting for it.
    """
    if count <= 1 or distributed.is_initialized():
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting: dict = {"init_method": f"file://{folder}/meeting", "world_size": count}
        others = [_start(module, {"call": call, "meeting": {**meeting, "rank": number}}) for number in range(1, count)]
        for number, process in enumerate(others, start=1):
            threading.Thread(target=_watch, args=(process, number, count), daemon=True).start()
        distributed.init_process_group(_backends(), **meeting, rank=0)
        try:
            yield
        except BaseException as error:
            failed = _failed(others) if isinstance(error, RuntimeError) else 0
            _let_go(others, kill=not isinstance(error, SHARED))
            if failed:
                raise RuntimeError(FAILED.format(failed, count)) from error
            raise
        else:
            _let_go(others)


def _backends() -> str:
    return "cpu:gloo,cuda:nccl" if distributed.is_nccl_available() else "gloo"


def _failed(others: list) -> int:
    """The number of another rank that has failed, which this one may hear of before the system does; 0: none has."""
    deadline = time.monotonic() + MOMENT
    while time.monotonic() < deadline:
        for number, process in enumerate(others, start=1):
            if process.poll():
                return number
        time.sleep(0.05)
    return 0


def _let_go(others: list, *, kill: bool = False) -> None:
    """End the group: by itself where all ranks have come to the same end."""
    for process in others:
        process.finished = True
        process.stdin.close()
        if kill:
            process.kill()
    distributed.destroy_process_group()
    for process in others:
        process.wait(PATIENCE)


def _start(module: str, message: dict) -> Any:
    process: Any = subprocess.Popen(  # noqa: S603 - this Python, and a module of this package
        [sys.executable, "-m", module], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.finished = False
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()
    return process


def _watch(process, number: int, count: int) -> None:
    """Pass on what another rank says; end this process, which would wait for ever, when that one fails."""
    for line in process.stderr:
        logger.warning("rank %d: %s", number, line.rstrip())
    if process.wait() != 0 and not process.finished:
        logger.error(FAILED.format(number, count))
        os._exit(1)


def follow(function: Callable[..., None]) -> None:
    """Take the call from standard input as another rank; signals are for rank 0, whose end ends this process too."""
    for name in ("SIGTERM", "SIGUSR1", "SIGINT"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    message = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    distributed.init_process_group(_backends(), **message["meeting"])
    with contextlib.suppress(*SHARED):  # rank 0 says it
        function(**message["call"])
    distributed.destroy_process_group()


def _end_with_the_first() -> None:
    sys.stdin.read()
    threading.Event().wait(PATIENCE)
    os._exit(1)
