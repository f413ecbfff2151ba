"""What leaves the project computes the same elsewhere."""

import hashlib
import re
import shutil
import zipfile

import bioimageio.core
import numpy as np
import onnxruntime
import pytest
import torch
import yaml

from unetpipe.cli import main
from unetpipe.export import Probabilities, export_package
from unetpipe.network import UNet
from unetpipe.pretrained import PretrainedUNet
from unetpipe.saved import save_network

NOTE = {"channels": ["phase contrast", "DAPI"], "percentiles": [1, 99]}
NETWORKS = {
    "plane": lambda: UNet(features=3, depth=1, channels=2, classes=3, normalise=True),
    "volume": lambda: UNet(features=2, depth=1, channels=2, dimensions=3, spacing=(3, 1, 1), downsample="stride"),
    "pretrained": lambda: PretrainedUNet(backbone="test_resnet", depth=2, features=2, channels=2),
}


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request, tmp_path_factory):
    """A network of each kind, and the files that it was exported to."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    network = NETWORKS[request.param]().eval()
    save_network(network, folder / "network.json", NOTE)
    for name in ("network.onnx", "package.zip"):
        main(
            [
                "export",
                str(folder / "network.json"),
                str(folder / name),
                "--name",
                "Cells in a test",
                "--licence",
                "mit",
            ]
        )
    return network, folder


def test_onnx_gives_the_same_at_any_valid_size(exported):
    network, folder = exported
    session = onnxruntime.InferenceSession(folder / "network.onnx")
    for more in (0, 1, 3):
        sides = [axis.input(5) + more * axis.stride for axis in network.axes]
        image = np.random.default_rng(more).random((2, 2, *sides), dtype=np.float32)
        (found,) = session.run(None, {"image": image})
        with torch.inference_mode():
            expected = Probabilities(network)(torch.from_numpy(image)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)  # float32


def test_the_package_passes_the_tests_of_bioimage_io(exported):
    _, folder = exported
    summary = bioimageio.core.test_model(folder / "package.zip")
    assert summary.status == "passed", summary.display()


def test_the_package_holds_what_it_describes(exported):
    network, folder = exported
    with zipfile.ZipFile(folder / "package.zip") as package:
        description = yaml.safe_load(package.read("rdf.yaml"))
        digest = hashlib.sha256(package.read("network.onnx")).hexdigest()
    assert description["weights"]["onnx"]["sha256"] == digest
    assert [axis["size"]["offset"] for axis in description["outputs"][0]["axes"][2:]] == [
        -2 * a.halo for a in network.axes
    ]
    assert description["license"] == "MIT"
    assert description["inputs"][0]["axes"][1]["channel_names"] == ["phase_contrast", "DAPI"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "my/net: é"}, "name 'my/net: é': take 5 to 128 letters"),
        ({"name": "cell"}, "name 'cell': take 5 to 128 letters"),
        ({"licence": "FOO"}, "licence 'FOO' is none that SPDX knows"),
        ({"licence": "LicenseRef-mine"}, "licence 'LicenseRef-mine' is none"),
        ({"licence": "MIT OR ISC"}, "licence 'MIT OR ISC' is none"),
    ],
)
def test_what_bioimage_io_would_refuse_is_refused_before_anything_is_written(tmp_path, given, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        export_package(tmp_path / "network.json", tmp_path / "p.zip", **{"name": "Cells", **given})
    assert not list(tmp_path.iterdir())


def test_a_tampered_network_is_one_sentence(exported, tmp_path):
    _, folder = exported
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "network.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(SystemExit, match=r"unetpipe: .*network\.safetensors is not the file that"):
        main(["export", str(tmp_path / "network.json"), str(tmp_path / "other.onnx")])


def test_another_kind_of_file_is_refused(exported):
    _, folder = exported
    with pytest.raises(SystemExit, match=r"ends neither in .onnx nor in .zip"):
        main(["export", str(folder / "network.json"), str(folder / "network.h5")])
