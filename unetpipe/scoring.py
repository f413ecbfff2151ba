"""The figures of an image, and of a sample of many images."""

import numpy as np
import pandas as pd

from unetpipe.metrics import detection, matches, mean_iou, overlaps, rand_and_information
from unetpipe.store import IGNORED

COLUMNS = ["sample", "split", "series", "truths", "objects", "matched", "precision", "recall", "f1", "ap"]
COLUMNS += ["mean_iou", "pixel_error", "rand", "information"]


def score_image(truth: np.ndarray, found: np.ndarray, classes: np.ndarray, *, iou: float) -> dict[str, float]:
    """All figures of one image.

    Parameters
    ----------
    truth, found : (*space) int
        Instance labels.
    classes : (*space) uint8
        Annotated classes, 255 where ignored.
    iou : float
        Least intersection over union of a matched pair.
    """
    known = classes != IGNORED
    table = overlaps(truth, found, known)
    matched, truths, founds = matches(table, iou), len(table.truth), len(table.found)
    return {
        "truths": truths,
        "objects": founds,
        "matched": matched,
        **detection(matched, truths, founds),
        "mean_iou": mean_iou(table),
        "pixel_error": float(((classes > 0) != (found > 0))[known].mean()) if known.any() else 0.0,
        **rand_and_information(np.where(known, truth, 0), found),
    }


def summary(scores: pd.DataFrame, *, repeats: int = 0, seed: int = 1) -> pd.DataFrame:
    """Figures of each sample: objects pooled over its images, the others as the mean of its images.

    Parameters
    ----------
    scores : DataFrame
        As `write_scores` writes it.
    repeats : int
        Bootstrap samples of the images (Efron 1979), for 95 % intervals: columns `{figure}_low` and `{figure}_high`.
    seed : int
        Of the bootstrap.
    """
    rows = []
    for (sample, split), group in scores.groupby(["sample", "split"], sort=False):
        counts = {"images": len(group), "truths": int(group.truths.sum()), "objects": int(group.objects.sum())}
        row = {"sample": sample, "split": split, **counts}
        row |= {name: float(values[0]) for name, values in _figures(group, np.ones((1, len(group)))).items()}
        if repeats:
            drawn = np.random.default_rng(seed).multinomial(len(group), [1 / len(group)] * len(group), repeats)
            for name, values in _figures(group, drawn).items():
                row[f"{name}_low"], row[f"{name}_high"] = np.percentile(values, [2.5, 97.5])
        rows.append(row)
    return pd.DataFrame(rows)


def _figures(group: pd.DataFrame, times: np.ndarray) -> dict[str, np.ndarray]:
    """Every figure where each image counts so many times (repeats, images); 1 if there is nothing to find or miss."""
    matched, truths, founds = (times @ group[name].to_numpy(float) for name in ("matched", "truths", "objects"))
    nothing = truths + founds == 0
    figures = {
        "precision": _share(matched, founds, nothing),
        "recall": _share(matched, truths, truths == 0),
        "f1": _share(2 * matched, truths + founds, nothing),
        "ap": _share(matched, truths + founds - matched, nothing),
        "mean_iou": _share(times @ (group.mean_iou * group.truths).to_numpy(), truths, truths == 0),
    }
    return figures | {n: times @ group[n].to_numpy() / len(group) for n in ("pixel_error", "rand", "information")}


def _share(part, whole, empty) -> np.ndarray:
    return np.where(empty, 1.0, part / np.maximum(whole, 1))
