"""Deforming a tile of image, target and border term, against the transforms of other projects with like settings.

All turn by any angle, scale by a tenth and deform smoothly by 10 pixels, mirror outside of the image, and read the
image cubically, the target nearest and the border term linearly (where they can; albumentations reads it cubically).
"""

import argparse
import statistics
import time
from importlib import import_module
from importlib.metadata import version

import numpy as np
import torch

from unetpipe.augment import Augmentation, sampling_field
from unetpipe.cells import count_kinds
from unetpipe.geometry import tile_sides
from unetpipe.loss import weighted_cross_entropy
from unetpipe.network import UNet, channels_last
from unetpipe.places import Places
from unetpipe.sampling import sample
from unetpipe.tiles import Drawing, Held, Material, draw_batch

SIDE = 572
MARKS = {"monai": 4, "batchgeneratorsv2": 1, "albumentations": 1}


def main():
    """Print one line for each claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    random = np.random.default_rng(0)
    image, border = random.random((SIDE, SIDE), np.float32), random.random((SIDE, SIDE), np.float32)
    target = random.integers(0, 3, (SIDE, SIDE)).astype(np.uint8)
    calls = {"own": own(image, target, border)}
    for name, prepare in PEERS.items():
        try:
            import_module(name)
        except ImportError:
            print(f'claim="augmentation, speed" peer="{name}" not installed: see benchmarks/requirements.txt')
            continue
        calls[name] = prepare(image, target, border, options.threads)
    times = {name: [] for name in calls}
    for _ in range(options.runs + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    what = f"image, target and border of {SIDE}², {options.threads} threads"
    print(f'claim="{what}, ms" value={medians["own"] * 1e3:.2f} n={options.runs}')
    for name, mark in MARKS.items():
        if name in medians:
            ratio = medians[name] / medians["own"]
            end = f'{"ok" if ratio >= mark else "short"} peer="{name} {version(name)}" n={options.runs}'
            print(f'claim="{what}, speed" value={ratio:.1f} mark={mark} {end}')
    if torch.cuda.is_available():
        share_of_a_step(torch.device("cuda"), options.runs)


def share_of_a_step(device, runs):
    """What drawing a tile on a GPU takes of a training step of the paper's network in bf16."""
    network = channels_last(UNet().to(device))
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)
    sides, margins = tile_sides(network.axes, 388, 1)
    truth = torch.randint(0, 2, (1, 1024, 1024), dtype=torch.uint8, device=device)
    space = Held("tile", torch.rand(1, 1, 1024, 1024, device=device), truth, truth, 0.04, (1.0,) * 3)
    drawing = Drawing(sides, margins, 1, 0.5, 1, Augmentation(), torch.ones(2, device=device), device)
    counts = count_kinds(truth.cpu().numpy(), truth.cpu().numpy() < 0, 2, 64)
    material = Material([space], Places([counts], [(1, 1024, 1024)], [64]))

    def step(batch):
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(2 * batch[0] - 1)
        optimiser.zero_grad(set_to_none=True)
        weighted_cross_entropy(logits, *batch[1:]).backward()
        optimiser.step()

    times = {"draw": [], "step": []}
    for number in range(runs + 3):
        batch = timed(times["draw"], device, draw_batch, material, drawing, number)
        timed(times["step"], device, step, batch)
    draw, whole = (statistics.median(values[3:]) for values in times.values())
    end = f'mark=0.02 {"ok" if draw / whole <= 0.02 else "short"} peer="step of the paper\'s network" n={runs}'
    print(f'claim="drawing a tile on {device.type}, share of a step" value={draw / whole:.3f} {end}')


def timed(taken, device, function, *arguments):
    """What a call returns; its seconds, until the device has done all that it was given, are added to a list."""
    start = time.perf_counter()
    result = function(*arguments)
    if device.type == "cuda":
        torch.cuda.synchronize()
    taken.append(time.perf_counter() - start)
    return result


def own(image, target, border):
    """A field and the tile that it reads."""
    generator = torch.Generator().manual_seed(0)
    arrays = torch.from_numpy(image)[None, None], torch.from_numpy(target)[None]
    steps = torch.from_numpy(np.rint(border * 255).astype(np.uint8))[None]

    def call():
        at, sides = (0, SIDE // 2, SIDE // 2), (1, SIDE, SIDE)
        return sample(*arrays, steps, sampling_field(at, sides, (1.0,) * 3, Augmentation(), generator), (0, 0, 0))

    return call


def monai(image, target, border, _):
    """Rand2DElastic: a coarse grid of random vectors, rotation and scale, one grid for all."""
    from monai.transforms import Rand2DElasticd

    transform = Rand2DElasticd(
        keys=["image", "target", "border"],
        spacing=(SIDE / 2, SIDE / 2),
        magnitude_range=(10, 10),
        prob=1,
        rotate_range=(np.pi,),
        scale_range=(0.1, 0.1),
        mode=["bicubic", "nearest", "bilinear"],
        padding_mode="reflection",
    )
    tensors = {"image": image, "target": target.astype(np.float32), "border": border}
    data = {name: torch.from_numpy(values)[None] for name, values in tensors.items()}
    return lambda: transform(data)


def batchgenerators(image, target, border, _):
    """SpatialTransform, as nnU-Net uses it; it reads the image linearly."""
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    transform = SpatialTransform(
        (SIDE, SIDE),
        0,
        random_crop=False,
        p_elastic_deform=1,
        elastic_deform_scale=(0.2, 0.2),
        elastic_deform_magnitude=(10, 10),
        p_rotation=1,
        rotation=(0, 2 * np.pi),
        p_scaling=1,
        scaling=(0.9, 1.1),
    )
    first, last = torch.from_numpy(image)[None], torch.from_numpy(border)[None]
    middle = torch.from_numpy(target.astype(np.int16))[None]
    return lambda: transform(image=first, segmentation=middle, regression_target=last)


def albumentations(image, target, border, threads):
    """A thin-plate spline on 3 × 3 points, and rotation and scale."""
    import albumentations as a
    import cv2

    cv2.setNumThreads(threads)
    ways = {"interpolation": cv2.INTER_CUBIC, "border_mode": cv2.BORDER_REFLECT_101, "p": 1}
    steps = [a.Affine(rotate=(-180, 180), scale=(0.9, 1.1), **ways), a.ThinPlateSpline(num_control_points=3, **ways)]
    transform = a.Compose(steps, additional_targets={"border": "image"})
    return lambda: transform(image=image, mask=target, border=border)


PEERS = {"monai": monai, "batchgeneratorsv2": batchgenerators, "albumentations": albumentations}

if __name__ == "__main__":
    main()
