"""Labelling block by block from Zarr, against SciPy and scikit-image on the whole array in memory."""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy
import skimage
from scipy import ndimage

from unetpipe.label import Objects, Settings
from unetpipe.store import create_array, open_array, write_region


def main():
    """Print one line for each claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    peers = {
        f"scipy {scipy.__version__}": lambda mask: ndimage.label(mask)[0],
        f"scikit-image {skimage.__version__}": lambda mask: skimage.measure.label(mask, connectivity=1),
    }
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probability"
        create_array(source, (1, 1, 1, options.side, options.side), np.uint8, chunk=256, shard=1024)[...] = scene(
            options.side
        )
        times = {"own": [], **{name: [] for name in peers}}
        for run in range(options.runs):
            times["own"].append(own(source, Path(folder) / f"own-{run}"))
            for name, function in peers.items():
                times[name].append(peer(source, Path(folder) / f"{name}-{run}", function))
    ours = statistics.median(times["own"])
    for name in peers:
        ratio = statistics.median(times[name]) / ours
        print(
            f'claim="labels {options.side}² from Zarr to Zarr, speed" value={ratio:.2f} peer="{name}" n={options.runs}'
        )


def scene(side):
    """Blobs, about one in 260 pixels."""
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(side, side)).astype(np.float32), 4)
    return np.where(field > np.percentile(field, 70), 255, 0).astype(np.uint8)[None, None, None]


def own(source, target):
    """Seconds of labelling and writing, two threads, one shard each in memory."""
    start = time.perf_counter()
    objects = Objects(source, 1024, Settings(0.5, 0, 0, 0), workers=2)
    array = create_array(target, objects.shape, np.uint32, chunk=256, shard=1024, kind="label")
    for y in range(0, objects.shape[2], 1024):
        for x in range(0, objects.shape[3], 1024):
            region = (slice(0, 1), slice(0, 1), slice(y, y + 1024), slice(x, x + 1024))
            write_region(array, region, objects.read(region))
    return time.perf_counter() - start


def peer(source, target, function):
    """Seconds of the same on the whole array in memory."""
    start = time.perf_counter()
    labels = function(open_array(source)[0, 0, 0] > 127).astype(np.uint32)
    create_array(target, (1, 1, *labels.shape), np.uint32, chunk=256, shard=1024, kind="label")[...] = labels[
        None, None
    ]
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
