"""Components from Zarr to Zarr, against dask-image the same way, and cc3d and SciPy on the whole array in memory.

Every run is a process of its own, which reports its seconds, without imports, and its peak of memory beyond that of
the imports. Reading and writing count for all. Peers that are not installed are left out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from scipy import ndimage

CHUNK, SHARD = 256, 1024
PEERS = {"dask-image": 8.0, "connected-components-3d": 0.5, "scipy": 0.5}


def main():
    """Print one line for each claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=16384, help="of the compared image, pixels")
    parser.add_argument("--sides", type=int, nargs="*", default=[2048, 8192, 32768], help="whose times are compared")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("WAY", "SOURCE", "STORE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(*options.one)
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(draw(Path(folder), options.side), ("connected-components-3d", "scipy"), options)
            compare(draw(Path(folder), options.side // 4), ("dask-image",), options)  # it takes minutes for more
            growth(Path(folder), options)


def compare(source, peers, options):
    """The own way and others in turn."""
    ways, taken = ["own", *filter(installed, peers)], {}
    for _ in range(options.rounds):
        for way in ways:
            taken.setdefault(way, []).append(run(way, source))
    median = {way: statistics.median(result["seconds"] for result in results) for way, results in taken.items()}
    peak = {way: max(result["peak"] for result in results) for way, results in taken.items()}
    objects = {way: results[0]["objects"] for way, results in taken.items()}
    side = source.name.removeprefix("probability-")
    print(f'claim="labels of {side}², seconds" value={median["own"]:.1f} objects={objects["own"]}')
    for way in ways[1:]:
        peer, same = f"{way} {version(way)}", "same" if objects[way] == objects["own"] else "OTHER"
        ratio, used = median[way] / median["own"], peak["own"] / peak[way]
        reached = "ok" if ratio >= PEERS[way] else "short"
        print(f'claim="likewise, speed" value={ratio:.2f} mark={PEERS[way]} {reached} peer="{peer}" objects={same}')
        print(f'claim="likewise, memory" value={used:.2f} ({peak["own"]:.2e} of {peak[way]:.2e}) peer="{peer}"')


def growth(folder, options):
    """Nanoseconds a pixel of small and large images."""
    for side in options.sides:
        results = [run("own", draw(folder, side)) for _ in range(options.rounds)]
        seconds = statistics.median(result["seconds"] for result in results)
        memory = max(result["peak"] for result in results)
        print(f'claim="labels of {side}², nanoseconds a pixel" value={1e9 * seconds / side**2:.1f} peak={memory:.2e}')


def draw(folder, side):
    """Probabilities of blobs, about one for each 1024 pixels; a pattern of 2048² that repeats."""
    from unetpipe.store import create_array, write_region

    target = folder / f"probability-{side}"
    if not target.exists():
        field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(2048, 2048)), 4.4, mode="wrap")
        ramp = np.clip((field - np.percentile(field, 75)) / field.std() * 200 + 127, 0, 255)
        array = create_array(target, (1, 1, 1, side, side), np.uint8, chunk=CHUNK, shard=SHARD)
        for y in range(0, side, 2048):
            for x in range(0, side, 2048):
                region = (*(slice(0, 1),) * 3, slice(y, y + 2048), slice(x, x + 2048))
                write_region(array, region, ramp.astype(np.uint8)[None, None, None])
    return target


def installed(way):
    """Whether a peer can be compared with."""
    try:
        return way == "own" or bool(version(way))
    except PackageNotFoundError:
        print(f'claim="labels, speed" peer="{way}" not installed: see benchmarks/requirements.txt')
        return False


def run(way, source):
    """One way in a process of its own."""
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, __file__, "--one", way, str(source), store]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def one(way, source, store):
    """Label, and print seconds, bytes and objects."""
    label = WAYS[way]()
    before, start = peak(), time.perf_counter()
    count = label(Path(source), Path(store))
    print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak() - before, "objects": int(count)}))


def peak():
    """Highest resident memory so far, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def own():
    """Two threads, as the rule `label` does it."""
    from unetpipe.blocks import Ledger
    from unetpipe.label import Objects, Settings
    from unetpipe.pyramid import Pyramid, write_pyramids

    def label(source, store):
        objects = Objects(source, SHARD, Settings(0.5, 0, 0, 0), workers=2)
        count = objects.count().note
        read = (objects.read, CHUNK, SHARD, "label")
        with Ledger(store, "objects", "") as ledger:
            pyramid = Pyramid("0", store / "objects", [objects.shape], np.dtype(np.uint32), *read)
            write_pyramids([pyramid], ledger, {}, workers=2)
        return count

    return label


def dask_image():
    """Two threads."""
    import dask
    import dask.array as da
    from dask_image.ndmeasure import label as peer

    from unetpipe.store import open_array

    def label(source, store):
        array = open_array(source)
        with dask.config.set(scheduler="threads", num_workers=2):
            mask = da.from_array(array, chunks=array.shards)[0, 0, 0] > 127
            labels, count = peer(mask)
            labels = labels.astype(np.uint32)[None, None]
            da.store(labels, empty(store, labels.shape), lock=False)
            return count.compute()

    return label


def scipy():
    """One thread."""
    return whole(ndimage.label)


def cc3d():
    """One thread."""
    from cc3d import connected_components

    return whole(lambda mask: connected_components(mask, connectivity=4, return_N=True))


def whole(function):
    """A peer that takes the whole array and gives labels and their number."""
    from unetpipe.store import open_array

    def label(source, store):
        labels, count = function(open_array(source)[0, 0, 0] > 127)
        empty(store, (1, 1, *labels.shape))[...] = labels[None, None].astype(np.uint32, copy=False)
        return count

    return label


def empty(store, shape):
    """The array that every way fills."""
    from unetpipe.store import create_array

    return create_array(store / "objects", shape, np.uint32, chunk=CHUNK, shard=SHARD, kind="label")


WAYS = {"own": own, "dask-image": dask_image, "scipy": scipy, "connected-components-3d": cc3d}

if __name__ == "__main__":
    main()
