"""Table and outlines of a million objects, of one that is huge, and of few by scikit-image, object by object.

Every run is a process of its own, which reports its seconds, without imports, and its peak of memory.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage
from scipy import ndimage
from skimage.measure import find_contours, label, regionprops_table

CHUNK, SHARD, PATTERN = 256, 1024, 2048
PROPERTIES = ("label", "area", "centroid", "bbox", "perimeter", "axis_major_length", "axis_minor_length")
PROPERTIES += ("eccentricity", "solidity", "intensity_mean", "intensity_std")
PERCENTS = (5, 25, 50, 75, 95)


def main():
    """Print one line for each claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=32768)
    parser.add_argument("--small", type=int, default=2048, help="side of the image that the peer measures, pixels")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(*options.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        own = run("own", draw(Path(folder) / "large", options.side))
        spent, used = own["seconds"], own["peak"] / 1e9
        print(f'claim="table and outlines of {own["objects"]} objects, seconds" value={spent:.0f} mark=300', flush=True)
        print(f'claim="likewise, peak of memory, GB" value={used:.2f} mark=2', flush=True)
        own = run("own", draw(Path(folder) / "net", options.side // 4, net=True))
        print(f'claim="one object, a net of {options.side // 4}², seconds" value={own["seconds"]:.0f}', flush=True)
        print(f'claim="likewise, peak of memory, GB" value={own["peak"] / 1e9:.2f}', flush=True)
        small = draw(Path(folder) / "small", options.small)
        own, peer = run("own", small), run("peer", small)
        ratio = peer["seconds"] / own["seconds"]
        print(
            f'claim="of {own["objects"]} objects, speed" value={ratio:.1f} '
            f'peer="regionprops_table and find_contours of scikit-image {skimage.__version__}"'
        )


def draw(folder, side, *, net=False):
    """A slide of three channels with its objects: a pattern that repeats, with ids that do not; or all around them."""
    from unetpipe.manifest import write_json
    from unetpipe.store import create_array, label_path, publish_images, write_group, write_region

    random = np.random.default_rng(0)
    field = ndimage.gaussian_filter(random.normal(size=(PATTERN, PATTERN)), 4.4)
    blobs = field > np.percentile(field, 75)
    objects = np.uint32(~blobs) if net else label(blobs, connectivity=1).astype(np.uint32)
    grey = random.integers(0, 255, (1, 3, 1, PATTERN, PATTERN), np.uint8)
    store, found = folder / "image.zarr", folder / "found.zarr"
    shape = (1, 3, 1, side, side)
    image = create_array(store / "0" / "0", shape, np.uint8, chunk=CHUNK, shard=SHARD)
    labels = create_array(
        label_path(store, "0", "objects") / "0", (1, 1, side, side), np.uint32, chunk=CHUNK, shard=SHARD, kind="label"
    )
    probability = create_array(found / "0", (1, 1, 1, side, side), np.uint8, chunk=CHUNK, shard=SHARD)
    count = 0
    for y in range(0, side, PATTERN):
        for x in range(0, side, PATTERN):
            place = (slice(0, 1), slice(y, y + PATTERN), slice(x, x + PATTERN))
            here = np.where(objects > 0, objects + np.uint32(0 if net else count), 0)
            write_region(labels, (slice(0, 1), *place), here[None, None])
            write_region(image, (slice(0, 1), slice(0, 3), *place), grey)
            write_region(probability, (slice(0, 1), slice(0, 1), *place), (here > 0)[None, None, None] * np.uint8(255))
            count = 1 if net else count + int(objects.max())
    entry = {"name": "0", "path": "0", "shape": shape, "channels": ["r", "g", "b"], "pixel_size": [1, 0.5, 0.5]}
    publish_images(store, [{**entry, "origin": None, "dtype": "uint8"}], {})
    write_group(found, {"unetpipe": {}})
    write_json(folder / "objects.json", {"series": [{"objects": count}]})
    return folder


def run(way, folder):
    """One way in a process of its own."""
    command = [sys.executable, __file__, "--one", way, str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def one(way, folder):
    """Measure, and print seconds, bytes and objects."""
    measure, start = WAYS[way](Path(folder)), time.perf_counter()
    measure()
    objects = json.loads((Path(folder) / "objects.json").read_text())["series"][0]["objects"]
    print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak(), "objects": objects}))


def peak():
    """Highest resident memory so far, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def own(folder):
    """Two threads, as the rule `measure` does it."""
    from unetpipe.measure import write_measurements

    inputs = [str(folder / name) for name in ("image.zarr/zarr.json", "found.zarr/zarr.json", "objects.json")]
    outputs = [str(folder / name) for name in ("own.parquet", "own.geojson.gz")]
    return lambda: write_measurements(*inputs, *outputs, sample="slide", workers=2)


def peer(folder):
    """The whole image in memory."""
    from unetpipe.store import label_path, open_array

    def measure():
        labels = open_array(label_path(folder / "image.zarr", "0", "objects") / "0")[0, 0]
        image = np.moveaxis(open_array(folder / "image.zarr" / "0" / "0")[0, :, 0], 0, -1)
        percentiles = [lambda mask, grey: np.percentile(grey[mask], PERCENTS, axis=0)]
        table = regionprops_table(labels, image, properties=PROPERTIES, extra_properties=percentiles)
        with gzip.open(folder / "peer.geojson.gz", "wt") as file:
            for number, *box in zip(table["label"], *(table[f"bbox-{k}"] for k in range(4)), strict=True):
                mask = labels[box[0] : box[2], box[1] : box[3]] == number
                rings = [ring.tolist() for ring in find_contours(np.pad(mask, 1).astype(float), 0.5)]
                file.write(json.dumps({"type": "Polygon", "coordinates": rings}) + "\n")

    return measure


WAYS = {"own": own, "peer": peer}

if __name__ == "__main__":
    main()
