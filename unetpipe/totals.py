"""The figures of many images: pooled, with intervals, as a tidy table and as a wide one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

PLACE = ["sample", "split", "series"]
ALL = "(all)"  # series of the rows of a whole sample
COLUMNS = (*PLACE, "metric", "threshold", "value", "low", "high")
THRESHOLDS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))  # of which `mean_ap` is the mean
MEANS = ("pixel_error", "rand", "information", "rand_error", "hausdorff_95", "warping_error")
Figures = dict[tuple[str, float | None], np.ndarray]


def pooled(images: pd.DataFrame, times: np.ndarray | None = None) -> Figures:
    """Figures of many images together: objects and pixels pooled, the others the means of the images.

    Parameters
    ----------
    images : DataFrame
        One row of `scoring.score` for each.
    times : (repeats, images), optional
        How often each image counts; once if not given.

    Returns
    -------
    dict of (metric, threshold) → (repeats,)
        The threshold is None where there is none. 1 if there is nothing to find or miss, NaN if there is no object at
        seams, or elsewhere.
    """
    weights = np.ones((1, len(images))) if times is None else times
    total = {name: weights @ images[name].to_numpy(float) for name in images}
    truths, objects = total["truths"], total["objects"]
    figures: Figures = {("truths", None): truths, ("objects", None): objects}
    for name in images:
        if name.startswith("matched "):
            threshold = float(name.split()[1])
            for metric, values in _detection(total, threshold).items():
                figures[metric, threshold] = values
    aps = [values for (metric, threshold), values in figures.items() if metric == "ap" and threshold in THRESHOLDS]
    figures["mean_ap", None] = np.mean(aps, axis=0)
    figures["mean_iou", None] = _share(total["covered"], truths)
    for number in (name.split()[1] for name in images if name.startswith("shared ")):
        shared, wrong = total[f"shared {number}"], total[f"false {number}"] + total[f"missed {number}"]
        figures[f"iou_{number}", None] = _share(shared, shared + wrong)
        figures[f"dice_{number}", None] = _share(2 * shared, 2 * shared + wrong)
    for name in (name for name in MEANS if name in images):
        known = images[name].notna().to_numpy(float)  # large planes have no warping error
        some = weights @ known
        figures[name, None] = weights @ images[name].fillna(0).to_numpy(float) / np.where(some == 0, np.nan, some)
    for name in ("seams", "inside") if "seams" in images else ():
        some = np.where(total[name] == 0, np.nan, total[name])
        figures[f"f1_{name}", None] = total[f"{name} matched"] / some
    return figures


def read_scores(path: str | Path) -> pd.DataFrame:
    """The tidy table that `score` wrote: samples and series are text, whatever they are called (`NA`, `001`)."""
    numbers = {name: [""] for name in COLUMNS if name not in (*PLACE, "metric")}
    return pd.read_csv(path, sep="\t", dtype=dict.fromkeys(PLACE, str), keep_default_na=False, na_values=numbers)


def overall(images: pd.DataFrame) -> dict[str, float]:
    """Figures of many images together, each at the first threshold; see `pooled`."""
    figures: dict[str, float] = {"images": len(images)}
    for (metric, _), (value,) in pooled(images).items():
        figures.setdefault(metric, float(value))
    return figures


def _detection(total: dict[str, np.ndarray], threshold: float) -> dict[str, np.ndarray]:
    """As `metrics.detection`, and the panoptic quality (Kirillov et al. 2019)."""
    matched, overlap = total[f"matched {threshold}"], total[f"overlap {threshold}"]
    truths, objects = total["truths"], total["objects"]
    return {
        "matched": matched,
        "precision": np.where(objects == 0, truths == 0, _share(matched, objects)),
        "recall": _share(matched, truths),
        "f1": _share(2 * matched, truths + objects),
        "ap": _share(matched, truths + objects - matched),
        "pq": _share(2 * overlap, truths + objects),
    }


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole == 0, 1.0, part / np.where(whole == 0, 1, whole))


def tidy(images: pd.DataFrame, *, repeats: int = 2000, seed: int = 1) -> pd.DataFrame:
    """Figures of every series and, in series `(all)`, of every sample, one in each row.

    Parameters
    ----------
    images : DataFrame
        Rows of `scoring.score` with the columns `sample`, `split` and `series`.
    repeats : int
        Bootstrap samples of a sample's images (Efron 1979), for 95 % intervals: columns `low` and `high`, empty for a
        single image.
    """
    rows: list[tuple] = []
    for (sample, split), own in images.groupby(["sample", "split"], sort=False):
        for series, parts in own.groupby("series", sort=False):
            rows += _rows((sample, split, series), parts.drop(columns=PLACE))
        rows += _rows((sample, split, ALL), own.drop(columns=PLACE), repeats if len(own) > 1 else 0, seed)
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(place: tuple, images: pd.DataFrame, repeats: int = 0, seed: int = 1) -> Iterator[tuple]:
    drawn: Figures = {}
    if repeats:
        share = np.full(len(images), 1 / len(images))
        drawn = pooled(images, np.random.default_rng(seed).multinomial(len(images), share, repeats))
    for (metric, threshold), (value,) in pooled(images).items():
        spread = drawn.get((metric, threshold))
        known = spread[~np.isnan(spread)] if spread is not None else ()  # some may have drawn no object at seams
        low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
        yield *place, metric, threshold, value, low, high


def wide(scores: pd.DataFrame, *, whole: bool = True) -> pd.DataFrame:
    """One row for each sample, or for each series, and one column for each metric, at its first threshold.

    Parameters
    ----------
    scores : DataFrame
        See `tidy`.
    whole : bool
        Samples; columns `{metric}_low` and `{metric}_high` hold the intervals, `images` the number of series.
    """
    chosen = scores[(scores.series == ALL) == whole]
    first = chosen.groupby("metric").threshold.transform("first")
    chosen = chosen[(chosen.threshold == first) | chosen.threshold.isna()]
    metrics = chosen.metric.unique()
    columns = {"value": "", "low": "_low", "high": "_high"} if whole else {"value": ""}
    parts = [
        chosen.pivot_table(name, PLACE, "metric", sort=False).reindex(columns=metrics).add_suffix(suffix)
        for name, suffix in columns.items()
    ]
    images = scores[scores.series != ALL].groupby(["sample", "split"]).series.nunique()
    table = pd.concat(parts, axis=1).reset_index().merge(images.rename("images").reset_index(), how="left")
    return table.astype({"truths": int, "objects": int, "matched": int})
