"""A training step whose tiles come from stores that do not fit into memory, against tiles from memory."""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from unetpipe.augment import Augmentation
from unetpipe.cells import count_kinds
from unetpipe.geometry import tile_sides
from unetpipe.loss import weighted_cross_entropy
from unetpipe.network import UNet
from unetpipe.places import Places
from unetpipe.store import create_array, write_region
from unetpipe.tiles import Drawing, Held, Material, Stored, batches

SHARD = 1024
SMALL, LARGE = 2 * SHARD, 96 * SHARD  # sides, pixels: image, target and border term of the large one are 29 GB
CELL = 64
KINDS = {"image": "image", "target": "label", "border": "label"}


def main():
    """Print the claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = UNet(features=options.features)
    with tempfile.TemporaryDirectory() as folder:
        materials = {"memory": held(), "stores": stored(Path(folder), LARGE)}
        times = {name: [] for name in materials}
        for _ in range(3):
            for name, material in materials.items():
                times[name] += steps(network, material, options.steps)
    median = {name: statistics.median(values) for name, values in times.items()}
    ratio = median["stores"] / median["memory"]
    what = f"training step, {options.features} features, tiles from {3 * LARGE**2 / 1e9:.0f} GB of stores over memory"
    end = f'{"ok" if ratio <= 1.05 else "short"} peer="itself" n={3 * options.steps}'
    print(f'claim="{what}" value={ratio:.3f} mark=1.05 {end}')


def steps(network, material, count):
    """Seconds of each step, the first left out."""
    sides, margins = tile_sides(network.axes, 388, 1)
    weights, cpu = torch.ones(2), torch.device("cpu")
    drawing = Drawing(sides, margins, 1, 0.5, 1, Augmentation(), weights, cpu)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    taken, drawn = [], batches(material, drawing, range(count + 1))
    for _ in range(count + 1):
        start = time.perf_counter()
        image, target, weight = next(drawn)
        loss = weighted_cross_entropy(network(2 * image - 1), target, weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        taken.append(time.perf_counter() - start)
    return taken[1:]


def held():
    """An image in memory."""
    random = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 2, (1, SMALL, SMALL), generator=random, dtype=torch.uint8)
    space = Held("memory", torch.rand(1, 1, SMALL, SMALL, generator=random), truth, truth, 0.04, (1.0,) * 3)
    counts = count_kinds(truth.numpy(), truth.numpy() > 0, 2, CELL)
    return Material([space], Places([counts], [space.shape], [CELL]))


def stored(folder, side):
    """A much larger one on disk: one shard of texture, linked to every place, so that each read decodes."""
    sides, random = {"chunk": 256, "shard": SHARD}, np.random.default_rng(0)
    texture = ndimage.gaussian_filter(random.normal(size=(SHARD, SHARD)), 2, mode="wrap")
    shards = {
        "image": np.clip(128 + 300 * texture, 0, 255),
        "target": texture > 0,
        "border": 255 * (abs(texture) < 0.02),
    }
    arrays = []
    for name, values in shards.items():
        front = (1, 1, 1) if name == "image" else (1, 1)
        array = create_array(folder / name, (*front, side, side), np.uint8, kind=KINDS[name], **sides)
        region = (*(slice(0, 1) for _ in front), slice(0, SHARD), slice(0, SHARD))
        (first,) = write_region(array, region, values.astype(np.uint8).reshape(*front, SHARD, SHARD))
        for y, x in np.ndindex(side // SHARD, side // SHARD):
            place = first.parents[1] / str(y) / str(x)
            place.parent.mkdir(exist_ok=True)
            if place != first:
                os.link(first, place)
        arrays.append(array)
    index = np.tile(
        count_kinds(texture[None] > 0, abs(texture[None]) < 0.02, 2, CELL), (1, 1, side // SHARD, side // SHARD)
    )
    front = (0, slice(0, 1))
    space = Stored("stores", *arrays, index[None], front, {"low": [60.0], "high": [200.0]}, 0.04, (1.0,) * 3)
    return Material([space], Places([index], [space.shape], [CELL]))


if __name__ == "__main__":
    main()
