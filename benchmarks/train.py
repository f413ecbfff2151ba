"""The training loop on the paper's network, 572 × 572 pixels a tile, against plainer loops with the same network.

The plain loop is float32, eager and without augmentation. The others draw their tiles with batchgeneratorsv2 (nnU-Net)
and MONAI in worker processes, and compute in the same precision as the own loop. Peers not installed are left out.
"""

import argparse
import os
import statistics
import tempfile
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from unetpipe.augment import Augmentation
from unetpipe.cells import count_kinds
from unetpipe.device import be_deterministic, choose_device, choose_precision
from unetpipe.fitting import Choices
from unetpipe.geometry import tile_sides
from unetpipe.network import UNet, laid_out
from unetpipe.places import Places
from unetpipe.tiles import Drawing, Held, Material
from unetpipe.train.loop import Run, optimise
from unetpipe.watch import Watch

SIDE, IMAGES = 1024, 8
RATES = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}  # dense bf16, a second


def main():
    """Print one line for each claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--steps", type=int, default=0, help="a round; 0: 6 on a CPU, 50 on a GPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", type=int, default=1, help="0: eager")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = choose_device("auto")
    be_deterministic(wanted=False)
    options.steps = options.steps or (50 if device.type == "cuda" else 6)
    precision = choose_precision("auto", device)
    loops = {"own": Own(options, device, precision), "plain": Plain(options, device)}
    for name, peer in {"batchgeneratorsv2": NnUNet, "monai": Monai}.items():
        try:
            import_module(name)
            loops[name] = peer(options, device, precision)
        except ImportError:
            print(f'claim="training, images a second" peer="{name}" not installed: see benchmarks/requirements.txt')
    taken = {name: [] for name in loops}
    for _ in range(options.rounds):
        for name, loop in loops.items():
            taken[name].append(loop.seconds())
    report(options, device, precision, {name: statistics.median(values) for name, values in taken.items()})


def report(options, device, precision, medians):
    """The claims, of medians of the seconds a step."""
    kind = str(precision).removeprefix("torch.")
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{options.threads} CPU threads"
    what = f"step of {options.features} features, 572², {kind}, {'compiled' if options.compile else 'eager'}, {card}"
    end = f'n={options.rounds} torch="{torch.__version__}"'
    print(f'claim="{what}, seconds" value={medians["own"]:.4f} {end}')
    for name, mark in {"plain": 4, "batchgeneratorsv2": 1, "monai": 1}.items():
        if name in medians:
            ratio = medians[name] / medians["own"]
            peer = "float32 eager loop" if name == "plain" else f"loop with {name} {version(name)}"
            says = "ok" if ratio >= mark else "short"
            rates = f"{1 / medians['own']:.2f} and {1 / medians[name]:.2f} images a second"
            print(f'claim="{what}, speed" value={ratio:.2f} mark={mark} {says} peer="{peer}" ({rates}) {end}')
    peak = next((rate for name, rate in RATES.items() if name in card), None)
    if peak:
        share = flops(options.features) / medians["own"] / peak
        print(f'claim="{what}, share of the matrix rate" value={share:.3f} peer="{peak / 1e12:.0f} TFLOP/s" {end}')


def flops(features):
    """Operations of a step: the way back costs twice the way there."""
    network = UNet(features=features).to("meta")
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 1, 572, 572, device="meta"))
    return 3 * counter.get_total_flops()


def pictures():
    """Images (IMAGES, SIDE, SIDE) of blobs with noise, what is object, and a border term."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.normal(size=(IMAGES, 1, SIDE // 32, SIDE // 32)).astype(np.float32))
    smooth = functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic")[:, 0].numpy()
    truth, border = (smooth > 0).astype(np.uint8), (255 * (abs(smooth) < 0.05)).astype(np.uint8)
    return (smooth + random.normal(0, 0.3, smooth.shape)).astype(np.float32), truth, border


class Own:
    """The loop of `unetpipe.train`, timed from outside: long runs less short ones."""

    def __init__(self, options, device, precision):
        self.options, self.device = options, device
        images, truths, borders = pictures()
        spaces = [
            Held(
                str(n),
                *(torch.from_numpy(a[n][None]).to(device) for a in (images[:, None], truths, borders)),
                0.04,
                (1.0,) * 3,
            )
            for n in range(IMAGES)
        ]
        counts = [count_kinds(t[None], b[None] > 0, 2, 64) for t, b in zip(truths, borders, strict=True)]
        self.material = Material(spaces, Places(counts, [(1, SIDE, SIDE)] * IMAGES, [64] * IMAGES))
        self.choices = Choices(str(precision).removeprefix("torch."), 388, 1, bool(options.compile))
        self.run(1)

    def seconds(self):
        """Of a step."""
        return (self.run(self.options.steps + 1) - self.run(1)) / self.options.steps

    def run(self, steps):
        """Seconds of a whole run."""
        plan = {"steps": steps, "optimiser": "adamw", "learning_rate": 1e-4, "clip": 1.0, "dice": 0.0, "patience": 0}
        precision = choose_precision(self.choices.precision, self.device)
        network = laid_out(UNet(features=self.options.features).to(self.device), precision)
        sides, margins = tile_sides(network.axes, 388, 1)
        weights = torch.ones(2, device=self.device)
        drawing = Drawing(sides, margins, 1, 0.5, 1, Augmentation(), weights, self.device)
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            optimise(network, self.material, drawing, Run(plan, self.choices, "", Path(folder)), None, Watch())
            return time.perf_counter() - begun


class Plain:
    """What a first script does: float32, eager, channels first, Adam, one fixed tile."""

    def __init__(self, options, device):
        self.steps, self.device = options.steps, device
        self.network = UNet(features=options.features).to(device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=1e-4)
        images, truths, borders = pictures()
        self.image = torch.from_numpy(images[:1, None, :572, :572]).to(device)
        self.truth = torch.from_numpy(truths[:1, 92:480, 92:480].astype(np.int64)).to(device)
        self.weight = 1 + torch.from_numpy(borders[:1, 92:480, 92:480] / np.float32(25)).to(device)
        self.step()

    def step(self):
        """One update."""
        self.optimiser.zero_grad()
        loss = functional.cross_entropy(self.network(self.image), self.truth, reduction="none")
        (loss * self.weight).mean().backward()
        self.optimiser.step()

    def seconds(self):
        """Of a step."""
        return timed(self.step, self.steps, self.device)


class Loaded:
    """A loop whose tiles come from a `DataLoader`, as those of nnU-Net and MONAI do."""

    def __init__(self, options, device, precision):
        self.steps, self.device, self.precision = options.steps, device, precision
        network = laid_out(UNet(features=options.features).to(device), precision)
        self.network = torch.compile(network) if options.compile else network
        self.optimiser = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.99, nesterov=True)
        workers = max(1, (os.cpu_count() or 2) - (1 if device.type == "cpu" else 0))
        self.loader = iter(DataLoader(Tiles(self.transform()), batch_size=1, num_workers=workers, pin_memory=True))
        self.step()

    def step(self):
        """One update."""
        image, truth, weight = (part.to(self.device, non_blocking=True) for part in next(self.loader))
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            logits = self.network(laid_out(image, self.precision))
        loss = functional.cross_entropy(logits.float(), truth, reduction="none")
        self.optimiser.zero_grad(set_to_none=True)
        (loss * weight).mean().backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12)
        self.optimiser.step()

    def seconds(self):
        """Of a step."""
        return timed(self.step, self.steps, self.device)


class NnUNet(Loaded):
    """Tiles deformed by batchgeneratorsv2."""

    def transform(self):
        """Of image, truth and border term (C, Y, X)."""
        from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

        ways = {"p_elastic_deform": 1, "elastic_deform_scale": (0.2, 0.2), "elastic_deform_magnitude": (10, 10)}
        ways |= {"p_rotation": 1, "rotation": (0, 2 * np.pi), "p_scaling": 1, "scaling": (0.9, 1.1)}
        spatial = SpatialTransform((572, 572), 0, random_crop=False, **ways)

        def call(image, truth, border):
            done = spatial(image=image, segmentation=truth.to(torch.int16), regression_target=border)
            return done["image"], done["segmentation"], done["regression_target"]

        return call


class Monai(Loaded):
    """Tiles deformed by MONAI."""

    def transform(self):
        """Of image, truth and border term (C, Y, X)."""
        from monai.transforms import Rand2DElasticd

        keys = ["image", "truth", "border"]
        ways = {"spacing": (286, 286), "magnitude_range": (10, 10), "prob": 1, "rotate_range": (np.pi,)}
        ways |= {"scale_range": (0.1, 0.1), "mode": ["bicubic", "nearest", "bilinear"], "padding_mode": "reflection"}
        spatial = Rand2DElasticd(keys=keys, **ways)

        def call(*parts):
            done = spatial(dict(zip(keys, (part.float() for part in parts), strict=True)))
            return (done[key].as_tensor() for key in keys)

        return call


class Tiles(Dataset):
    """Random tiles of 572² pixels, deformed."""

    def __init__(self, transform):
        self.arrays, self.transform = [torch.from_numpy(a) for a in pictures()], transform

    def __len__(self):
        return 10**6

    def __getitem__(self, number):
        random = np.random.default_rng(number)
        n, y, x = random.integers(0, [IMAGES, SIDE - 572, SIDE - 572])
        image, truth, border = self.transform(*(a[n, y : y + 572, x : x + 572][None].float() for a in self.arrays))
        inner = (0, slice(92, -92), slice(92, -92))
        return image, truth[inner].long(), 1 + border[inner] / 25


def timed(step, steps, device):
    """Seconds of a step, until the device has done all."""
    begun = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begun) / steps


if __name__ == "__main__":
    main()
