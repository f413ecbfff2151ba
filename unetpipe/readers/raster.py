"""PNG, JPEG and other small pictures, through Pillow."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from unetpipe.readers.series import Series, in_memory

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


def open_file(path: Path) -> list[Series]:
    """The picture as one series; palettes become colours, 1-bit images 0 and 1."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB") if image.mode == "P" else image)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path}: not a whole image file ({error})") from error
    return [in_memory(path.stem, pixels.astype(np.uint8) if pixels.dtype == bool else pixels)]
