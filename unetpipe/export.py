"""Takes a trained network elsewhere: ONNX, and the model package of bioimage.io.

What leaves is the network with its softmax, for grey values of 0 … 1 between the percentiles of the image.
"""

import hashlib
import io
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from torch import nn

from unetpipe import __version__
from unetpipe.manifest import replacing, write_bytes
from unetpipe.network import Network
from unetpipe.saved import load_network

OPSET = 18
NAME = re.compile(r"[A-Za-z0-9_+\- ()]{5,128}")
LICENCE = re.compile(r"(?!LicenseRef-)[A-Za-z0-9.-]+")  # one, which is in the list
SMALLEST = 32  # least output of the package's test image along each axis, pixels
CITATION = {
    "text": "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015",
    "doi": "10.1007/978-3-319-24574-4_28",
}


class Probabilities(nn.Module):
    """A network from grey values of 0 … 1 to the probabilities of all classes."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, image_BCYX: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, K, Y − 2 halo, X − 2 halo)."""
        return torch.softmax(self.network(2 * image_BCYX - 1), dim=1)


def export_onnx(network: str | Path, output: str | Path) -> None:
    """Write a trained network as ONNX, for images of any valid size.

    Parameters
    ----------
    network : path
        `network.json`.
    output : path
        Input `image` (B, C, [Z,] Y, X) float32, 0 … 1; output `probabilities`, 2 halo shorter along each axis.
    """
    rebuilt, _ = load_network(network)
    write_bytes(output, _onnx(rebuilt))


def _onnx(network: Network) -> bytes:
    example = torch.zeros(1, network.arguments["channels"], *_sides(network))
    free = dict.fromkeys((0, *range(2, example.ndim)), torch.export.Dim.AUTO)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, about its own parts
        program: Any = torch.onnx.export(
            Probabilities(network).eval(),
            (example,),
            input_names=["image"],
            output_names=["probabilities"],
            dynamic_shapes=(free,),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
        )
    return program.model_proto.SerializeToString()


def _sides(network: Network) -> list[int]:
    return [axis.input(SMALLEST) for axis in network.axes]


def export_package(network: str | Path, output: str | Path, *, name: str, licence: str = "CC-BY-4.0") -> None:
    """Write a trained network as model package of bioimage.io, which Fiji, QuPath and ilastik read.

    Parameters
    ----------
    network : path
        `network.json`.
    output : path
        A zip file: `rdf.yaml`, the network as ONNX, a test image and what the network makes of it.
    name : str
        Of the model, 5 to 128 letters without accents, digits, spaces and `_+-()`.
    licence : str
        SPDX identifier of the licence under which the weights are given.

    Raises
    ------
    ValueError
        If bioimage.io would refuse the name or the licence.
    """
    licence = _checked(name, licence)
    rebuilt, note = load_network(network)
    image = np.random.default_rng(0).random((1, rebuilt.arguments["channels"], *_sides(rebuilt)), dtype=np.float32)
    scaled = torch.from_numpy(_scale(image, note["percentiles"]))
    with torch.inference_mode():
        found = Probabilities(rebuilt)(scaled).numpy()
    files = {"network.onnx": _onnx(rebuilt), "image.npy": _npy(image), "probabilities.npy": _npy(found)}
    files["README.md"] = _read_me(name, rebuilt, note).encode()
    description = _description(
        name, licence, rebuilt, note, {n: hashlib.sha256(b).hexdigest() for n, b in files.items()}
    )
    files["rdf.yaml"] = yaml.safe_dump(description, sort_keys=False, allow_unicode=True).encode()
    with replacing(output) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as package:
        for file, content in files.items():
            package.writestr(zipfile.ZipInfo(file, (1980, 1, 1, 0, 0, 0)), content)


def _checked(name: str, licence: str) -> str:
    """The licence as SPDX spells it."""
    if not NAME.fullmatch(name):
        raise ValueError(f"name {name!r}: take 5 to 128 letters a to z, digits, spaces and _ + - ( )")
    try:
        spelt = str(canonicalize_license_expression(licence))
    except InvalidLicenseExpression:
        spelt = ""
    if not LICENCE.fullmatch(spelt):
        raise ValueError(
            f"licence {licence!r} is none that SPDX knows, see https://spdx.org/licenses; CC-BY-4.0 is one"
        )
    return spelt


def _scale(image: np.ndarray, percentiles) -> np.ndarray:
    """As the package's preprocessing does: the percentiles of each channel become 0 and 1."""
    axes = tuple(range(2, image.ndim))
    low, high = (np.percentile(image, percent, axis=axes, keepdims=True) for percent in percentiles)
    return ((image - low) / (high - low + 1e-6)).astype(np.float32)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _description(name: str, licence: str, network: Network, note: dict, digests: dict[str, str]) -> dict:
    """What bioimage.io's specification 0.5 asks for."""
    spaces = "zyx"[-len(network.axes) :]
    low, high = note["percentiles"]
    scaling = {"axes": list(spaces), "min_percentile": low, "max_percentile": high}
    sizes = [{"min": axis.input(1), "step": axis.stride} for axis in network.axes]
    shorter = [
        {"tensor_id": "image", "axis_id": s, "offset": -2 * a.halo} for s, a in zip(spaces, network.axes, strict=True)
    ]
    classes = ["background", *(f"class_{k}" for k in range(1, network.arguments["classes"]))]

    def tensor(identifier: str, file: str, channels: list[str], lengths: list[dict], **others) -> dict:
        axes = [{"type": "space", "id": s, "size": size} for s, size in zip(spaces, lengths, strict=True)]
        front = [{"type": "batch"}, {"type": "channel", "channel_names": channels}]
        return {"id": identifier, "axes": [*front, *axes], "test_tensor": _source(file, digests), **others}

    return {
        "format_version": "0.5.4",
        "type": "model",
        "name": name,
        "description": "A valid-convolution U-Net: every output pixel has seen only real context.",
        "authors": [{"name": "unetpipe"}],
        "cite": [CITATION],
        "license": licence,
        "documentation": "README.md",
        "tags": ["segmentation", "unet", f"{len(spaces)}d"],
        "inputs": [
            tensor(
                "image",
                "image.npy",
                [_identifier(channel) for channel in note["channels"]],
                sizes,
                data={"type": "float32"},
                preprocessing=[
                    {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
                    {"id": "scale_range", "kwargs": scaling},
                ],
            )
        ],
        "outputs": [tensor("probabilities", "probabilities.npy", classes, shorter, data={"type": "float32"})],
        "weights": {"onnx": {**_source("network.onnx", digests), "opset_version": OPSET}},
        "config": {"unetpipe": {"version": __version__, "weights": note["digest"], "arguments": network.arguments}},
    }


def _source(file: str, digests: dict[str, str]) -> dict:
    return {"source": file, "sha256": digests[file]}


def _identifier(channel: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in channel.strip()) or "channel"


def _read_me(name: str, network: Network, note: dict) -> str:
    halo = " x ".join(str(axis.halo) for axis in network.axes)
    stride = " x ".join(str(axis.stride) for axis in network.axes)
    low, high = note["percentiles"]
    return (
        f"# {name}\n\nTrained with unetpipe {__version__}. Channels: {', '.join(note['channels'])}.\n\n"
        f"The output is {halo} pixels shorter than the input on each side; mirror the image outside of its edge. "
        f"Tiles that start at multiples of {stride} pixels give what the whole image gives.\n\n"
        f"Grey values are scaled so that percentiles {low} and {high} of each channel become 0 and 1.\n\n"
        "## Validation\n\nScores on held-out images stand in the report of the run that trained the network.\n"
    )
