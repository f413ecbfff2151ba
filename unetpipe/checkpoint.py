"""What an interrupted training goes on from: its last two states, each taken whole or not at all."""

import hashlib
import io
import logging
from pathlib import Path

import torch

from unetpipe.manifest import clear_asides, replacing

logger = logging.getLogger(__name__)
KEPT = 2
DIGEST = 16  # bytes at the end of a file


def save_checkpoint(folder: str | Path, state: dict) -> None:
    """Write `checkpoint-{step}.pt` aside, flush and rename it, then delete all but the last two.

    Parameters
    ----------
    state : dict
        Tensors, numbers, texts, lists and dicts; `step` orders the files, `key` says to which run they belong.
    """
    folder = Path(folder)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with replacing(folder / f"checkpoint-{state['step']:08d}.pt") as aside, open(aside, "wb") as file:
        file.write(buffer.getbuffer())
        file.write(_digest(buffer.getbuffer()))
    for path in _newest_first(folder)[KEPT:]:
        path.unlink()
    logger.info("checkpoint at step %d", state["step"])


def load_checkpoint(folder: str | Path, key: str) -> dict | None:
    """The newest whole state of a run; none where there is none, or where it belongs to another run.

    A file that is not whole is named, and deleted as those of another run and half-written ones are: it would count as
    one of the last two.
    """
    folder = Path(folder)
    clear_asides(folder, "checkpoint-*.pt")
    for path in _newest_first(folder):
        content = path.read_bytes()
        if _digest(content[:-DIGEST]) != content[-DIGEST:]:
            logger.warning("%s is not whole: the one before it is taken, if there is one", path)
            path.unlink()
            continue
        state = torch.load(io.BytesIO(content[:-DIGEST]), map_location="cpu", weights_only=True)
        if state["key"] == key:
            logger.info("going on from step %d", state["step"])
            return state
        logger.warning("%s belongs to other inputs or settings: a new run starts", path)
        for other in _newest_first(folder):
            other.unlink()
        break
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.pt"), reverse=True)


def _digest(content) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST).digest()
