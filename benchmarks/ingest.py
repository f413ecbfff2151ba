"""A large TIFF to a sharded pyramid, against ngff-zarr, ome-zarr-py, and a loop that only decodes and writes level 0.

Every run is a process of its own, which reports its seconds, without imports, and its peak of memory. The peers write
the same levels, chunks and shards, each by the fastest of its ways. Those that are not installed are left out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

CHUNK, SHARD = 256, 1024
PEERS = {"ngff-zarr": 6.0, "ome-zarr": 6.0, "plain": 0.55}
PIPELINE = "zarr.core.codec_pipeline.BatchedCodecPipeline"  # the one that reads tifffile's stores


def main():
    """Print one line for each claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=16384, help="of the compared images, pixels")
    parser.add_argument("--sides", type=int, nargs="*", default=[4096, 32768], help="whose memory is compared, pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("WAY", "SOURCE", "STORE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(*options.one)
    else:
        with tempfile.TemporaryDirectory() as folder:
            for kind in ("jpeg", "none"):
                compare(Path(folder), kind, options)
            memory(Path(folder), options)


def compare(folder, kind, options):
    """The own way and all others in turn."""
    source = draw(folder / f"{kind}.tif", options.side, kind)
    taken = {"own": []}
    for _ in range(options.rounds):
        for way in ("own", *PEERS):
            if installed(way):
                taken.setdefault(way, []).append(run(way, source, folder)["seconds"])
    median = {way: statistics.median(values) for way, values in taken.items()}
    rate = 3 * options.side**2 / 1e6 / median["own"]
    print(f'claim="ingest {options.side}² x 3, {kind}, MB a second" value={rate:.0f} n={options.rounds}')
    for way, mark in PEERS.items():
        if way in median:
            peer = f"{way} {version(way)}" if way != "plain" else "two threads, level 0 alone"
            say(f"ingest {options.side}² x 3, {kind}, speed", median[way] / median["own"], mark, peer, options.rounds)
        else:
            print(f'claim="ingest, speed" peer="{way}" not installed: see benchmarks/requirements.txt')
    source.unlink()


def memory(folder, options):
    """Peaks of small and large images."""
    peaks = {side: run("own", draw(folder / f"{side}.tif", side, "jpeg"), folder)["peak"] for side in options.sides}
    for side, peak in peaks.items():
        reached = "ok" if peak <= 1.5e9 else "short"
        print(f'claim="ingest {side}² x 3, peak of memory, GB" value={peak / 1e9:.2f} mark=1.5 {reached}')
    if peaks:
        print(f'claim="likewise, largest over smallest image" value={max(peaks.values()) / min(peaks.values()):.2f}')


def say(claim, value, mark, peer, rounds):
    """One line of a claim."""
    print(
        f'claim="{claim}" value={value:.2f} mark={mark} {"ok" if value >= mark else "short"} peer="{peer}" n={rounds}',
        flush=True,
    )


def draw(path, side, kind):
    """A pyramidal TIFF of coloured, blurred noise."""
    random = np.random.default_rng(0)
    field = ndimage.gaussian_filter(random.normal(size=(1024, 1024, 3)).astype(np.float32), (6, 6, 0))
    tile = np.interp(field, (field.min(), field.max()), (0, 255)).astype(np.uint8)
    tile += random.integers(0, 8, tile.shape, np.uint8)
    ways = {"photometric": "rgb", "tile": (256, 256), "maxworkers": 2}
    ways |= {"compression": "jpeg", "compressionargs": {"level": 85}} if kind == "jpeg" else {}
    count = side // 1024
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(tiles(tile, count), shape=(side, side, 3), dtype=np.uint8, subifds=1, **ways)
        small = tile[::4, ::4]
        file.write(np.tile(small, (count, count, 1)), subfiletype=1, **ways)
    return path


def tiles(pattern, count):
    """The 256² tiles of an image that repeats a pattern of 1024², row by row."""
    for row in range(4 * count):
        for column in range(4 * count):
            y, x = row % 4 * 256, column % 4 * 256
            yield pattern[y : y + 256, x : x + 256]


def installed(way):
    """Whether a peer can be compared with."""
    try:
        return way in ("own", "plain") or bool(version(way))
    except PackageNotFoundError:
        return False


def run(way, source, folder):
    """Seconds and peak of memory of a process."""
    with tempfile.TemporaryDirectory(dir=folder) as store:
        call = [sys.executable, __file__, "--one", way, str(source), f"{store}/s.ome.zarr"]
        done = subprocess.run(call, check=True, capture_output=True, text=True)
        return json.loads(done.stdout.splitlines()[-1])


def one(way, source, store):
    """What a process does."""
    call = {"own": own, "plain": plain, "ngff-zarr": ngff_zarr, "ome-zarr": ome_zarr}[way](source, store)
    begun = time.perf_counter()
    call()
    seconds = time.perf_counter() - begun
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "peak": 1024 * int(peak.split()[1])}))


# ---------------------------------------------------------------- ways


def own(source, store):
    """The stage of the workflow."""
    from unetpipe.ingest import ingest

    return lambda: ingest([source], f"{store}/zarr.json", sample="s", chunk=CHUNK, shard=SHARD, workers=2)


def plain(source, store):
    """Two threads that copy shard by shard."""
    from unetpipe.readers import open_series
    from unetpipe.store import create_array

    (series,) = open_series(source)
    array = create_array(f"{store}/0", series.shape, series.dtype, chunk=CHUNK, shard=SHARD)
    side = range(0, series.shape[3], SHARD)

    def copy(corner):
        region = (slice(0, 1), slice(0, 3), slice(0, 1), *(slice(at, at + SHARD) for at in corner))
        array[region] = series.read(region)

    def call():
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(copy, [(y, x) for y in side for x in side]))

    return call


def pixels(source):
    """The file as a dask array (y, x, c), in pieces of a shard."""
    import dask
    import dask.array
    import zarr

    dask.config.set(scheduler="threads", num_workers=2)
    with zarr.config.set({"codec_pipeline.path": PIPELINE}):
        array = zarr.open_array(tifffile.TiffFile(source).series[0].aszarr(level=0), mode="r")
    return dask.array.from_array(array, chunks=(SHARD, SHARD, 3))


def factors(side):
    """Of the levels below the first."""
    found = [2]
    while side / found[-1] > CHUNK:
        found.append(2 * found[-1])
    return found


def ngff_zarr(source, store):
    """Mean of 2 x 2; tensorstore writes."""
    import ngff_zarr as peer

    image = peer.to_ngff_image(pixels(source).transpose(2, 0, 1), dims=("c", "y", "x"))
    steps = [{"y": factor, "x": factor} for factor in factors(image.data.shape[1])]

    def call():
        levels = peer.to_multiscales(
            image, steps, method=peer.Methods.DASK_BIN_SHRINK, chunks={"c": 1, "y": CHUNK, "x": CHUNK}, cache=False
        )
        shards = {"c": 3, "y": SHARD // CHUNK, "x": SHARD // CHUNK}
        peer.to_ngff_zarr(store, levels, version="0.5", chunks_per_shard=shards, use_tensorstore=True)

    return call


def ome_zarr(source, store):
    """Mean of 2 x 2."""
    from ome_zarr.scale import Methods
    from ome_zarr.writer import write_image

    image = pixels(source).transpose(2, 0, 1)
    options = {"chunks": (1, CHUNK, CHUNK), "shards": (3, SHARD, SHARD)}
    steps = factors(image.shape[1])
    return lambda: write_image(
        image, store, scale_factors=steps, method=Methods.LOCAL_MEAN, axes="cyx", storage_options=options
    )


if __name__ == "__main__":
    main()
