"""Series as their files mean them to be seen: colours of a palette, white that is 0, rows that run upwards."""

import numpy as np

from unetpipe.geometry import Region
from unetpipe.readers.series import RGB, Series

ORIENTATIONS = {  # of the tag: whether rows are columns, then whether they run from bottom to top, from right to left
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def oriented(series: Series, tag: int) -> Series:
    """The series with its first row above and its first column on the left.

    Parameters
    ----------
    tag : int
        1 to 8, as TIFF and EXIF number orientations.
    """
    if tag not in ORIENTATIONS:
        return series
    turned, upwards, leftwards = ORIENTATIONS[tag]
    y, x = series.shape[:2:-1] if turned else series.shape[3:]

    def read(region: Region) -> np.ndarray:
        rows, columns = (
            slice(size - part.stop, size - part.start) if flipped else part
            for part, size, flipped in ((region[3], y, upwards), (region[4], x, leftwards))
        )
        found = series.read((*region[:3], *((columns, rows) if turned else (rows, columns))))
        found = found.swapaxes(3, 4) if turned else found
        return found[..., :: -1 if upwards else 1, :: -1 if leftwards else 1]

    size = series.pixel_size
    pixel_size = (size[0], size[2], size[1]) if size and turned else size
    return series._replace(shape=(*series.shape[:3], y, x), pixel_size=pixel_size, read=read)


def coloured(series: Series, palette: np.ndarray) -> Series:
    """The colours of the one channel's indices.

    Parameters
    ----------
    palette : (3, entries)
    """

    def read(region: Region) -> np.ndarray:
        index = series.read((region[0], slice(0, 1), *region[2:]))[:, 0]
        return np.moveaxis(palette[region[1]][:, index], 0, 1)

    shape = (series.shape[0], 3, *series.shape[2:])
    return series._replace(shape=shape, dtype=palette.dtype, channels=RGB, read=read)


def inverted(series: Series) -> Series:
    """Unsigned integers of which 0 is white."""
    most = np.iinfo(series.dtype).max
    return series._replace(read=lambda region: most - series.read(region))


def opaque(series: Series) -> Series:
    """The colours alone, without what follows them."""
    shape = (series.shape[0], 3, *series.shape[2:])
    return series._replace(shape=shape, channels=RGB)


def retyped(series: Series, dtype: np.dtype) -> Series:
    """The same values as numbers of another type."""
    if dtype == series.dtype:
        return series
    return series._replace(dtype=dtype, read=lambda region: series.read(region).astype(dtype))
