"""What there is to see of a series: where its arrays lie, how large a pixel is, which grey values matter."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from unetpipe.manifest import read_json
from unetpipe.store import label_path, open_array, read_attributes

LABELS = ("objects", "truth")  # those that are shown, as far as they exist


class Scene(NamedTuple):
    """One series of a sample."""

    sample: str
    path: str  # of the series within the store of its sample: 0, 1, …
    name: str
    shape: tuple[int, ...]  # t, c, z, y, x
    dtype: str
    levels: int
    pixel_size: tuple[float, ...] | None  # z, y, x, µm
    channels: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...] | None  # of each channel, darkest and brightest grey value in the tissue
    labels: tuple[str, ...]
    classes: int  # that have probabilities; 0: nothing is predicted


def find_scenes(results: Path, samples: Sequence[str] = ()) -> list[Scene]:
    """All series of some samples, of all that are ingested if none is given.

    Raises
    ------
    FileNotFoundError
        If a sample is not there, or none is.
    """
    known = sorted(path.parent.name.removesuffix(".ome.zarr") for path in results.glob("images/*.ome.zarr/zarr.json"))
    missing = sorted(set(samples) - set(known))
    if missing or not known:
        wanted = f"sample {missing[0]}" if missing else "image"
        there = f"there are {', '.join(known[:8])}" if known else "run the workflow first"
        raise FileNotFoundError(f"{results}: no {wanted}; {there}")
    return [scene for sample in samples or known for scene in _scenes(results, sample)]


def _scenes(results: Path, sample: str) -> Iterator[Scene]:
    store = image_store(results, sample)
    tissue = results / "tissue" / f"{sample}.json"
    statistics = {series["path"]: series for series in read_json(tissue)["series"]} if tissue.exists() else {}
    found = results / "probabilities" / f"{sample}.zarr"
    predicted = (found / "zarr.json").exists()
    for entry in read_attributes(store / "zarr.json")["series"]:
        path, seen = entry["path"], statistics.get(entry["path"])
        yield Scene(
            sample,
            path,
            entry["name"],
            tuple(entry["shape"]),
            entry["dtype"],
            entry["levels"],
            tuple(entry["pixel_size"]) if entry["pixel_size"] else None,
            tuple(entry["channels"]),
            tuple(zip(seen["low"], seen["high"], strict=True)) if seen else None,
            tuple(name for name in LABELS if (label_path(store, path, name) / "zarr.json").exists()),
            open_array(found / path).shape[1] if predicted else 0,
        )


def image_store(results: Path, sample: str) -> Path:
    """Where the image of a sample lies."""
    return results / "images" / f"{sample}.ome.zarr"
