"""A series at another pixel size: planes as a coarser or finer camera would have seen them, block by block."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from unetpipe.geometry import SAME, Region
from unetpipe.readers.series import Plane, Series


def rescaled(series: Series, pixel_size: float) -> Series:
    """The series with planes of that pixel size, unless they have it within 2 %.

    Coarser pixels are means over their areas, finer ones lie on the line between; of a file that has several
    resolutions, the coarsest that is fine enough is read. A pixel depends on its own surroundings alone, so that
    blocks are those of the whole.

    Parameters
    ----------
    pixel_size : float
        µm, along y and x.

    Raises
    ------
    ValueError
        If the pixel size of the series is unknown.
    """
    if series.pixel_size is None:
        raise ValueError(
            f"{series.name}: unknown pixel size, so it cannot be brought to {pixel_size} µm; give it in the column "
            "pixel_size of its row, or set ingest.resample to null"
        )
    steps = [pixel_size / own for own in series.pixel_size[1:]]
    if np.allclose(steps, 1, rtol=0, atol=SAME):
        return series
    origin = Plane(series.shape[3:], tuple(steps))
    sides = [max(1, round(side / step)) for side, step in zip(*origin, strict=True)]
    source, factors = _nearest_level(series, steps)
    spacing = [step / factor for step, factor in zip(steps, factors, strict=True)]

    def read(region: Region) -> np.ndarray:
        spans = zip(region[3:], spacing, source.shape[3:], strict=True)
        (rows, y), (columns, x) = (_weights(part, step, side) for part, step, side in spans)
        return _apply(source.read((*region[:3], rows, columns)), y, x, series.dtype)

    depth = series.pixel_size[0]
    size, shape = (depth, pixel_size, pixel_size), (*series.shape[:3], *sides)
    return series._replace(shape=shape, pixel_size=size, read=read, origin=origin, levels=(), coarser=())


def _nearest_level(series: Series, steps: Sequence[float]) -> tuple[Series, list[float]]:
    """The coarsest level whose pixels are not larger than wanted, and how many of the finest are in one of its."""
    best, factors = series, [1.0, 1.0]
    for level in series.coarser:
        ratios = [_factor(*pair) for pair in zip(series.shape[3:], level.shape[3:], strict=True)]
        fits = all(ratio <= step * (1 + SAME) for ratio, step in zip(ratios, steps, strict=True))
        if level.shape[:3] == series.shape[:3] and fits and min(ratios) > min(factors):
            best, factors = level, ratios
    return best, factors


def _factor(finest: int, side: int) -> float:
    """A whole number where the last pixel, which may be cut off or added, is all that speaks against it."""
    whole = round(finest / side)
    return float(whole) if abs(finest - whole * side) < whole else finest / side


def nearest(read: Callable[[Region], np.ndarray], origin: Plane) -> Callable[[Region], np.ndarray]:
    """A reader of labels of a rescaled series: each pixel is that of the file in which its centre lies.

    Parameters
    ----------
    read : function of a region
        Of the labels in the file; the last two axes are the plane's.
    origin : Plane
        Of the series.
    """

    def call(region: Region) -> np.ndarray:
        index = [
            np.minimum(((np.arange(part.start, part.stop) + 0.5) * step).astype(int), side - 1)
            for part, side, step in zip(region[-2:], *origin, strict=True)
        ]
        found = read((*region[:-2], *(slice(int(along[0]), int(along[-1]) + 1) for along in index)))
        rows, columns = (along - along[0] for along in index)
        return found[..., rows[:, None], columns]

    return call


def _weights(part: slice, step: float, side: int) -> tuple[slice, sparse.csr_array]:
    """Which old pixels of one axis make the new ones of a part, and how much of each."""
    new = np.arange(part.start, part.stop)
    if step >= 1:
        low, high = new * step, np.minimum((new + 1) * step, side)
        first, count = np.minimum(np.floor(low).astype(int), side - 1), int(np.ceil(step)) + 1
        old = first[:, None] + np.arange(count)
        share = np.minimum(old + 1, high[:, None]) - np.maximum(old, low[:, None])
    else:
        at = (new + 0.5) * step - 0.5
        old = np.floor(at).astype(int)[:, None] + np.arange(2)
        share = 1 - abs(at[:, None] - old)
    share = share.clip(min=0)
    share[share.sum(axis=1) == 0, 0] = 1
    old = old.clip(0, side - 1)
    window = slice(int(old.min()), int(old.max()) + 1)  # of the old pixels
    rows = np.repeat(np.arange(len(new)), old.shape[1])
    matrix = sparse.csr_array(
        ((share / share.sum(axis=1, keepdims=True)).ravel(), (rows, (old - window.start).ravel())),
        shape=(len(new), window.stop - window.start),
    )
    return window, matrix


def _apply(pixels: np.ndarray, y: sparse.csr_array, x: sparse.csr_array, dtype: np.dtype) -> np.ndarray:
    *front, _, _ = pixels.shape
    exact = np.float32 if dtype.itemsize <= 2 else np.float64
    planes, y, x = pixels.reshape(-1, *pixels.shape[-2:]).astype(exact), y.astype(exact), x.astype(exact)
    found = np.stack([(x @ (y @ plane).T).T for plane in planes]).reshape(*front, y.shape[0], x.shape[0])
    return found.astype(dtype) if dtype.kind == "f" else np.rint(found).astype(dtype)
