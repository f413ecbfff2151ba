"""The scores of real and of random labels beside those of other programs: the largest difference.

Found objects are those of a global threshold, one for each image, after Otsu. Peers not installed are left out.
"""

import argparse
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.io import imread
from skimage.measure import label
from tifffile import imwrite

from unetpipe.scoring import Compared, score
from unetpipe.totals import THRESHOLDS, pooled

SHARED = Path(__file__).parents[2] / "shared" / "data"


def main():
    """Print one line for each claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED, help="folder that holds dsb2018/")
    parser.add_argument("--images", type=int, default=20, help="of each kind")
    options = parser.parse_args()
    kinds = {"random": [noise(seed) for seed in range(options.images)], "dsb2018": nuclei(options.data, options.images)}
    for kind, pairs in kinds.items():
        for peer, compare in PEERS.items():
            try:
                number = version(peer)
            except PackageNotFoundError:
                print(f'claim="scores of {kind} labels" peer="{peer}" not installed: see benchmarks/requirements.txt')
                continue
            worst = max(compare(truth, found, figures(truth, found)) for truth, found in pairs)
            said = f'claim="scores of {kind} labels, largest difference" value={worst:.1e}'
            print(f'{said} peer="{peer} {number}" n={len(pairs)}')


def figures(truth, found):
    """All own figures of one image, by metric and threshold."""
    import pandas as pd

    image = Compared.of(truth, found, (truth > 0).astype(np.uint8))
    return {name: float(value[0]) for name, value in pooled(pd.DataFrame([score(image)])).items()}


def noise(seed):
    """Blobs, and others that partly cover them."""
    random = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(random.normal(size=(200, 220)), 4)
    other = ndimage.gaussian_filter(random.normal(size=(200, 220)), 4) * 0.3 + field
    return tuple(
        label(values > np.percentile(values, 70), connectivity=1).astype(np.uint32) for values in (field, other)
    )


def nuclei(folder, count):
    """Nuclei of the 2018 Data Science Bowl."""
    pairs = []
    for path in sorted((folder / "dsb2018" / "images").glob("*"))[:count]:
        truth, image = imread(folder / "dsb2018" / "labels" / path.name), imread(path)
        pairs.append((truth.astype(np.uint32), label(image > threshold_otsu(image), connectivity=1).astype(np.uint32)))
    return pairs


def stardist(truth, found, own):
    """Matching of objects at all thresholds."""
    from stardist.matching import matching

    names = {"precision": "precision", "recall": "recall", "f1": "f1", "ap": "accuracy", "pq": "panoptic_quality"}
    differences = [0.0]
    for threshold in THRESHOLDS:
        other = matching(truth, found, thresh=threshold)
        differences += [abs(own[name, threshold] - getattr(other, theirs)) for name, theirs in names.items()]
    return max(differences)


def tracking(truth, found, own):
    """SEG of the Cell Tracking Challenge."""
    from ctc_metrics.metrics import seg
    from ctc_metrics.utils.representations import match

    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{name}.tif" for name in ("truth", "found")]
        for path, image in zip(paths, (truth, found), strict=True):
            imwrite(path, image.astype(np.uint16))
        names, *_, overlap = match(*paths)
    return abs(own["mean_iou", None] - seg([names], [overlap]))


def monai(truth, found, own):
    """Hausdorff distance, 95 %, in parts of it since float32 there, and Dice of the foreground."""
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance

    masks = [torch.from_numpy((image > 0)[None, None]) for image in (found, truth)]
    distance = compute_hausdorff_distance(*masks, include_background=True, percentile=95).item()
    dice = compute_dice(*masks, include_background=True).item()
    return max(abs(own["hausdorff_95", None] / distance - 1), abs(own["dice_1", None] - dice))


PEERS = {"stardist": stardist, "py-ctcmetrics": tracking, "monai": monai}

if __name__ == "__main__":
    main()
