"""Outside the workflow a network gives the same numbers."""

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import torch
from scenes import prepare

from unetpipe import Network
from unetpipe.cli import main
from unetpipe.ingest import ingest
from unetpipe.mask import write_mask
from unetpipe.network import UNet
from unetpipe.predict.part import predict_part
from unetpipe.predict.publish import publish_probabilities
from unetpipe.saved import save_network
from unetpipe.store import open_array, read_attributes
from unetpipe.trained import predict_file

ROUNDING = 1  # of uint8: kernels round by tile shape


def save(path, **arguments):
    torch.manual_seed(3)
    note = {"precision": "float32", "percentiles": [1, 99]}
    save_network(UNet(features=4, depth=2, dropout=0.0, **arguments), path, note)
    return str(path)


def by_the_workflow(made, networks, folder, **changes):
    paths, store = [made["image"], made["tissue"], networks], str(folder / "p.zarr" / "zarr.json")
    predict_part(*paths, str(folder / "0.json"), store=store, sample="s", block=64, **changes)
    publish_probabilities(*paths, store, sample="s", block=64, **changes)
    return open_array(Path(store).parent / "0")[0]


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """One image with empty glass at its right, and its mask."""
    folder = tmp_path_factory.mktemp("trained")
    made = prepare(folder, [(150, 700)])
    source = folder / "data" / "images" / "00.tif"
    pixels = tifffile.imread(source)
    pixels[:, 300:] = 60
    tifffile.imwrite(source, pixels)
    shutil.rmtree(folder / "images")
    ingest([str(source)], made["image"], sample="s", chunk=32, shard=64)
    write_mask(made["image"], made["tissue"], sample="s")
    return {**made, "source": source, "pixels": pixels}


@pytest.mark.parametrize("views", [1, 8])
def test_arrays_give_the_numbers_of_the_workflow(slide, tmp_path, views):
    network = save(tmp_path / "n.json")
    expected = by_the_workflow(slide, [network], tmp_path, views=views)[:, 0]
    found = Network(network, views=views).predict(slide["pixels"])
    assert found.dtype == np.uint8
    both = (found > 0) & (expected > 0)  # the notebook's blocks are larger, so that it sees more of the empty glass
    assert both[:, :, :256].all()
    assert np.abs(found.astype(int) - expected)[both].max() <= ROUNDING
    everywhere = Network(network).predict(slide["pixels"], contrast=0)
    assert everywhere.min() > 0


def test_glass_is_what_it_was_in_training(slide, tmp_path):
    note = {"precision": "float32", "percentiles": [1, 99], "mask": {"contrast": 0, "window": 32, "margin": 64}}
    save_network(UNet(features=4, depth=2, dropout=0.0), tmp_path / "n.json", note)
    network = Network(tmp_path / "n.json")
    everywhere = network.predict(slide["pixels"])
    np.testing.assert_array_equal(everywhere, network.predict(slide["pixels"], contrast=0))
    assert (network.predict(slide["pixels"], contrast=0.15) != everywhere).any()
    stored = predict_file([tmp_path / "n.json"], slide["source"], tmp_path / "out", block=256) / "0"
    assert np.abs(open_array(stored)[0, :, 0].astype(int) - everywhere).max() <= ROUNDING


def test_volumes_and_channels_have_their_axes(tmp_path):
    volume = prepare(tmp_path, [(9, 60, 50)], spacing=(1.0, 1.0, 1.0), dimensions=3)
    network = save(tmp_path / "v.json", dimensions=3)
    pixels = tifffile.imread(tmp_path / "data" / "images" / "00.ome.tif")
    expected = by_the_workflow(volume, [network], tmp_path)
    found = Network([network]).predict(pixels, contrast=0)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= ROUNDING
    colours = Network(save(tmp_path / "c.json", channels=3))
    assert colours.predict(np.random.default_rng(1).integers(0, 255, (3, 40, 50))).shape == (1, 40, 50)
    with pytest.raises(ValueError, match=r"shape \(40, 50\) does not fit: the network sees 3 channels of \(y, x\)"):
        colours.predict(np.zeros((40, 50)))


@pytest.mark.parametrize(
    ("pixel", "says"),
    [(np.nan, r"pixel \(0, 0, 0, 3, 4\) \(t, c, z, y, x\) is nan"), (np.inf, r"\(0, 0, 0, 3, 4\) .* is inf")],
)
def test_arrays_are_refused_as_the_workflow_refuses_them(slide, tmp_path, pixel, says):
    network, pixels = Network(save(tmp_path / "n.json")), slide["pixels"].astype(np.float32)
    pixels[3, 4] = pixel
    with pytest.raises(ValueError, match=says):
        network.predict(pixels)
    with pytest.raises(ValueError, match=r"shape \(0, 5\) does not fit"):
        network.predict(pixels[:0, :5])


def test_a_mask_is_an_image_of_0_and_1(slide, tmp_path):
    network, mask = Network(save(tmp_path / "n.json")), slide["pixels"] > 100
    np.testing.assert_array_equal(network.predict(mask), network.predict(mask.astype(np.uint8)))


def test_the_channels_of_the_training_images_are_taken_in_their_order(slide, tmp_path):
    """By their names; those that have none are told by hand."""
    channels = np.stack([slide["pixels"], 255 - slide["pixels"], slide["pixels"][::-1]])
    tifffile.imwrite(
        tmp_path / "c.ome.tif", channels, metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "dark", "GFP"]}}
    )
    tifffile.imwrite(tmp_path / "plain.tif", channels, photometric="minisblack", planarconfig="separate")
    torch.manual_seed(3)
    note = {"precision": "float32", "percentiles": [1, 99], "channels": ["GFP", "DAPI"]}
    save_network(UNet(channels=2, features=4, depth=2, dropout=0.0), tmp_path / "n.json", note)
    expected = Network(tmp_path / "n.json").predict(channels[[2, 0]])[:, None]
    for name, more in (("c.ome.tif", []), ("plain.tif", ["--channels", "2,0"])):
        call = ["predict", str(tmp_path / "n.json"), str(tmp_path / name), str(tmp_path / name[:-4]), "--threads", "2"]
        main([*call, *more])
        stored = open_array(tmp_path / name[:-4] / "probabilities.zarr" / "0")[0]
        assert np.abs(stored.astype(int) - expected).max() <= ROUNDING
    with pytest.raises(SystemExit, match=r"has 3 channels, network .* was trained on 2; choose 2 of 0, 1, 2 in"):
        main(["predict", str(tmp_path / "n.json"), str(tmp_path / "plain.tif"), str(tmp_path / "out")])


def test_a_block_that_the_store_could_not_hold_is_refused(slide, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["predict", "n.json", str(slide["source"]), str(tmp_path / "out"), "--block", "100"])
    assert "'100' is neither auto nor a multiple of 256" in capsys.readouterr().err


def test_one_file_from_the_command_line(slide, tmp_path, capsys):
    networks = [save(tmp_path / name) for name in ("a.json", "b.json")]
    main(["predict", *networks, str(slide["source"]), str(tmp_path / "out"), "--threads", "2"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "probabilities.zarr")
    expected = Network(networks).predict(slide["pixels"])[:, None]
    np.testing.assert_array_equal(open_array(tmp_path / "out" / "probabilities.zarr" / "0")[0], expected)
    assert read_attributes(tmp_path / "out" / "probabilities.zarr" / "zarr.json")["blocks"]["computed"] == 1


def test_an_array_inside_a_file_from_the_command_line(slide, tmp_path):
    network = save(tmp_path / "n.json")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"], file["other"] = slide["pixels"], slide["pixels"][::-1]
    main(["predict", network, f"{tmp_path / 'a.h5'}:/raw", str(tmp_path / "out"), "--threads", "2"])
    expected = Network(network).predict(slide["pixels"])[:, None]
    np.testing.assert_array_equal(open_array(tmp_path / "out" / "probabilities.zarr" / "0")[0], expected)


@pytest.mark.parametrize(
    ("image", "says"),
    [("nowhere.tif", "no such file"), ("broken.tif", "broken.tif: no pixels"), ("a.xyz", "unknown image format")],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, image, says):
    network = save(tmp_path / "n.json")
    (tmp_path / "broken.tif").write_bytes(b"II*\0 not a TIFF")
    (tmp_path / "a.xyz").touch()
    with pytest.raises(SystemExit, match=says):
        main(["predict", network, str(tmp_path / image), str(tmp_path / "out")])


def test_the_name_is_known_without_loading_torch():
    code = "import sys, unetpipe; assert 'torch' not in sys.modules; unetpipe.Network; assert 'torch' in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
