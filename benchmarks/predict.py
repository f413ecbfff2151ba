"""Prediction from Zarr to Zarr, against MONAI's sliding window and against the bare network on blocks in memory.

MONAI is given the padded twin of the network: the same weights, convolutions that keep the size. It runs as its users
run it (float32, eager), and with the arithmetic and layout of the own prediction. It is left out if not installed.
"""

import argparse
import copy
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tifffile
import torch
from scipy import ndimage
from torch import nn

from unetpipe.device import choose_device, choose_precision
from unetpipe.ingest import ingest
from unetpipe.mask import write_mask
from unetpipe.network import UNet, channels_last
from unetpipe.overlap_tile import read_block
from unetpipe.predict.job import open_job, units, worth_compiling
from unetpipe.predict.part import predict_part
from unetpipe.predict.publish import publish_probabilities
from unetpipe.predictor import Predictor
from unetpipe.saved import load_network, save_network
from unetpipe.store import open_array, read_attributes

WINDOW = 512  # of MONAI, pixels
OVERLAPS = {0.25: ("MONAI's default", 5.0, 1.2), 0.5: ("nnU-Net's default", 9.0, 2.5)}


def main():
    """Print one line for each claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, default=64, help="of the comparison (the paper: 64)")
    parser.add_argument("--side", type=int, default=2048, help="of the comparison's image, pixels")
    parser.add_argument("--largest", type=int, default=8192, help="side of the largest of the scaling's images, pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = choose_device("auto")
    precision = choose_precision("auto", device)
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder) / "compare", options, device, precision)
        scale(Path(folder) / "scale", options)


# ---------------------------------------------------------------- peers


def compare(folder, options, device, precision):
    """The own prediction, the bare network and MONAI in turn, several times."""
    sample = Sample(folder, options.side, options.features)
    network, _ = load_network(sample.network)
    taken = {"own": [], "bare": []}
    peers = monai_peers(network, device, precision, sample)
    for number in range(options.rounds):
        taken["own"].append(sample.seconds(str(number), options.threads))
        taken["bare"].append(bare(sample, network, device, precision))
        for name, call in peers.items():
            taken.setdefault(name, []).append(timed(call))
    median = {name: statistics.median(values) for name, values in taken.items()}
    size = f"{options.side}², {options.features} features, {device.type}, {str(precision).removeprefix('torch.')}"
    say(f"whole job, {size}, speed", median["bare"] / median["own"], 0.90, "bare network, blocks in memory", options)
    for overlap, users in peers:
        name, *marks = OVERLAPS[overlap]
        peer = f"monai {version('monai')}, overlap {overlap} ({name}), {'float32 eager' if users else 'as own'}"
        ratio = median[overlap, users] / median["own"]
        say(f"prediction, {size}, speed", ratio, marks[0 if users else 1], peer, options)
    seams = read_attributes(folder / "0" / "p.zarr" / "zarr.json")["seams"]
    print(f'claim="seams, largest difference of probability" value={seams["largest_difference"]:.4f}', end=" ")
    print(f'peer="monai, overlap 0.25" {monai_seam(network, sample):.4f}' if peers else "")


def bare(sample, network, device, precision):
    """Seconds of the network alone on the blocks of the job, already in memory."""
    job = open_job(*sample.inputs, sample="s", block="auto", planes=32, views=1)
    every = units(job)
    source = open_array(job.images / "0" / "0")
    tiles = [read_block(source, 0, unit.block, job.statistics[0]) for unit in every]
    compiled = worth_compiling(job, every)
    predictor = Predictor([copy.deepcopy(network)], views=1, device=device, precision=precision, compiled=compiled)
    return timed(lambda: [predictor(tile) for tile in tiles])


def monai_peers(network, device, precision, sample):
    """Calls by (overlap, whether as users run it); none where MONAI is not installed."""
    try:
        from monai.inferers import sliding_window_inference
    except ImportError:
        print('claim="prediction, speed" peer="monai" not installed: see benchmarks/requirements.txt')
        return {}

    def call(model, tile, overlap, arithmetic):
        with torch.inference_mode(), torch.autocast(device.type, arithmetic, enabled=arithmetic != torch.float32):
            logits = sliding_window_inference(tile, (WINDOW, WINDOW), 1, model, overlap=overlap, mode="gaussian")
            return (torch.softmax(logits.float(), dim=1)[0, 1:] * 255).round().to(torch.uint8).cpu()

    tile = torch.from_numpy(sample.unit()[None]).to(device) * 2 - 1
    eager = padded(network).to(device)
    same = channels_last(padded(network).to(device))
    peers = {}
    for overlap in OVERLAPS:
        peers[overlap, True] = lambda overlap=overlap: call(eager, tile, overlap, torch.float32)
        peers[overlap, False] = lambda overlap=overlap: call(same, channels_last(tile), overlap, precision)
    return peers


class Padded(nn.Module):
    """The same layers, each convolution padded, so that nothing has to be cropped."""

    def __init__(self, network):
        super().__init__()
        self.inner = network
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.padding = tuple(side // 2 for side in layer.kernel_size)
        network.crops = [(0, 0)] * len(network.crops)

    @property
    def axes(self):
        """Of the network, for its layout."""
        return self.inner.axes

    def forward(self, tile):
        """Logits of the size of the tile."""
        return self.inner(tile)


def padded(network):
    """The padded twin of a network."""
    return Padded(copy.deepcopy(network)).eval()


def monai_seam(network, sample):
    """Largest difference between MONAI's windows and one pass over a corner of the image."""
    from monai.inferers import sliding_window_inference

    tile, model = torch.from_numpy(sample.unit()[None, :, :1024, :1024]) * 2 - 1, padded(network)
    with torch.inference_mode():
        windows = sliding_window_inference(tile, (WINDOW, WINDOW), 1, model, overlap=0.25, mode="gaussian")
        return float((torch.softmax(windows, 1) - torch.softmax(model(tile), 1)).abs().max())


# ---------------------------------------------------------------- scaling


def scale(folder, options):
    """Cost of a pixel from small to large, and with a fifth of tissue; a small network, so that it ends."""
    costs, side = {}, 1024
    while side <= options.largest:
        sample = Sample(folder / str(side), side, 8)
        costs[side] = statistics.median(sample.seconds(str(n), options.threads) for n in range(3)) / side**2 * 1e9
        side *= 2
    listed = ", ".join(f"{side}²: {cost:.1f}" for side, cost in costs.items())
    print(f'claim="nanoseconds a pixel, 8 features" {listed}')
    first, *_, last = costs.values()
    say(f"cost of a pixel, {max(costs)}² over {min(costs)}²", last / first, 1.15, "itself", options, less=True)
    sparse = Sample(folder / "sparse", options.largest, 8, tissue=0.2)
    seconds = sparse.seconds("0", options.threads)
    whole = last * options.largest**2 / 1e9
    say(f"a fifth of tissue, {options.largest}², time", seconds / whole, 0.25, "all of it", options, less=True)


class Sample:
    """An image of blurred noise, its mask, and a network with random weights."""

    def __init__(self, folder, side, features, tissue=1.0):
        folder.mkdir(parents=True)
        self.folder, self.network = folder, str(folder / "network.json")
        field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32), 4)
        pattern = np.interp(field, (field.min(), field.max()), (0, 255)).astype(np.uint8)
        pixels = np.tile(pattern, (side // 1024, side // 1024))
        pixels[int(side * tissue) :] = 128
        tifffile.imwrite(folder / "image.tif", pixels, tile=(256, 256))
        torch.manual_seed(1)
        save_network(UNet(features=features, dropout=0.0), self.network, {"precision": "auto"})
        self.image, self.tissue = str(folder / "i.ome.zarr" / "zarr.json"), str(folder / "tissue.json")
        ingest([str(folder / "image.tif")], self.image, sample="s", workers=2)
        write_mask(self.image, self.tissue, sample="s", contrast=0.15 if tissue < 1 else 0, workers=2)

    @property
    def inputs(self):
        """Image, tissue and networks."""
        return self.image, self.tissue, [self.network]

    def unit(self):
        """The image as the network sees it, (c, y, x)."""
        job = open_job(*self.inputs, sample="s", block="auto", planes=32, views=1)
        pixels = open_array(job.images / "0" / "0")[0, :, 0].astype(np.float32)
        low, high = job.statistics[0]["low"][0], job.statistics[0]["high"][0]
        return (pixels - low) / (high - low)

    def seconds(self, name, threads):
        """Of predicting and publishing anew."""
        store = str(self.folder / name / "p.zarr" / "zarr.json")

        def job():
            part = str(self.folder / name / "part.json")
            predict_part(*self.inputs, part, store=store, sample="s", threads=threads)
            publish_probabilities(*self.inputs, store, sample="s")

        return timed(job)


def timed(call):
    """Seconds that a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def say(claim, value, mark, peer, options, *, less=False):
    """One line of a claim."""
    reached = "ok" if (value <= mark if less else value >= mark) else "short"
    print(f'claim="{claim}" value={value:.2f} mark={mark} {reached} peer="{peer}" n={options.rounds}', flush=True)


if __name__ == "__main__":
    main()
