"""Fills the page, and writes the same numbers as tables beside it."""

import base64
import logging
import math
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from unetpipe.curve import curve_table
from unetpipe.manifest import replacing, write_bytes
from unetpipe.report import charts
from unetpipe.report.gather import UNREADABLE, Run, Sample, gather, pixels
from unetpipe.report.odd import FEWEST, LIMIT, MEASURES, judge
from unetpipe.report.pictures import layers, pixel_counts, thumbnail, views
from unetpipe.report.stages import PLACES
from unetpipe.totals import wide

logger = logging.getLogger(__name__)
SO_FAR = "report-so-far.html"  # of a run that has not ended: `report.html` is written by its rule alone
PACKAGES = ("unetpipe", "torch", "zarr", "zarrs", "numpy", "scipy", "scikit-image", "dask", "snakemake")
BYTES = 12_000_000  # of all pictures together, as they stand in the page
RICH = 1_500_000  # of the pictures of one sample, where there are few samples
DRAWN = 500  # samples that have pictures: the first of the order
NONE = np.zeros((2, 256), int)
SMALL = 4_000  # of a thumbnail
SIDES = (1024, 320)  # of pictures, longest, pixels: where a sample has `PICTURE` bytes, and where it has fewer
PICTURE = 150_000  # a sample has as many pictures as have so many bytes each
PICTURES = 6  # and no more than these
COLUMNS = ("sample", "split", "state", "message", "images", "megapixels", "objects")
INTERVALS = (("f1", "F1"), ("ap", "AP"), ("mean_iou", "mean IoU"))
TROUBLE = ("failed", "unfinished", "empty")  # come first, in this order


class Shown(NamedTuple):
    """What the page shows of a sample beside its numbers."""

    thumbnail: str
    pictures: list[dict]
    counts: np.ndarray  # see `pictures.pixel_counts`


def write_report(
    output: str | Path,
    *,
    results: str | Path,
    samples: Sequence[Sequence[str]] | None = None,
    config: dict | None = None,
    networks: Sequence[str | Path] | None = None,
) -> None:
    """Write one self-contained HTML page about whatever a run has left, finished or not.

    Parameters
    ----------
    output : path
        The page; `samples.tsv` and `samples.parquet` come into the folder of the same name without its ending.
    results : path
        What the rules wrote; their logs lie in `logs` beside it.
    samples, networks
        See `gather.gather`.
    config : dict, optional
        All settings, shown as they were.
    """
    root, output = Path(results), Path(output)
    run = gather(root, samples, networks)
    table = ranked(run)
    order = [run.samples[number] for number in table.index]
    shown = [_draw(root, sample, allowance(len(order))) for sample in order[:DRAWN]]
    shown += [Shown("", [], NONE)] * (len(order) - len(shown))
    page = _template().render(
        **_numbers(run, table),
        **_charts(run, sum((part.counts for part in shown), NONE)),
        samples=list(zip(table.to_dict("records"), order, shown, strict=True)),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else "",
        folder=root.absolute().parent.name,
        data_uri=_data_uri,
    )
    _write_tables(output.with_suffix(""), table)
    write_bytes(output, page.encode())
    logger.info("%s: %d samples, %.1f MB", output, len(order), len(page) / 1e6)


def _template():
    environment = Environment(
        loader=PackageLoader("unetpipe.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    return environment.get_template("page.html")


def _figure(value: float | None, form: str = "{:.3g}") -> str:
    """A number as text, a dash where there is none."""
    return "–" if value is None or math.isnan(value) else form.format(value)


# ---------------------------------------------------------------- samples


def ranked(run: Run) -> pd.DataFrame:
    """One row for each sample: those in trouble first, then the oddest; the index is its place in the run."""
    rows = [_row(sample) for sample in run.samples]
    table = pd.DataFrame(rows, columns=[*COLUMNS, *MEASURES])
    table = table.join(judge(table[list(MEASURES)].astype(float)))
    if len(run.scores):
        known = wide(run.scores).set_index("sample")[["f1", "ap", "mean_iou"]]
        table = table.join(known, on="sample")
    trouble = table.state.map({state: number for number, state in enumerate(TROUBLE)}).fillna(len(TROUBLE))
    order = np.lexsort([table["sample"], -table.odd, trouble])
    table = table.iloc[order]
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def _row(sample: Sample) -> dict:
    return {
        "sample": sample.name,
        "split": sample.split,
        "state": sample.state,
        "message": sample.message,
        "images": len(sample.entries),
        "megapixels": sum(map(pixels, sample.entries)) / 1e6,
        "objects": sample.objects.number if sample.objects else np.nan,
        **sample.measures,
    }


def _write_tables(folder: Path, table: pd.DataFrame) -> None:
    with replacing(folder / "samples.tsv") as aside:
        table.to_csv(aside, sep="\t", index=False, float_format="%.6g")
    with replacing(folder / "samples.parquet") as aside:
        table.to_parquet(aside, index=False)


def allowance(samples: int) -> int:
    """Bytes for the pictures of each of so many samples."""
    return min(RICH, BYTES // max(1, min(samples, DRAWN)))


def _draw(root: Path, sample: Sample, most: int) -> Shown:
    """Thumbnail and pictures of a sample; none of what cannot be read."""
    count = min(PICTURES, max(1, most // PICTURE))
    drawn: list[dict] = []
    small, counts = "", NONE.copy()
    try:
        for view in views(root, sample, count, SIDES[most < PICTURE]):
            small = small or thumbnail(view, SMALL)
            counts += pixel_counts(view)
            if len(drawn) < count:
                drawn.append({"title": view.title, "zoom": view.zoom, "layers": layers(view, (most - SMALL) // count)})
    except UNREADABLE as error:
        logger.warning('sample "%s" has no picture: %s', sample.name, error)
    return Shown(small, drawn, counts)


# ---------------------------------------------------------------- numbers and charts


def _numbers(run: Run, table: pd.DataFrame) -> dict:
    scores = run.scores
    return {
        "totals": wide(scores).to_dict("records") if len(scores) else [],
        "scores": wide(scores, whole=False).to_dict("records") if len(scores) else [],
        "networks": run.networks,
        "curves": {name: _data_uri(curve_table(note["curve"])) for name, note in run.networks.items()},
        "costs": run.costs.to_dict("records"),
        "found": int(table.objects.sum()),
        "progress": _progress(run),
        "stopped": [stage for stage in run.stages if stage.message],
        "measures": MEASURES,
        "limit": LIMIT,
        "judged": len(table) >= FEWEST,
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }


def _progress(run: Run) -> list[dict]:
    """How many jobs of each rule came how far, in the order of the rules."""
    stages = [*run.stages, *(stage for sample in run.samples for stage in sample.stages)]
    counted = pd.DataFrame(stages, columns=["rule", "name", "state", "message"])
    table = pd.crosstab(counted.rule, counted.state).reindex([rule for rule in PLACES if rule in set(counted.rule)])
    return table.reset_index().to_dict("records")


def _charts(run: Run, counts: np.ndarray) -> dict:
    tables = [sample.objects for sample in run.samples if sample.objects and sample.objects.number]
    sizes = {unit: sum(t.sizes for t in tables if t.unit == unit) for unit in sorted({t.unit for t in tables})}
    dice, best = charts.thresholds(counts) if counts[1].any() else ("", None)
    return {
        "training": charts.training({name: note["curve"] for name, note in run.networks.items()}),
        "intervals": [charts.intervals(wide(run.scores), *pair) for pair in INTERVALS] if len(run.scores) else [],
        "strictness": charts.strictness(run.scores) if len(run.scores) else "",
        "dice": dice,
        "best": best,
        "sizes": [charts.sizes(np.asarray(counted), unit) for unit, counted in sizes.items()],
        "densities": charts.densities(np.concatenate([t.densities for t in tables])) if tables else "",
    }


def _data_uri(text: str, kind: str = "text/tab-separated-values") -> str:
    """A file to download."""
    return f"data:{kind};base64," + base64.b64encode(text.encode()).decode()
