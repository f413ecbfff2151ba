"""The seam certificate: windows across the borders of blocks are predicted again in one pass and compared."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unetpipe.geometry import Axis, Block
from unetpipe.overlap_tile import grid

logger = logging.getLogger(__name__)
ONE_OF, MOST = 16, 8  # a window for so many blocks, and so many at most
LARGEST = 256  # side of what a window puts out, pixels
NOTABLE = 0.05  # difference of probability above which no arithmetic explains it


class Window(NamedTuple):
    """A call of the network across the border of a block, and which of its outputs lie in that block."""

    block: Block  # what the call reads; what of it is compared
    origin: tuple[int, ...]  # of the call's output


def across(
    block: Block,
    shape: Sequence[int],
    sides: Sequence[int],
    axes: tuple[Axis, ...],
    *,
    ahead: bool,
    largest: int = LARGEST,
) -> Window | None:
    """A window around the corner that a block shares with its neighbours; none where it has none there.

    Parameters
    ----------
    block, shape, sides, axes
        See `overlap_tile.volume_blocks`.
    ahead : bool
        The neighbours that follow it along the axes, or those before it.
    largest : int
        Side of the window's output where blocks are larger, pixels.
    """
    axes, sides = grid(shape, sides, axes)
    origin, read, compared = [], [], []
    for part, size, side, axis in zip(block.write, shape, sides, axes, strict=True):
        wide = min(side, -(-largest // axis.stride) * axis.stride)
        half = wide // 2 // axis.stride * axis.stride
        beside = half and (part.stop < size if ahead else part.start > 0)
        first = (part.stop if ahead else part.start) - half if beside else part.start
        origin.append(first)
        read.append(slice(first - axis.halo, first - axis.halo + axis.input(wide)))
        compared.append(slice(max(part.start, first), min(part.stop, first + wide)))
    if all(first == part.start for first, part in zip(origin, block.write, strict=True)):
        return None
    return Window(Block(tuple(read), tuple(compared)), tuple(origin))


def chosen(candidates: Sequence) -> list:
    """Those blocks of all that might be checked that are: evenly spread, whatever the number of parts."""
    count = min(MOST, -(-len(candidates) // ONE_OF))
    return [candidates[number * len(candidates) // count] for number in range(count)]


def compare(stored: np.ndarray, found: np.ndarray, window: Window) -> dict[str, int]:
    """How far one pass is from what the blocks gave.

    Parameters
    ----------
    stored : (K − 1, z, y, x) uint8
        The compared pixels.
    found : (K − 1, z, y, x) uint8
        Output of the call.
    """
    inside = tuple(
        slice(part.start - first, part.stop - first)
        for part, first in zip(window.block.write, window.origin, strict=True)
    )
    again = found[(slice(None), *inside)]
    foreground = [values.sum(axis=0, dtype=np.int64) > 127 for values in (stored, again)]
    return {
        "largest": int(np.abs(stored.astype(int) - again).max()),
        "changed": int((foreground[0] != foreground[1]).sum()),
        "pixels": foreground[0].size,
    }


def certificate(sample: str, notes: Sequence[dict[str, int]]) -> dict[str, float]:
    """Windows, largest difference of probability and share of pixels whose foreground changed; said in the log."""
    seam = {
        "windows": len(notes),
        "largest_difference": max((note["largest"] for note in notes), default=0) / 255,
        "changed": sum(note["changed"] for note in notes) / max(1, sum(note["pixels"] for note in notes)),
    }
    logger.info("%d windows across seams: largest difference of probability %.4f, changed pixels %.3g", *seam.values())
    if seam["largest_difference"] > NOTABLE:
        logger.warning(
            'sample "%s": across seams probabilities differ by up to %.3f from one pass, which rounding does not '
            "explain; do not use them, and report this with the network",
            sample,
            seam["largest_difference"],
        )
    return seam
