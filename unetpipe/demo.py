"""Draw a synthetic phase-contrast data set: images, a slide, and the truth of both."""

import logging
import math
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from scipy import ndimage as ndi
from scipy.spatial import cKDTree
from skimage.filters import threshold_otsu
from skimage.measure import label

from unetpipe.halving import halve
from unetpipe.manifest import read_json, replacing, write_json

log = logging.getLogger(__name__)

REVISION = 1  # a new one wherever the same seed draws other bytes
PIXEL_SIZE = 0.5  # µm
RADIUS = 12.5, 25.0  # smallest and largest mean radius of a cell, pixels
SPACING = 0.8  # of two radii: below 1, neighbours press against each other
REACH = 1.7  # half the square in which a cell is drawn, radii
GLASS = 1.3  # score of a pixel that no cell reaches
SMALLEST = 60  # pixels: less of a cell, say at the image's edge, is no object


class Layer(NamedTuple):
    """Cells before the microscope sees them, every field (y, x)."""

    labels: np.ndarray  # 0 is glass
    score: np.ndarray  # distance from the centre of the pixel's cell, 1 at its free outline
    gap: np.ndarray  # lead over the second nearest cell's score, 0 where two cells touch
    nucleus: np.ndarray  # 1 in nuclei


def draw_cells(
    shape: tuple[int, int], *, seed: int | Sequence[int], occupied: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Irregular, mostly touching cells as phase contrast shows them: dark, in bright halos.

    Parameters
    ----------
    shape : (int, int)
        Height and width, pixels.
    seed : int or sequence of int
        The same seed draws the same image.
    occupied : (y', x') bool, optional
        Where centres of cells may lie, at any resolution; everywhere by default.

    Returns
    -------
    image : (y, x) uint8
    labels : (y, x) uint16, or uint32 above 65,535 cells
        1 … n, each one 4-connected component; no background between cells that touch.
    """
    rng = np.random.default_rng(seed)
    occupied = np.ones((1, 1), bool) if occupied is None else occupied
    layer = _keep_whole(_place(shape, *_scatter(shape, occupied, rng), rng))
    return _expose(_phase(layer, rng), layer.labels > 0, rng), layer.labels


def touching_fraction(labels: np.ndarray) -> float:
    """Share of the objects in `labels` (y, x) of which a pixel has a 4-neighbour in another."""
    touching = []
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        meet = (a != b) & (a > 0) & (b > 0)
        touching += [a[meet], b[meet]]
    objects = int(np.count_nonzero(np.bincount(labels.ravel())[1:]))
    return len(np.unique(np.concatenate(touching))) / max(1, objects)


def otsu_objects(image: np.ndarray) -> np.ndarray:
    """Connected components beyond Otsu's threshold, as (y, x) int labels.

    Of dark and bright components, those of which there are more; less than SMALLEST is dropped.
    """
    bright = image > threshold_otsu(image)
    return max(_components(~bright), _components(bright), key=np.max)


def write_demo(folder: str | Path, *, seed: int = 1, slide_shape: tuple[int, int] = (4096, 4096)) -> Path:
    """Write train/ and test/ (images and labels of the same names) and slide/ (slide, labels).

    `demo.json` is written last: a folder that it declares complete is left as it is.

    Parameters
    ----------
    folder : path
    seed : int
        The same seed writes the same bytes.
    slide_shape : (int, int)
        Height and width of the slide, pixels.

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(folder)
    recipe = {"revision": REVISION, "seed": seed, "slide": list(slide_shape)}
    if _is_complete(folder, recipe):
        return folder
    done = folder / "demo.json"
    done.unlink(missing_ok=True)
    files = [*_write_fields(folder, seed), *_write_slide(folder / "slide", seed, slide_shape)]
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
    write_json(done, {**recipe, "bytes": sizes})
    log.info("%s: %d files, %.1f MB", folder, len(files), sum(sizes.values()) / 1e6)
    return folder


def _is_complete(folder: Path, recipe: dict) -> bool:
    """Whether the folder holds every file of the recipe at its full length."""
    done = folder / "demo.json"
    if not done.exists():
        return False
    known = read_json(done)
    files = [(folder / name, size) for name, size in known.pop("bytes").items()]
    return known == recipe and all(f.is_file() and f.stat().st_size == n for f, n in files)


def _write_fields(folder: Path, seed: int) -> Iterator[Path]:
    """Write train/ and test/, and yield the paths."""
    keys = [("train", 0, n) for n in range(8)] + [("test", 1, n) for n in range(4)]
    for name, group, index in keys:
        key = (seed, group, index)
        share = 0.95 - 0.05 * (index % 4)
        occupied = _islands((64, 64), size=14, share=share, seed=(*key, 1))
        pair = draw_cells((512, 512), seed=key, occupied=occupied)
        for kind, pixels in zip(("images", "labels"), pair, strict=True):
            yield _write_tiff(folder / name / kind / f"{index:02d}.tif", [pixels])


def _write_slide(folder: Path, seed: int, shape: tuple[int, int]) -> Iterator[Path]:
    """Write the slide as a pyramid, and its labels, and yield the paths."""
    key, coarse = (seed, 2, 0), [n // 16 for n in shape]
    occupied = _islands(coarse, size=max(coarse) / 14, share=0.3, edge=3, seed=(*key, 1))
    image, labels = draw_cells(shape, seed=key, occupied=occupied)
    levels = [image]
    while max(levels[-1].shape) > 512:
        levels.append(halve(levels[-1], kind="image"))
    ome = {"axes": "YX", "PhysicalSizeX": PIXEL_SIZE, "PhysicalSizeY": PIXEL_SIZE}
    ome["UUID"] = str(uuid.UUID(int=seed))  # tifffile's own holds the time
    yield _write_tiff(folder / "slide.tif", levels, ome=ome, tile=(256, 256))
    yield _write_tiff(folder / "labels.tif", [labels], tile=(256, 256))


def _write_tiff(path: Path, levels: list[np.ndarray], *, ome: dict | None = None, tile=None) -> Path:
    """Write a pyramid into one TIFF, the coarse levels as sub-IFDs, and return the path."""
    same = {"tile": tile, "compression": "zlib", "resolutionunit": "CENTIMETER", "software": False}
    with replacing(path) as part, tifffile.TiffWriter(part, ome=ome is not None) as tiff:
        for n, pixels in enumerate(levels):
            own = {"subfiletype": 1} if n else {"subifds": len(levels) - 1, "metadata": ome}
            tiff.write(pixels, resolution=(1e4 / PIXEL_SIZE / 2**n,) * 2, **same, **own)
    return path


def _components(mask: np.ndarray) -> np.ndarray:
    """4-connected components of at least SMALLEST pixels, numbered from 1."""
    found = label(mask, connectivity=1)
    keep = np.bincount(found.ravel()) >= SMALLEST
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0)[found]


def _islands(shape, *, size: float, share: float, seed, edge: float = 0) -> np.ndarray:
    """Irregular patches over a share of the area; with `edge` they keep off it; (y, x) bool."""
    rng = np.random.default_rng(seed)
    height = _clouds(shape, size, rng) + 0.35 * _clouds(shape, size / 4, rng)
    y, x = (np.linspace(-1, 1, n) for n in shape)
    height -= edge * np.maximum(abs(y)[:, None], abs(x)) ** 8
    return height > np.quantile(height, 1 - share)


def _scatter(shape, occupied, rng) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n, 2) and radii (n,) of cells, no two nearer than SPACING allows."""
    candidates = math.prod(shape) // 90
    centres = rng.uniform(-RADIUS[0], np.add(shape, RADIUS[0]), (candidates, 2))
    radii = rng.uniform(*RADIUS, candidates)
    at = np.clip(centres / shape, 0, 1 - 1e-9) * occupied.shape
    inside = occupied[tuple(at.astype(int).T)]
    centres, radii = centres[inside], radii[inside]
    kept = _first_come(centres, radii)
    return centres[kept], radii[kept]


def _first_come(centres, radii) -> np.ndarray:
    """Which cells keep their distance to every cell kept before them, (n,) bool."""
    i, j = cKDTree(centres).query_pairs(2 * SPACING * RADIUS[1], output_type="ndarray").T
    near = np.linalg.norm(centres[i] - centres[j], axis=1) < SPACING * (radii[i] + radii[j])
    order = np.argsort(i[near], kind="stable")
    i, j = i[near][order], j[near][order]
    kept = np.ones(len(radii), bool)
    first = np.searchsorted(i, np.arange(len(radii) + 1))
    for this in range(len(radii)):
        if kept[this]:
            kept[j[first[this] : first[this + 1]]] = False
    return kept


def _place(shape, centres, radii, rng) -> Layer:
    """Give every pixel to the cell in whose star-convex, warped outline it lies deepest."""
    labels = np.zeros(shape, np.min_scalar_type(max(256, len(radii))))
    score, second = np.full((2, *shape), GLASS, np.float32)
    nucleus = np.zeros(shape, np.float32)
    warp = 1.6 * (_clouds(shape, 6, rng) + 1j * _clouds(shape, 6, rng))
    for number, (centre, radius) in enumerate(zip(centres, radii, strict=True), 1):
        at = _window(centre, REACH * radius, shape)
        y, x = np.ogrid[at]
        offset = (x - centre[1] + 1j * (y - centre[0]) + warp[at]) / radius
        mine = abs(offset) / _outline(offset, rng)
        core = offset - 0.15 * complex(*rng.standard_normal(2))
        core = abs(core) / (0.42 * _outline(core, rng))
        ahead = mine < score[at]
        second[at] = np.where(ahead, score[at], np.minimum(second[at], mine))
        score[at] = np.where(ahead, mine, score[at])
        labels[at] = np.where(ahead & (mine < 1), number, labels[at])
        nucleus[at] = np.where(ahead, 1 / (1 + np.exp(12 * (core - 1))), nucleus[at])
    return Layer(labels, score, second - score, nucleus)


def _window(centre, reach, shape) -> tuple[slice, ...]:
    ends = ((round(c - reach), round(c + reach) + 1) for c in centre)
    return tuple(slice(max(0, a), min(b, n)) for (a, b), n in zip(ends, shape, strict=True))


def _outline(offset: np.ndarray, rng) -> np.ndarray:
    """Radius in the direction of each complex offset, relative to the mean radius."""
    direction = np.exp(1j * np.angle(offset))
    waves = rng.standard_normal((3, 2)) @ [1, 1j] * [0.14, 0.07, 0.04]
    return 1 + sum((wave * direction**k).real for k, wave in enumerate(waves, 2))


def _keep_whole(layer: Layer) -> Layer:
    """Leave the largest piece of each cell if it is large enough, and number the cells from 1."""
    pieces = label(layer.labels, connectivity=1)
    area = np.bincount(pieces.ravel())
    owner = np.zeros(len(area), int)
    owner[pieces.ravel()] = layer.labels.ravel()
    by_area = np.argsort(area, kind="stable")
    largest = np.zeros(owner.max() + 1, int)
    largest[owner[by_area]] = by_area
    good = (largest[owner] == np.arange(len(area))) & (area >= SMALLEST) & (owner > 0)
    labels = np.where(good, np.cumsum(good), 0).astype(layer.labels.dtype)[pieces]
    return layer._replace(labels=labels)


def _phase(layer: Layer, rng) -> np.ndarray:
    """Optical thickness (y, x): domes with nuclei and granules, thinner where two cells meet."""
    labels, score, gap, nucleus = layer
    shape = labels.shape
    height = rng.uniform(0.6, 1.2, int(labels.max()) + 1).astype(np.float32)[labels]
    grain = 0.12 * (_clouds(shape, 1, rng) + _clouds(shape, 2.5, rng)) * (1 - 0.7 * nucleus)
    nucleoli = np.clip(_clouds(shape, 3, rng) - 0.9, 0, 0.8)
    seam = np.clip(0.45 + 0.12 * _clouds(shape, 8, rng), 0.3, 1) * np.exp(-((gap / 0.08) ** 2))
    body = height * (1 - 0.4 * score**4) + grain + (0.9 * nucleoli - 0.12) * nucleus
    return np.where(labels > 0, body * (1 - seam), 0).astype(np.float32)


def _expose(phase: np.ndarray, cells: np.ndarray, rng) -> np.ndarray:
    """Image (y, x) uint8: thick is dark and casts a halo; the light is uneven among the cells."""
    shape = phase.shape
    fine, near, far = (ndi.gaussian_filter(phase, sigma) for sigma in (0.8, 3.5, 14))
    relief = 150 * (fine - near) + 22 * (near - far)
    crowd = ndi.gaussian_filter(cells.astype(np.float32), 25)
    light = 1 + 0.015 * _clouds(shape, 200, rng) + 0.25 * crowd * _clouds(shape, 90, rng)
    noise = 1.1 * rng.standard_normal(shape, dtype=np.float32)
    return np.clip((120 - relief) * light + noise, 0, 255).astype(np.uint8)


def _clouds(shape, scale: float, rng) -> np.ndarray:
    """Smooth Gaussian noise of unit variance, correlated over `scale` pixels, (y, x) float32."""
    step = max(1, int(scale / 2))
    coarse = rng.standard_normal([-(-n // step) + 2 for n in shape], dtype=np.float32)
    coarse = ndi.gaussian_filter(coarse, 0.8 * scale / step)
    fine = ndi.zoom(coarse / coarse.std(), step, order=1)
    return fine[tuple(slice(step // 2, step // 2 + n) for n in shape)]
