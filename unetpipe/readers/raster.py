"""PNG, JPEG and other small pictures, through Pillow."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from unetpipe.readers.series import Series, lazy, plain_axes

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
Image.MAX_IMAGE_PIXELS = 2**28  # Pillow warns above, and refuses twice as many
CONVERTED = {"P": "RGB", "PA": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LA": "L", "La": "L"}  # Pillow's modes


def open_file(path: Path, *, palette: bool = True) -> list[Series]:
    """The picture as one series, turned as its EXIF says; 1-bit images become 0 and 1, transparency is dropped.

    Parameters
    ----------
    palette : bool
        The colours of indices, instead of the indices.
    """
    try:
        with Image.open(path) as image:
            turned = ImageOps.exif_transpose(image)
            kept = turned.mode not in CONVERTED or (turned.mode == "P" and not palette)
            pixels = np.asarray(turned if kept else turned.convert(CONVERTED[turned.mode]))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a whole image file ({error})") from error
    return [lazy(path.stem, pixels, plain_axes(path.name, pixels.shape))]
