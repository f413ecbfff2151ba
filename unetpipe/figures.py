"""Draws what training aims at and how it deforms images, as figures 3 and 2 of the paper (Ronneberger et al. 2015)."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from skimage.graph import RAG
from skimage.segmentation import expand_labels, relabel_sequential

from unetpipe.augment import Augmentation, sampling_field
from unetpipe.demo import draw_cells
from unetpipe.loss import class_weights
from unetpipe.manifest import replacing
from unetpipe.readers import open_series
from unetpipe.sampling import sample
from unetpipe.weights import border_weight, open_gaps

SIDE = 512  # pixels: of a larger image the middle is shown
PANEL = 4.5  # longer side of a panel, inches
SQUARES, ENLARGED = 16, 2  # of the grid along the longer axis; arrows are so much longer than displacements
ELASTIC = Augmentation(elastic=10, grid=3, rotate=0, flip=0, scale=0)
PALETTE = to_rgba_array(["white", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"])
ADVICE = "give --image and --labels of the same plane, or neither to draw cells like the demo's"


def write_figures(folder: str | Path, *, image: Path | None = None, labels: Path | None = None) -> list[Path]:
    """Write `weights.png` and `deformation.png` of two files, or else of cells like the demo's; return their paths."""
    image_CYX, ids = read_pair(image, labels) if image or labels else demo_pair()
    figures = {"weights.png": draw_weights(image_CYX, ids), "deformation.png": draw_deformation(image_CYX, ids)}
    for name, figure in figures.items():
        with replacing(Path(folder) / name) as part:
            figure.savefig(part, bbox_inches="tight", pad_inches=0.15)
    return [Path(folder) / name for name in figures]


def demo_pair() -> tuple[np.ndarray, np.ndarray]:
    """Cells around a clearing, as in the demo: image (1, Y, X) and instance labels (Y, X)."""
    image, labels = draw_cells((SIDE // 2, SIDE // 2), seed=1, occupied=~np.tri(6, k=-4, dtype=bool))
    return image[None], labels


def read_pair(image: Path | None, labels: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """The middle of an image's first plane (C, Y, X) and of its labels (Y, X), or an OSError or ValueError."""
    for option, path in (("--image", image), ("--labels", labels)):
        if path is None or not Path(path).exists():
            raise FileNotFoundError(f"{option} {path or '(not given)'}: no such file; {ADVICE}")
    pixels, ids = open_series(str(image))[0], open_series(str(labels))[0]
    if (shape := pixels.shape[-2:]) != ids.shape[-2:]:
        raise ValueError(f"--image {image} has shape {shape}, --labels {labels} has {ids.shape[-2:]}; {ADVICE}")
    if ids.shape[1] > 1 or ids.dtype.kind not in "ui":
        raise ValueError(f"--labels {labels}: {ids.shape[1]} channels of {ids.dtype}; save ids as integers in one")
    middle = (slice(start := max(0, (size - SIDE) // 2), min(size, start + SIDE)) for size in shape)
    window = (slice(0, 1), slice(None), slice(0, 1), *middle)
    return pixels.read(window)[0, :, 0], ids.read(window)[0, 0, 0]


def weight_map(labels: np.ndarray, *, gap: int = 2, border: float = 10.0, sigma: float = 5.0, balance: float = 1.0):
    """What each pixel weighs in the loss (eq. 2 of the paper); arguments are those of `write_weights` and `train`.

    Parameters
    ----------
    labels : (Y, X) int
        Instance labels, 0 is background.

    Returns
    -------
    target (Y, X) bool, weight (Y, X) float32
        Objects, the gaps between them opened; w_c, of mean 1 over these pixels, plus the border term.
    """
    target = (opened := open_gaps(labels, gap=gap)) > 0
    if (share := target.mean()) in {0, 1}:
        raise ValueError(
            f"objects cover {share:.0%} of the first plane's middle once gaps are opened; "
            "are the labels instance ids? if so, crop both files to where an object ends"
        )
    classes = class_weights(np.bincount(target.ravel()), balance).astype(np.float32)
    return target, classes[target.astype(int)] + border_weight(opened, border=border, sigma=sigma)


def colour_numbers(labels: np.ndarray) -> np.ndarray:
    """Rows of PALETTE that tell neighbours apart: (Y, X) uint8, 0 is background."""
    numbered = relabel_sequential(labels.astype(int))[0]
    graph = RAG(expand_labels(numbered, distance=50), connectivity=1)
    colours = np.zeros(numbered.max() + 1, np.uint8)
    for one in sorted(set(graph) - {0}):
        used = np.bincount(colours, minlength=len(PALETTE))
        used[colours[list(graph[one])]] += len(colours)
        colours[one] = 1 + used[1:].argmin()
    return colours[numbered]


def draw_weights(image_CYX: np.ndarray, labels: np.ndarray) -> Figure:
    """Image, labels (Y, X), target and weights side by side."""
    target, weight = weight_map(labels)
    plain = {"image": _stretched(image_CYX), "instance labels": PALETTE[colour_numbers(labels)]}
    aims = {"target, gaps opened": np.repeat(1.0 * target[..., None], 3, axis=2), "weights": weight}
    figure, panels = _show(plain | aims, columns=4, dpi=120)
    figure.colorbar(panels[3].images[0], cax=panels[3].inset_axes((1.03, 0, 0.04, 1)))
    return figure


def draw_deformation(image_CYX: np.ndarray, labels: np.ndarray, *, seed: int = 357) -> Figure:
    """Image and labels (Y, X) under a regular grid, and what one elastic field makes of all three."""
    sides, generator = (1, *labels.shape), torch.Generator().manual_seed(seed)
    field = sampling_field([(side - 1) // 2 for side in sides], sides, (1, 1, 1), ELASTIC, generator)
    still, colours = _stretched(image_CYX), colour_numbers(labels)
    ids_ZYX = torch.from_numpy(colours)[None]
    moved, moved_ids, _ = sample(torch.from_numpy(still).movedim(-1, 0)[:, None], ids_ZYX, ids_ZYX, field, (0, 0, 0))
    images = {f"image, displacements × {ENLARGED}": still, "deformed image": moved[:, 0].permute(1, 2, 0).clamp(0, 1)}
    truths = {"instance labels": PALETTE[colours], "deformed labels": PALETTE[moved_ids[0].numpy()]}
    figure, panels = _show(images | truths, columns=2, dpi=86)
    sources = np.indices(labels.shape), field.coordinates()[0, ..., 1:].movedim(-1, 0).numpy()
    for panel, source, colour in zip(panels, sources * 2, ["#ffe14d"] * 2 + ["#404040"] * 2, strict=True):
        _draw_grid(panel, source, colour)
    _draw_arrows(panels[0], -ENLARGED * field.waves[0, ..., 1:].numpy(), labels.shape)
    return figure


def _draw_grid(panel, source_2YX: np.ndarray, colour: str) -> None:
    """Lines along which pixels come from one row or one column of the image, for some of those."""
    for source, side in zip(source_2YX, source_2YX.shape[1:], strict=True):
        lines = round(SQUARES * side / max(source_2YX.shape))
        panel.contour(source, np.linspace(0, side - 1, lines + 1), colors=colour, linewidths=0.9)


def _draw_arrows(panel, moves_YX2: np.ndarray, shape: tuple[int, int]) -> None:
    """Where the image moves at the points of the coarse grid."""
    style = {"arrowstyle": "-|>", "color": "#ff2020", "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
    for place in np.ndindex(moves_YX2.shape[:2]):
        start = np.multiply(place, np.subtract(shape, 1) / np.subtract(moves_YX2.shape[:2], 1))
        panel.annotate("", (start + moves_YX2[place])[::-1], start[::-1], arrowprops=style, annotation_clip=False)


def _show(pictures: dict, *, columns: int, dpi: int):
    """A figure below 1 MB and its panels, one for each picture (Y, X, colours) or (Y, X) under its title."""
    shape, rows = next(iter(pictures.values())).shape[:2], len(pictures) // columns
    high, wide = PANEL * np.array(shape) / max(shape)
    figure = Figure(figsize=(columns * wide, rows * (high + 0.3)), dpi=dpi, layout="constrained")
    panels = figure.subplots(rows, columns, gridspec_kw={"wspace": 0.05}).ravel()
    for panel, (title, picture) in zip(panels, pictures.items(), strict=True):
        panel.imshow(np.asarray(picture), cmap="inferno", vmin=0)
        panel.set(xticks=[], yticks=[], title=title)
    return figure, panels


def _stretched(image_CYX: np.ndarray) -> np.ndarray:
    """The image between its percentiles, (Y, X, 3) float32 of 0 … 1: three channels as colours, else the first."""
    chosen = image_CYX if len(image_CYX) == 3 else image_CYX[:1].repeat(3, axis=0)
    low, high = np.percentile(chosen, (0.5, 99.5), axis=(1, 2), keepdims=True).astype(np.float32)
    return np.moveaxis((chosen - low) / np.maximum(high - low, 1e-6), 0, -1).clip(0, 1)
