"""What a sheet, a config, a file's name or a network says is never run, and leads nowhere outside of the results."""

import io
import json
import pickle
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from PIL import Image
from projects import ROOT

from unetpipe.config import read_config
from unetpipe.ingest import ingest
from unetpipe.manifest import file_digest, read_json, write_json
from unetpipe.mask import write_mask
from unetpipe.network import UNet
from unetpipe.readers import open_series
from unetpipe.report import write_report
from unetpipe.saved import load_network, save_network
from unetpipe.schema import check_schema

HOSTILE = "x\"'><script>alert(1)<|script>$(touch owned)`touch owned`; {{ 7 * 7 }}"
NAMES = ["..", ".hidden", "a/b", "/a", "a\nb", "a b", "-rf", "$(id)", "`id`", "a;b", "{a}", "<b>", "a'", 'a"', "ä", "*"]


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_named_by_letters_that_mean_nothing_to_paths_shells_and_pages(name):
    row = {"sample": name, "path": "a.tif", "split": "predict"}
    (said,) = check_schema(row, "samples")
    assert "may have letters, digits, dots, dashes and underscores only" in said
    assert not list(check_schema({**row, "sample": "a..b-C_9"}, "samples"))


def test_names_of_files_and_values_of_the_config_are_text_in_every_output(tmp_path):
    image, results = tmp_path / f"{HOSTILE}.png", tmp_path / "results"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 50), np.uint8)).save(image)
    store = results / "images" / "s.ome.zarr"
    ingest([str(image)], str(store / "zarr.json"), sample="s")
    write_mask(str(store / "zarr.json"), str(results / "tissue" / "s.json"), sample="s", contrast=0)
    named = ET.parse(store / "OME" / "METADATA.ome.xml").getroot()[0]  # noqa: S314 - written here
    assert named.attrib["Name"] == HOSTILE
    arguments = {"depth": 1, "features": 2, "classes": HOSTILE}
    note = {"arguments": arguments, "axes": [[2, 4]], "precision": HOSTILE, "digest": HOSTILE, "curve": [[1, 0.5, 0.1]]}
    write_json(tmp_path / "all" / "network.json", note)
    networks = [str(tmp_path / "all" / "network.json")]
    whole = {"samples": [["s", "train"]], "networks": networks, "results": results}
    write_report(str(results / "report.html"), config={"data": HOSTILE}, **whole)
    page = (results / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&gt;&lt;script&gt;alert(1)" in page
    assert "{{ 7 * 7 }}" in page
    assert not list(tmp_path.rglob("owned"))


def test_a_tag_of_a_config_is_no_call(tmp_path):
    owned, config = tmp_path / "owned", tmp_path / "config.yaml"
    path = f"!!python/object/apply:pathlib.Path [{owned}]"
    config.write_text(f"samples: !!python/object/apply:pathlib.Path.touch [{path}]\n")
    with pytest.raises(ValueError, match="could not determine a constructor"):
        read_config(config)
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "-n"]
    done = subprocess.run([*command, "--configfile", config], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Config file is not valid JSON or YAML" in done.stdout + done.stderr
    assert not owned.exists()


def test_a_network_is_never_unpickled(tmp_path):
    """Both files as somebody would send them who means harm: the digest is right."""
    path, weights, owned = tmp_path / "n.json", tmp_path / "n.safetensors", tmp_path / "owned"
    save_network(UNet(features=2, depth=1), path, {"precision": "float32"})
    saved = io.BytesIO()
    torch.save(Payload(owned), saved)
    for content in (pickle.dumps(Payload(owned)), saved.getvalue()):
        weights.write_bytes(content)
        path.write_text(json.dumps({**read_json(path), "digest": file_digest(weights)}))
        with pytest.raises(ValueError, match=r"n.json: arguments and weights do not fit"):
            load_network(path)
    assert not owned.exists()


def test_an_array_of_objects_is_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([Payload(tmp_path / "owned")], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a\.npy"):
        open_series(tmp_path / "a.npy")
    assert not (tmp_path / "owned").exists()
