"""Networks on their device, over blocks of an image or over all of it.

Letters of shapes: C channels, Z Y X space, K classes; planes are volumes of one slice.
"""

import math
import time
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
import torch

from unetpipe.device import say_uncompiled
from unetpipe.geometry import Region, meet, shared, within
from unetpipe.needs import block_side
from unetpipe.network import Network, channels_last
from unetpipe.overlap_tile import holds_tissue, read_block, volume_blocks, written

CHUNK, PLANES = 256, 32  # of the stores, and of a volume's blocks, where nobody says, pixels


class Predictor:
    """Networks on their device, called by one thread at a time.

    Parameters
    ----------
    networks : sequence of Network
        One, or an ensemble of the same geometry: the mean of their probabilities.
    views : int
        1, or 8: the mean over all rotations and mirror images of the plane (the paper's results average seven).
    device : torch.device
    precision : torch.dtype
    compiled : bool
        `torch.compile` with frozen weights; where no compiler works a warning says so.

    Attributes
    ----------
    axes : tuple of geometry.Axis
        Halo and valid sizes along each axis.
    classes, features : int
        Of the output and of the first level.
    busy : float
        Seconds spent in the network.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        *,
        views: int,
        device: torch.device,
        precision: torch.dtype,
        compiled: bool = False,
    ):
        self.networks: list[Any] = [channels_last(network.to(device)).eval() for network in networks]
        self.eager, self.uncompiled = self.networks, compiled
        self.axes = networks[0].axes
        self.classes, self.features = (networks[0].arguments[name] for name in ("classes", "features"))
        self.views, self.device, self.precision = views, device, precision
        self.lock, self.busy = Lock(), 0.0

    def __call__(self, grey_CZYX: np.ndarray, *, rare: bool = False) -> np.ndarray:
        """Probabilities of the classes but the background, uint8 of p × 255; each axis is 2 halo shorter.

        Parameters
        ----------
        grey_CZYX : float32
            0 … 1 between the percentiles of the series; valid sides.
        rare : bool
            Few calls have this shape: it is not worth compiling for.
        """
        planar = len(self.axes) == 2
        with self.lock, torch.inference_mode():
            begun = time.monotonic()
            tile = torch.from_numpy(grey_CZYX[:, 0] if planar else grey_CZYX).to(self.device)[None] * 2 - 1
            mean = self._mean(tile, rare=rare)
            found = (mean[0, 1:] * 255).round().to(torch.uint8).cpu().numpy()
            self.busy += time.monotonic() - begun
        return found[:, None] if planar else found

    def _mean(self, tile: torch.Tensor, *, rare: bool) -> torch.Tensor:
        """Of all views of all networks."""
        try:
            if self.uncompiled and not rare:
                self._compile(tile)
            networks = self.eager if rare else self.networks
            views = [self._view(network, tile, number) for network in networks for number in range(self.views)]
            return torch.stack(views).mean(dim=0)
        except torch.OutOfMemoryError as error:
            sides = " x ".join(map(str, tile.shape[2:]))
            half = 2 ** int(math.log2((tile.shape[-1] - 2 * self.axes[-1].halo) / 2))
            smaller = "predict.planes to half, or " if len(self.axes) == 3 else ""
            smaller += f"predict.block to {half}" + (
                "" if half >= CHUNK else f" and ingest.chunk to no more than {half}"
            )
            raise MemoryError(
                f"a block that reads {sides} pixels does not fit into the memory of {self.device}; set {smaller}, or "
                "train with fewer features"
            ) from error

    def _compile(self, tile: torch.Tensor) -> None:
        frozen = [torch.compile(network, options={"freezing": True}) for network in self.networks]
        try:
            self._view(frozen[0], tile, 0)
        except RuntimeError as error:
            say_uncompiled(error, "prediction")
        else:
            self.networks = frozen
        self.uncompiled = False

    def _view(self, network: Any, tile: torch.Tensor, number: int) -> torch.Tensor:
        turns, mirrored = number % 4, number >= 4
        turned = channels_last(torch.rot90(tile.flip(-1) if mirrored else tile, turns, (-2, -1)))
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            logits = network(turned)
        back = torch.rot90(torch.softmax(logits.float(), dim=1), -turns, (-2, -1))
        return back.flip(-1) if mirrored else back


def predict_region(
    predictor: Predictor,
    source: Any,
    t: int,
    statistics: dict,
    region: Region | None = None,
    tissue: tuple[np.ndarray, int] | None = None,
) -> np.ndarray:
    """Probabilities (K − 1, z, y, x) uint8 of a region of a time point, by the blocks of the whole.

    Parameters
    ----------
    source, t, statistics
        See `overlap_tile.read_block`.
    region : (z, y, x), optional
        All of it if not given.
    tissue : (array, level), optional
        See `overlap_tile.holds_tissue`: blocks without any are 0.
    """
    shape = source.shape[2:]
    region = region or tuple(slice(0, size) for size in shape)
    planes = -(-PLANES // predictor.axes[0].stride) * predictor.axes[0].stride
    side = block_side("auto", predictor.features, predictor.axes, planes, CHUNK)
    found = np.zeros((predictor.classes - 1, *(part.stop - part.start for part in region)), np.uint8)
    for block in volume_blocks(shape, (planes, side, side), predictor.axes):
        if meet(block.write, region) and (tissue is None or holds_tissue(block, *tissue)):
            values = written(predictor(read_block(source, t, block, statistics)), block)
            both = shared(block.write, region)
            found[(slice(None), *within(both, region))] = values[(slice(None), *within(both, block.write))]
    return found
