"""A part of an image in pieces, packed."""

import zlib
from typing import NamedTuple

import numpy as np

from unetpipe.geometry import Region


class Piece(NamedTuple):
    """A component of several pieces, or a tile of such components."""

    box: Region
    packed: bytes  # the pieces' numbers in the box
    sizes: np.ndarray  # pixels of each
    first: np.ndarray  # raster index, in the image, of the first pixel of each

    @classmethod
    def of(cls, box: Region, pieces: np.ndarray, shape: tuple[int, ...]) -> "Piece":
        """From the pieces in their box, (t, z, y, x)."""
        present, places = np.unique(pieces, return_index=True)
        corners = np.unravel_index(places[present > 0], pieces.shape)
        first = np.ravel_multi_index([c + part.start for c, part in zip(corners, box, strict=True)], shape)
        numbers = pieces.astype(np.uint32)
        return cls(box, zlib.compress(numbers.tobytes(), 1), np.bincount(pieces.ravel())[1:], first)

    def numbers(self) -> np.ndarray:
        """The pieces' numbers in the box."""
        shape = [part.stop - part.start for part in self.box]
        return np.frombuffer(zlib.decompress(self.packed), np.uint32).reshape(shape)
