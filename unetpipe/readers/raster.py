"""PNG, JPEG and other small pictures, through Pillow."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from unetpipe.readers.series import Series, lazy, plain_axes

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
Image.MAX_IMAGE_PIXELS = 2**28  # Pillow warns above, and refuses twice as many
CONVERTED = {"P": "RGB", "PA": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LA": "L", "La": "L"}  # Pillow's modes


def open_file(path: Path) -> list[Series]:
    """The picture as one series; palettes become colours, 1-bit images 0 and 1, transparency is dropped."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert(CONVERTED[image.mode]) if image.mode in CONVERTED else image)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a whole image file ({error})") from error
    return [lazy(path.stem, pixels, plain_axes(path.name, pixels.shape))]
