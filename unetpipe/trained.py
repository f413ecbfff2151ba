"""A trained network outside the workflow, by the same code: for one file, or for arrays in a notebook."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unetpipe.device import choose_device, choose_precision
from unetpipe.halving import halve
from unetpipe.ingest import ingest
from unetpipe.mask import coarse_level, look, write_mask
from unetpipe.notes import read_notes
from unetpipe.predict.part import predict_part
from unetpipe.predict.publish import publish_probabilities
from unetpipe.predictor import Predictor, predict_region
from unetpipe.pyramid import refuse_no_numbers
from unetpipe.readers import open_series
from unetpipe.readers.series import Series
from unetpipe.saved import load_network

CHUNK = 256  # of the stores, which decides how far a pyramid goes


def predict_file(
    networks: Sequence[str | Path],
    image: str | Path,
    folder: str | Path,
    *,
    inside: str = "",
    channels: list[str | int] | None = None,
    contrast: float | None = None,
    block: int | str = "auto",
    planes: int = 32,
    views: int = 1,
    device: str = "auto",
    threads: int = 1,
) -> Path:
    """Predict one image file of any readable format, of any size, by the stages of the workflow.

    Where both pixel sizes are known, the image is brought to that of the training images. Stopped anywhere, the same
    call goes on.

    Parameters
    ----------
    networks : sequence of path
        `network.json` of each.
    folder : path
        For `image.ome.zarr`, `tissue.json` and `probabilities.zarr`.
    inside : str
        Array or group inside the file, see `readers.open_series`.
    channels
        See `readers.chosen.chosen`; those of the training images, where the file names them all, if not given.
    contrast
        See `mask.write_mask`; that of the training if not given.
    block, planes, views, device, threads
        See `predict.part.predict_part`.

    Returns
    -------
    path of the store of probabilities
    """
    paths, name, root = [str(path) for path in networks], Path(image).name, Path(folder)
    store, tissue, found = (root / part for part in ("image.ome.zarr", "tissue.json", "probabilities.zarr"))
    note = read_notes(paths)[0]
    inputs = (str(store / "zarr.json"), str(tissue), paths)
    learnt = note.get("pixel_size")
    every = open_series(image, inside)
    resample = learnt[1] if learnt and all(series.pixel_size for series in every) else None
    chosen: dict[str, Any] = {"sample": name, "inside": inside, "channels": channels or _learnt_channels(note, every)}
    ingest([str(image)], inputs[0], resample=resample, workers=threads, **chosen)
    write_mask(inputs[0], inputs[1], sample=name, **_mask_settings(note, contrast=contrast), workers=threads)
    root_file = str(found / "zarr.json")
    predict_part(
        *inputs,
        str(root / "part.json"),
        store=root_file,
        sample=name,
        block=block,
        planes=planes,
        views=views,
        device=device,
        threads=threads,
    )
    publish_probabilities(*inputs, root_file, sample=name, block=block, planes=planes, views=views)
    return found


def _learnt_channels(note: dict, every: Sequence[Series]) -> list[str | int] | None:
    """Those of the training images, if they have names, and each series has channels of all of them."""
    names: list[str | int] = [name for name in note.get("channels", []) if not name.isdecimal()]
    whole = len(names) == note["arguments"]["channels"]
    return names if whole and all({*names} <= {*series.channels} for series in every) else None


def _mask_settings(note: dict, **given) -> dict[str, Any]:
    """What the training images were masked with, or `write_mask`'s own where a note does not say; or what is given."""
    known = {"contrast": 0.15, "window": 32, "margin": 64, **note.get("mask", {}), "percentiles": note["percentiles"]}
    return known | {name: value for name, value in given.items() if value is not None}


class Network:
    """One network of a run, or an ensemble of several.

    Parameters
    ----------
    paths : path or sequence of path
        `results/network/all/network.json`; of several the mean probability is taken.
    views : int
        1, or 8: the mean over all rotations and mirror images.
    device : "auto", "cpu" or "cuda"
    """

    def __init__(self, paths: str | Path | Sequence[str | Path], *, views: int = 1, device: str = "auto"):
        files = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        self.note, *_ = read_notes(files)
        place = choose_device(device)
        precision = choose_precision(self.note["precision"], place)
        networks = [load_network(path)[0] for path in files]
        self.predictor = Predictor(networks, views=views, device=place, precision=precision)

    def predict(
        self,
        image: np.ndarray,
        *,
        contrast: float | None = None,
        window: int | None = None,
        margin: int | None = None,
        percentiles: tuple[float, float] | None = None,
    ) -> np.ndarray:
        """Probabilities of the classes but the background, p × 255 as the stores hold them.

        Parameters
        ----------
        image : (y, x), (c, y, x), (z, y, x) or (c, z, y, x)
            A plane, or a volume for a network that was trained on volumes; without c where it has one channel.
        contrast, window, margin, percentiles
            What is empty glass, which is 0 in the result, and which grey values are 0 and 1, see `mask.write_mask`;
            those of the training if not given.

        Returns
        -------
        (K − 1, y, x) or (K − 1, z, y, x) uint8

        Raises
        ------
        ValueError
            If the image has another number of axes or channels than the network, no pixel, or one that is no number.
        """
        source = self._five_axes(np.asarray(image))
        refuse_no_numbers(source)
        level = coarse_level(source.shape, CHUNK)
        coarse = source
        for _ in range(level):
            coarse = halve(coarse, kind="image")
        given = {"contrast": contrast, "window": window, "margin": margin, "percentiles": percentiles}
        seen = look(coarse, level, **_mask_settings(self.note, **given))
        where = np.stack([seen.plane(0, z) for z in range(source.shape[2])])
        found = predict_region(self.predictor, source, 0, seen.numbers, tissue=(where, level))
        return found if len(self.predictor.axes) == 3 else found[:, 0]

    def _five_axes(self, image: np.ndarray) -> np.ndarray:
        """The image as (t, c, z, y, x); of a mask its pixels as 0 and 1."""
        channels, space = self.note["arguments"]["channels"], len(self.predictor.axes)
        plain = image.view(np.uint8) if image.dtype == bool else image
        with_channels = plain[None] if plain.ndim == space and channels == 1 else plain
        if with_channels.ndim != space + 1 or len(with_channels) != channels or not plain.size:
            axes = "(y, x)" if space == 2 else "(z, y, x)"
            raise ValueError(
                f"an image of shape {image.shape} does not fit: the network sees {channels} channels of {axes}; "
                f"give (c, {axes[1:]}" + (f", or {axes}" if channels == 1 else "")
            )
        return (with_channels[:, None] if space == 2 else with_channels)[None]
