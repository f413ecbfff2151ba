"""Compares objects with the truth: one line per image in `results/scores.tsv`."""

import logging
from pathlib import Path

import pandas as pd

from unetpipe.manifest import replacing
from unetpipe.scoring import COLUMNS, score_image
from unetpipe.store import label_path, open_array, read_attributes

logger = logging.getLogger(__name__)


def write_scores(
    images: list[str], truths: list[str], objects: list[str], output: str, *, samples: list[list[str]], iou: float = 0.5
) -> None:
    """Score every series of the annotated samples that were predicted.

    Parameters
    ----------
    images, truths, objects : list of path
        Root `zarr.json` of the image stores, manifests of truth and objects.
    output : path
        Tab-separated, one row per series.
    samples : list of [name, split]
        In the order of the paths.
    iou : float
        See `score_image`.
    """
    rows = []
    for image, (sample, split), _ in zip(images, samples, zip(truths, objects, strict=True), strict=True):
        for entry in read_attributes(image)["series"]:
            parts = [
                open_array(label_path(Path(image).parent, entry["path"], name) / "0")[...]
                for name in ("truth", "objects", "classes")
            ]
            figures = score_image(*parts, iou=iou)
            rows.append({"sample": sample, "split": split, "series": entry["name"], **figures})
    frame = pd.DataFrame(rows, columns=COLUMNS)
    with replacing(output) as aside:
        frame.to_csv(aside, sep="\t", index=False, float_format="%.6g")
    logger.info("%d images scored", len(frame))
