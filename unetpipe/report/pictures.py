"""Pictures for the report: outlines over images, the training curve; all as data URIs."""

import base64
import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from skimage.color import label2rgb
from skimage.segmentation import find_boundaries

from unetpipe.curve import curve_table

FOUND, TRUE, BOTH = (255, 140, 0), (0, 190, 255), (255, 255, 255)


def grey(image: np.ndarray, low: list[float], high: list[float]) -> np.ndarray:
    """An image (c, y, x) between its percentiles as (y, x, 3) uint8: three channels as colours, else the first."""
    chosen = image if len(image) == 3 else image[:1].repeat(3, axis=0)
    lows, highs = (np.resize(values, 3) if len(image) == 3 else np.full(3, values[0]) for values in (low, high))
    scaled = (np.moveaxis(chosen, 0, -1) - lows) / np.maximum(highs - lows, 1e-6)
    return (255 * scaled.clip(0, 1)).astype(np.uint8)


def outlined(rgb: np.ndarray, objects: np.ndarray, truth: np.ndarray | None = None) -> np.ndarray:
    """Draw outlines: found orange, true blue, white where both agree.

    Parameters
    ----------
    rgb : (y, x, 3) uint8
    objects, truth : (y, x) int
        Instance labels.
    """
    picture = rgb.copy()
    found = find_boundaries(objects, mode="inner")
    picture[found] = FOUND
    if truth is not None:
        true = find_boundaries(truth, mode="inner")
        picture[true] = TRUE
        picture[true & found] = BOTH
    return picture


def coloured(rgb: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Fill every object with a colour of its own: (y, x, 3) uint8."""
    return (255 * label2rgb(objects, rgb, alpha=0.35, bg_label=0)).astype(np.uint8)


def data_uri(picture: np.ndarray, *, quality: int = 85) -> str:
    """A picture (y, x, 3) uint8 as a JPEG for the `src` of an image."""
    packed = io.BytesIO()
    Image.fromarray(picture).save(packed, "JPEG", quality=quality)
    return _uri("image/jpeg", packed.getvalue())


def draw_curves(curves: dict[str, list[list[float | None]]]) -> str:
    """The loss of every network and, where it was noted, its score over the steps, as a PNG.

    Parameters
    ----------
    curves : dict of name → points
        See `curve.curve_table`.
    """
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="step", ylabel="weighted cross-entropy", yscale="log")
    axes.grid(alpha=0.3)
    scored = {name: [p for p in points if len(p) > 3 and p[3] is not None] for name, points in curves.items()}
    other = axes.twinx() if any(scored.values()) else None
    for number, (name, points) in enumerate(curves.items()):
        steps, losses, *_ = zip(*points, strict=True)
        axes.plot(steps, losses, color="#d2691e", alpha=max(0.3, 0.7**number))
        if other and scored[name]:
            steps, _, _, scores, *_ = zip(*scored[name], strict=True)
            other.plot(steps, scores, "o-", color="#4682b4", markersize=3, linewidth=0.8)
            other.set_ylabel("score on images left out", color="#4682b4")
    packed = io.BytesIO()
    figure.savefig(packed, format="png", dpi=150, metadata={"Software": None})
    return _uri("image/png", packed.getvalue())


def curve_link(points: list[list[float | None]]) -> str:
    """The same as a table with tabs, to download."""
    return _uri("text/tab-separated-values", curve_table(points).encode())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64," + base64.b64encode(content).decode()
