"""A series as a run wants it: some of its channels, at a pixel size of its own or another."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from unetpipe.geometry import SAME, Region
from unetpipe.readers.rescaled import rescaled
from unetpipe.readers.series import UNKNOWN_DEPTH, Series


def chosen(
    series: Series,
    *,
    channels: Sequence[str | int] | None = None,
    pixel_size: float | Sequence[float] | None = None,
    override: bool = False,
    resample: float | None = None,
) -> Series:
    """The series with the asked channels, at the asked pixel size.

    Parameters
    ----------
    channels : sequence of str or int, optional
        Names or numbers of the channels to keep, in this order; all by default.
    pixel_size : float or (z, y, x) of float, optional
        µm, of one number along y and x, where the file does not say.
    override : bool
        `pixel_size` may contradict the file by more than 2 %.
    resample : float, optional
        µm along y and x to which all planes are brought, see `rescaled`.

    Raises
    ------
    ValueError
        If it has no such channel, contradicts the pixel size, or has none to be brought to another.
    """
    if pixel_size is not None:
        series = _with_pixel_size(series, pixel_size, override=override)
    series = rescaled(series, resample) if resample else series
    return series if channels is None else _with_channels(series, channels)


def _with_pixel_size(series: Series, pixel_size: float | Sequence[float], *, override: bool) -> Series:
    depth, *plane = series.pixel_size or (UNKNOWN_DEPTH,)
    z, y, x = given = pixel_size if isinstance(pixel_size, Sequence) else (depth, pixel_size, pixel_size)
    flat = series.shape[2] == 1  # what it says of a distance of planes means nothing
    said = (z if flat or depth == UNKNOWN_DEPTH else depth, *(plane or (y, x)))
    if not override and any(abs(mine / theirs - 1) > SAME for mine, theirs in zip(given, said, strict=True)):
        raise ValueError(
            f"{series.name}: pixel_size is {_spelt(given)} µm along z, y, x, the file says {_spelt(said)} µm; take it "
            "from the sheet and the config, or set ingest.override to true"
        )
    return series._replace(pixel_size=(z, y, x))


def _spelt(size: Sequence[float]) -> str:
    return " x ".join(f"{side:.5g}" for side in size)


def _with_channels(series: Series, channels: Sequence[str | int]) -> Series:
    index = [_channel_number(series, channel) for channel in channels]
    shape = (series.shape[0], len(index), *series.shape[2:])
    return series._replace(
        shape=shape,
        channels=tuple(series.channels[k] for k in index),
        levels=(),
        coarser=(),
        read=partial(_read_channels, series.read, index),
    )


def _read_channels(read: Callable[[Region], np.ndarray], index: list[int], region: Region) -> np.ndarray:
    planes = [read((region[0], slice(k, k + 1), *region[2:])) for k in index[region[1]]]
    return np.concatenate(planes, axis=1)


def _channel_number(series: Series, channel: str | int) -> int:
    if str(channel) in series.channels:
        return series.channels.index(str(channel))
    if str(channel).isdigit() and int(channel) < len(series.channels):
        return int(channel)
    raise ValueError(
        f"{series.name}: no channel {channel!r}; choose of {', '.join(series.channels)} by name or from 0 by number"
    )
