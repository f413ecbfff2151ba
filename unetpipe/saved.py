"""Networks on disk: the weights as safetensors, and the JSON that rebuilds the network."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from unetpipe.manifest import file_digest, write_bytes, write_json
from unetpipe.network import Network, UNet
from unetpipe.notes import axes_of, read_note
from unetpipe.pretrained import PretrainedUNet


def save_network(network: Network, path: str | Path, note: dict) -> None:
    """Write the weights and, last, the JSON.

    Parameters
    ----------
    path : path
        The JSON file; the weights lie beside it as `network.safetensors`.
    note : dict
        What prediction needs beside the weights, e.g. classes; kept under its own keys.
    """
    weights = Path(path).with_suffix(".safetensors")
    write_bytes(weights, save({name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}))
    known = {"arguments": network.arguments, "axes": network.axes}
    write_json(path, {**known, "digest": file_digest(weights), **note})


def load_network(path: str | Path) -> tuple[Network, dict]:
    """Rebuild a network and return it, in evaluation mode, with its note.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing, is not the one that the JSON was written with, or does not fit.
    """
    note, weights = read_note(path), Path(path).with_suffix(".safetensors")
    if not weights.exists():
        raise FileNotFoundError(f"{weights} is missing; it belongs beside {path}")
    if file_digest(weights) != note["digest"]:
        raise ValueError(f"{weights} is not the file that {path} was written with; copy both again or train anew")
    try:
        network = rebuild(note["arguments"])
        network.load_state_dict(load_file(weights))
    except (TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path}: arguments and weights do not fit this version's U-Net: {error}") from error
    if axes_of(note) != network.axes:
        raise ValueError(f"{path}: its axes {note['axes']} are not those of its arguments, {network.axes}; train anew")
    return network.eval(), note


def rebuild(arguments: dict) -> Network:
    """A network of these arguments, with random weights."""
    return PretrainedUNet(**arguments) if "backbone" in arguments else UNet(**arguments)
