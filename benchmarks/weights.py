"""The border term of the weight maps, against the definition and against a distance transform per object."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy
from scipy import ndimage, spatial

from unetpipe.manifest import write_json
from unetpipe.store import create_array, label_path, write_group, write_region
from unetpipe.weights import border_weight, write_weights

SIDE, SHARD = 1024, 1024
BORDER, SIGMA = 10.0, 5.0
MEMORY = 2048  # MB, of the largest image


def main():
    """Print one line for each claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[1024, 4096, 16384], help="of the growing images, pixels"
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", nargs=2, metavar=("KIND", "SIDE"), help="only one whole job; prints seconds and MB")
    options = parser.parse_args()
    if options.write:
        whole_job(options.write[0], int(options.write[1]))
        return
    for kind, mark in (("nuclei", 3), ("dense cells", 4)):
        against_peers(kind, mark, options.runs)
        growth(kind, options.sides)


def against_peers(kind, mark, runs):
    """One thread, one plane in memory, one run for all."""
    labels = SCENES[kind](SIDE)
    count = len(np.unique(labels)) - 1
    border_weight(labels)  # compiled once, kept on disk
    own, cropped = [], []
    for _ in range(runs):
        own.append(seconds(border_weight, labels))
        cropped.append(seconds(cropped_transforms, labels))
    what = f"border term, {kind}, {SIDE}², {count} objects"
    ours = statistics.median(own)
    print(f'claim="{what}, ns a pixel" value={ours / labels.size * 1e9:.1f} n={runs}')
    claim(
        f"{what}, speed",
        statistics.median(cropped) / ours,
        mark,
        f"scipy {scipy.__version__}, cropped to 6 sigma",
        runs,
    )
    if kind == "nuclei":
        claim(
            f"{what}, speed",
            seconds(naive, labels) / ours,
            500,
            f"scipy {scipy.__version__}, one transform an object",
            1,
        )
    error = np.abs(border_weight(labels) - cropped_transforms(labels)).max()
    claim(f"{what}, largest difference from it in w0", error / BORDER, 1e-6, "the same", 1, least=False)


def growth(kind, sides):
    """The whole job from Zarr to Zarr, two threads, each size in a process of its own."""
    cost = {}
    for side in sides:
        command = [sys.executable, __file__, "--write", kind, str(side)]
        taken, memory = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        cost[side] = taken / side**2 * 1e9
        print(f'claim="weights job, {kind}, {side}², ns a pixel" value={cost[side]:.1f} peak_mb={memory:.0f} n=1')
    ratio = cost[sides[-1]] / min(cost.values())
    claim(f"weights job, {kind}, cost a pixel at {sides[-1]}² over the least", ratio, 1.3, "itself", 1, least=False)
    claim(f"weights job, {kind}, peak memory at {sides[-1]}², MB", memory, MEMORY, "itself", 1, least=False)


def claim(what, value, mark, peer, runs, *, least=True):
    """A line of a claim with a mark."""
    held = value >= mark if least else value <= mark
    print(
        f'claim="{what}" value={value:.3g} mark={mark} {"ok" if held else "short"} peer="{peer}" n={runs}', flush=True
    )


def seconds(function, *arguments):
    """Of one call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def naive(labels):
    """The definition: one transform of the whole image for every object."""
    nearest = np.full((2, *labels.shape), np.inf)
    for number in np.unique(labels[labels > 0]):
        distance = ndimage.distance_transform_edt(labels != number)
        np.minimum(nearest[1], np.maximum(nearest[0], distance), out=nearest[1])
        np.minimum(nearest[0], distance, out=nearest[0])
    return np.where(labels == 0, BORDER * np.exp(-(nearest.sum(axis=0) ** 2) / (2 * SIGMA**2)), 0)


def cropped_transforms(labels):
    """What a careful user writes: a transform of every object's surroundings, 6 sigma wide."""
    nearest, margin = np.full((2, *labels.shape), np.inf, np.float32), int(6 * SIGMA)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        grown = tuple(slice(max(0, part.start - margin), part.stop + margin) for part in box)
        distance = ndimage.distance_transform_edt(labels[grown] != number)
        first, second = nearest[0][grown], nearest[1][grown]
        np.minimum(second, np.maximum(first, distance), out=second)
        np.minimum(first, distance, out=first)
    return np.where(labels == 0, BORDER * np.exp(-(nearest.sum(axis=0) ** 2) / (2 * SIGMA**2)), 0)


def whole_job(kind, side):
    """Write a truth of that size by repeating one scene with other ids, then time `write_weights`."""
    scene = SCENES[kind](SIDE)
    with tempfile.TemporaryDirectory() as folder:
        images, output = Path(folder) / "images.ome.zarr", Path(folder) / "weights.zarr" / "zarr.json"
        entry = {"path": "0", "chunk": 256, "shard": SHARD, "pixel_size": None, "digest": kind}
        write_group(images, {"unetpipe": {"series": [entry]}})
        arrays = [
            create_array(
                label_path(images, "0", name) / "0", (1, 1, side, side), dtype, chunk=256, shard=SHARD, kind="label"
            )
            for name, dtype in (("truth", np.uint32), ("classes", np.uint8))
        ]
        for number, (y, x) in enumerate(np.ndindex(side // SIDE, side // SIDE)):
            ids = np.where(scene, scene + number * int(scene.max()), 0).astype(np.uint32)
            region = (slice(0, 1), slice(0, 1), slice(y * SIDE, (y + 1) * SIDE), slice(x * SIDE, (x + 1) * SIDE))
            for array, values in zip(arrays, (ids, (ids > 0).astype(np.uint8)), strict=True):
                write_region(array, region, values[None, None])
        truth = Path(folder) / "truth.json"
        write_json(truth, {"classes": 2, "series": [entry]})
        border_weight(scene.astype(np.uint32))
        taken = seconds(
            lambda: write_weights(str(images / "zarr.json"), str(truth), str(output), sample="s", workers=2)
        )
        print(taken, peak_memory())


def peak_memory():
    """Of this process, MB; other than the kernel's count of resources it does not begin with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def nuclei(side):
    """Ellipses of 8 to 16 pixels' radius, about 400 in 1024²."""
    random, labels = np.random.default_rng(0), np.zeros((side, side), np.int32)
    y, x = np.mgrid[-20:21, -20:21]
    for number in range(1, 400 * side**2 // 1024**2 + 1):
        (a, b), turn = random.uniform(8, 16, 2), random.uniform(0, np.pi)
        inside = ((x * np.cos(turn) + y * np.sin(turn)) / a) ** 2 + (
            (y * np.cos(turn) - x * np.sin(turn)) / b
        ) ** 2 <= 1
        top, left = random.integers(0, side - 41, 2)
        window = labels[top : top + 41, left : left + 41]
        window[inside & (window == 0)] = number
    return labels


def cells(side):
    """Large cells with membranes of about five pixels between, as in ISBI 2012."""
    points = np.random.default_rng(0).uniform(0, side, (400 * side**2 // 1024**2, 2))
    grid = np.stack(np.mgrid[:side, :side], axis=-1).reshape(-1, 2)
    distance, index = spatial.cKDTree(points).query(grid, k=2)
    return np.where(distance[:, 1] - distance[:, 0] < 5, 0, index[:, 0] + 1).astype(np.int32).reshape(side, side)


SCENES = {"nuclei": nuclei, "dense cells": cells}

if __name__ == "__main__":
    main()
