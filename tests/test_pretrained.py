"""A CNN as contracting path: its weights are timm's, its tiles give what the whole image gives."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scenes import prepare

from unetpipe.geometry import Axis
from unetpipe.manifest import read_json
from unetpipe.predict.part import predict_part
from unetpipe.predict.publish import publish_probabilities
from unetpipe.pretrained import PretrainedUNet, find_weights, import_timm
from unetpipe.saved import load_network, save_network
from unetpipe.store import open_array
from unetpipe.train import train


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of a whole timm model, its classifier included, as timm publishes them."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file(import_timm().create_model("test_resnet").state_dict(), path)
    return path


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_contracting_path_is_timms(weights, channels):
    overlay = {"file": str(weights)}
    expected = import_timm().create_model(
        "test_resnet", pretrained=True, pretrained_cfg_overlay=overlay, in_chans=channels, features_only=True
    )
    network = PretrainedUNet(backbone="test_resnet", depth=3, channels=channels, weights=weights)
    image = torch.rand(1, channels, 64, 64)
    found = network.eval().backbone(image)
    assert network.backbone.feature_info.reduction() == [2, 4, 8]
    for a, b in zip(found, expected.eval()(image), strict=False):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "vgg11"])
def test_tiles_give_what_the_whole_gives(backbone):
    torch.manual_seed(1)
    network = PretrainedUNet(backbone=backbone, depth=3, features=4).eval()
    (axis, _) = network.axes
    assert axis.halo % axis.stride == 0
    side = 3 * axis.stride
    image = torch.randn(1, 1, side + 2 * axis.halo, side + 2 * axis.halo)
    with torch.inference_mode():
        whole = network(image)
        reach = axis.stride + 2 * axis.halo
        tile = network(image[:, :, axis.stride : axis.stride + reach, :reach])
    part = whole[:, :, axis.stride : 2 * axis.stride, : axis.stride]
    assert (tile - part).abs().max() < 1e-5 * (whole.max() - whole.min())  # kernels round by shape


def test_the_receptive_field_is_that_of_the_layers():
    """Two 3 × 3 convolutions at full resolution, and what lies below: the context is no less than its own sum."""
    network = PretrainedUNet(backbone="test_resnet", depth=1, features=2)
    stem = network.backbone
    reach = sum((m.kernel_size[0] - 1) // 2 for m in stem.modules() if isinstance(m, torch.nn.Conv2d))
    assert network.axes[0].halo >= reach + 2


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("test_efficientnet", "looks at the whole image"),  # squeeze and excitation
        ("resnet_34", "timm .* has no model 'resnet_34'; near are"),
        ("test_vit", "rising"),
    ],
)
def test_what_does_not_fit_is_refused(backbone, message):
    with pytest.raises(ValueError, match=message):
        PretrainedUNet(backbone=backbone, depth=4)


def test_a_saved_network_is_the_same(tmp_path, weights):
    network = PretrainedUNet(backbone="test_resnet", depth=2, features=2, weights=weights).eval()
    save_network(network, tmp_path / "network.json", {})
    again, _ = load_network(tmp_path / "network.json")
    image = torch.rand(1, 1, *[axis.input(8) for axis in network.axes])
    assert torch.equal(network(image), again(image))
    assert again.axes == network.axes == (Axis(stride=4, halo=network.axes[0].halo, lost=0),) * 2


def test_weights_come_from_timms_cache(tmp_path, monkeypatch, weights):
    import_timm()
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"not in .*; where there is a network run: python -c .*timm.create_model"
    ):
        find_weights("test_resnet", "cache")
    folder = tmp_path / f"models--{import_timm().get_pretrained_cfg('test_resnet').hf_hub_id.replace('/', '--')}"
    (folder / "snapshots" / "1").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("1")
    (folder / "snapshots" / "1" / "model.safetensors").write_bytes(weights.read_bytes())
    assert find_weights("test_resnet", "cache") == folder / "snapshots" / "1" / "model.safetensors"


@pytest.mark.parametrize(("name", "kind"), [("none.safetensors", FileNotFoundError), ("model.pth", ValueError)])
def test_other_files_are_refused(tmp_path, name, kind):
    (tmp_path / "model.pth").touch()
    with pytest.raises(kind, match=r"train\.pretrained"):
        find_weights("test_resnet", str(tmp_path / name))


def damaged(content, kind):
    """Weights as a file may hold them that is not what was meant."""
    if kind == "prefixed":
        return {f"model.{name}": tensor for name, tensor in content.items()}
    if kind == "other shape":
        return {name: tensor[..., :1].contiguous() if tensor.ndim == 4 else tensor for name, tensor in content.items()}
    return {name: tensor for name, tensor in content.items() if not name.startswith("layer2.")}


@pytest.mark.parametrize("kind", ["prefixed", "other shape", "some missing", "cut"])
def test_weights_of_something_else_are_refused(tmp_path, weights, kind):
    """Taken for its own, timm would begin with random numbers, and say no more than a warning."""
    path = tmp_path / "model.safetensors"
    save_file(damaged(load_file(weights), kind), path)
    if kind == "cut":
        path.write_bytes(weights.read_bytes()[:-100])
    message = "no whole safetensors file" if kind == "cut" else r"holds no weights of test_resnet: .* first; take the"
    with pytest.raises(ValueError, match=message):
        PretrainedUNet(backbone="test_resnet", depth=3, weights=path)


def test_it_trains_and_predicts_without_seams(tmp_path, weights):
    made = prepare(tmp_path, [(90, 110)])
    network = str(tmp_path / "network.json")
    settings = {
        "backbone": "test_resnet",
        "pretrained": str(weights),
        "depth": 2,
        "features": 2,
        "tile": 16,
        "steps": 3,
    }
    train([made["image"]], [made["tissue"]], [made["weights"]], network, precision="float32", **settings)
    assert read_json(network)["settings"]["pretrained"]
    found = []
    for block in (32, 128):
        folder = tmp_path / str(block)
        paths, store = [made["image"], made["tissue"], [network]], folder / "p.zarr" / "zarr.json"
        predict_part(*paths, str(folder / "0.json"), store=str(store), sample="s", block=block)
        publish_probabilities(*paths, str(store), sample="s", block=block)
        found.append(open_array(store.parent / "0")[...].astype(int))
    assert np.abs(found[0] - found[1]).max() <= 1  # uint8
    assert (found[0] != found[1]).mean() <= 1e-3  # kernels round by tile shape
