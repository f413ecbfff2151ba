"""Copies the files of a sample into one OME-Zarr store with pyramids: `results/images/{sample}.ome.zarr`."""

import logging
from functools import partial
from pathlib import Path

import numpy as np

from unetpipe.blocks import Ledger, raise_failures
from unetpipe.manifest import digest, source_digest
from unetpipe.pyramid import Pyramid, is_finished, names_of, write_pyramids
from unetpipe.readers import open_series
from unetpipe.readers.series import Series
from unetpipe.revisions import REVISIONS
from unetpipe.store import (
    image_metadata,
    keep_first,
    level_shapes,
    publish_images,
    remove_labels,
    remove_strays,
    write_group,
)

logger = logging.getLogger(__name__)


def ingest(
    paths: list[str],
    output: str,
    *,
    sample: str,
    chunk: int = 256,
    shard: int = 1024,
    channels: list[str | int] | None = None,
    pixel_size: float | None = None,
    inside: str = "",
    workers: int = 1,
) -> None:
    """Write every series of every file as one image of the sample's store.

    Parameters
    ----------
    paths : list of path
        The sample's files, in order; each gives one series or more.
    output : path
        Root `zarr.json` of the store, written last.
    chunk, shard : int
        Sides of what is read and of what is written at once, pixels.
    channels : list of str or int, optional
        Names or numbers of the channels to keep, in this order; all by default.
    pixel_size : float, optional
        µm along y and x, instead of what the file says.
    inside : str
        Array or group inside each file, see `readers.open_series`.
    workers : int
        Threads; each holds one shard.

    Raises
    ------
    RuntimeError
        If a series cannot be read, after all others are written; it names all that failed.
    """
    store = Path(output).parent
    settings = {"chunk": chunk, "shard": shard, "channels": channels, "pixel_size": pixel_size}
    Path(output).unlink(missing_ok=True)
    with Ledger(store, "ingest", [REVISIONS["ingest"], settings]) as ledger:
        failures: dict[str, Exception] = {}
        opened = _open_all(paths, inside, channels, pixel_size, failures)
        pyramids = [_pyramid(store, number, *opened[number], chunk, shard) for number in opened]
        for pyramid in pyramids:
            if not is_finished(pyramid, ledger):
                remove_labels(pyramid.folder)
        digests = write_pyramids(pyramids, ledger, failures, workers=workers)
        raise_failures(sample, {_title(name, opened): error for name, error in failures.items()})
        remove_strays(store, ledger.shards(tuple(names_of(pyramid) for pyramid in pyramids)))
        keep_first(store, len(opened))
        entries = [_entry(number, *opened[number], digests[store / number], chunk, shard) for number in opened]
        for entry in entries:
            _describe(store, entry)
        publish_images(store, entries, {"sample": sample, "revision": REVISIONS["ingest"]})
        logger.info("%d series in %s", len(entries), store)


def _open_all(paths, inside, channels, pixel_size, failures) -> dict[str, tuple[str, Series]]:
    """The series of all files by their number in the store; a file that does not open fails alone."""
    opened: dict[str, tuple[str, Series]] = {}
    for path in paths:
        try:
            found = [_select(series, channels, pixel_size) for series in open_series(path, inside)]
        except (ValueError, OSError) as error:
            failures[Path(path).name] = error
            continue
        for series in found:
            opened[str(len(opened))] = (path, series)
    return opened


def _title(name: str, opened) -> str:
    return f"{name} ({Path(opened[name][0]).name})" if name in opened else name


def _select(series: Series, channels, pixel_size) -> Series:
    """Keep the asked channels and replace the pixel size."""
    if pixel_size is not None:
        depth = series.pixel_size[0] if series.pixel_size else 1.0
        series = series._replace(pixel_size=(depth, pixel_size, pixel_size))
    if channels is None:
        return series
    index = [_channel_number(series, channel) for channel in channels]
    shape = (series.shape[0], len(index), *series.shape[2:])
    return series._replace(
        shape=shape,
        channels=tuple(series.channels[k] for k in index),
        read=partial(_read_channels, series.read, index),
    )


def _read_channels(read, index: list[int], region) -> np.ndarray:
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


def _pyramid(store: Path, number: str, path: str, series: Series, chunk: int, shard: int) -> Pyramid:
    """Its blocks are those of this file's content at this place: another file's are never taken for them."""
    shapes = level_shapes(series.shape, chunk)
    source = digest([source_digest(path), series.name])
    return Pyramid(number, store / number, shapes, series.dtype, series.read, chunk, shard, source=source)


def _entry(number: str, path: str, series: Series, content: str, chunk: int, shard: int) -> dict:
    """What later stages and the report need to know of one series."""
    if series.pixel_size is None:
        logger.info("series %s (%s): pixel size unknown, unit pixels", number, series.name)
    return {
        "path": number,
        "name": series.name,
        "source": Path(path).name,
        "shape": list(series.shape),
        "dtype": str(series.dtype),
        "pixel_size": series.pixel_size and list(series.pixel_size),
        "channels": list(series.channels),
        "levels": len(level_shapes(series.shape, chunk)),
        "chunk": chunk,
        "shard": shard,
        "digest": content,
    }


def _describe(store: Path, entry: dict) -> None:
    channels = [{"label": name} for name in entry["channels"]]
    ome = image_metadata(entry["name"], entry["levels"], entry["pixel_size"], channels)
    write_group(store / entry["path"], {"ome": ome})
