"""PNG, JPEG and other small pictures, through Pillow."""

from pathlib import Path

import imagecodecs
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
            frames = getattr(image, "n_frames", 1)
            if image.format in ("GIF", "PNG") and frames > 1:
                raise ValueError(f"{path}: {frames} pictures in it; save them as one TIFF")
            depth, colours = _png_header(path) if image.format == "PNG" else (8, False)
            if depth == 16 and colours:  # Pillow keeps their upper 8 bits
                pixels = imagecodecs.png_decode(path.read_bytes())
                pixels = pixels[..., 0] if pixels.shape[-1] == 2 else pixels
                return [lazy(path.stem, pixels, plain_axes(path.name, pixels.shape))]
            turned = ImageOps.exif_transpose(image)
            kept = turned.mode not in CONVERTED or (turned.mode == "P" and not palette)
            pixels = np.asarray(turned if kept else turned.convert(CONVERTED[turned.mode]))
            if turned.mode == "L" and depth in (2, 4) and not palette:  # Pillow spreads them over 8 bits
                pixels = pixels // (255 // (2**depth - 1))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a whole image file ({error})") from error
    return [lazy(path.stem, pixels, plain_axes(path.name, pixels.shape))]


def _png_header(path: Path) -> tuple[int, bool]:
    """Bits of a sample, and whether a pixel has several."""
    with open(path, "rb") as file:
        header = file.read(26)
    return header[24], header[25] in (2, 4, 6)
