"""What others make of the stores: the OME-Zarr models accept them, tensorstore reads the same pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import tifffile
import zarr
from ome_zarr_models.v05.bioformats2raw import BioFormats2Raw
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel
from scenes import SIDES, prepare

from unetpipe.ingest import ingest
from unetpipe.store import open_array


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of two series with truth and tissue, and one of a stack of 16-bit channels."""
    folder = tmp_path_factory.mktemp("store")
    prepare(folder, [(150, 203), (40, 37)])
    pixels = np.random.default_rng(0).integers(0, 60000, (2, 3, 70, 90), np.uint16)
    metadata = {"axes": "CZYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 1.5}
    tifffile.imwrite(folder / "c.ome.tif", pixels, metadata={**metadata, "Channel": {"Name": ["DAPI", "actin"]}})
    ingest([str(folder / "c.ome.tif")], str(folder / "images" / "c.ome.zarr" / "zarr.json"), sample="c", **SIDES)
    return folder / "images"


def groups(store):
    for name in ("s.ome.zarr/0", "s.ome.zarr/1", "c.ome.zarr/0"):
        yield store / name


def test_the_models_accept_collections_images_and_labels(store):
    for name in ("s", "c"):
        BioFormats2Raw.from_zarr(zarr.open_group(store / f"{name}.ome.zarr", mode="r"))
    for image in groups(store):
        Image.from_zarr(zarr.open_group(image, mode="r"))
    for label in (store / "s.ome.zarr").glob("*/labels/*/zarr.json"):
        ImageLabel.from_zarr(zarr.open_group(label.parent, mode="r"))


def test_the_models_refuse_what_is_wrong(store, tmp_path):
    """The check above can fail."""
    ome = json.loads((store / "s.ome.zarr" / "0" / "zarr.json").read_text())
    ome["attributes"]["ome"]["multiscales"][0]["axes"][1]["type"] = "space"
    (tmp_path / "zarr.json").write_text(json.dumps(ome))
    for level in (store / "s.ome.zarr" / "0").glob("[0-9]"):
        (tmp_path / level.name).symlink_to(level)
    with pytest.raises(ValueError, match="axes"):
        Image.from_zarr(zarr.open_group(tmp_path, mode="r"))


def test_tensorstore_reads_the_same_pixels(store):
    for image in groups(store):
        for level in [*image.glob("[0-9]"), *image.glob("labels/*/[0-9]")]:
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(level)}}
            found = tensorstore.open(spec, read=True).result().read().result()
            np.testing.assert_array_equal(found, open_array(level)[...])


def test_ome_zarr_py_reads_the_same_pixels(store):
    pytest.importorskip("ome_zarr", reason="see benchmarks/requirements.txt")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    for image in groups(store):
        nodes = {Path(node.zarr.path): node for node in Reader(parse_url(str(image)))()}
        for level, found in enumerate(nodes[image].data):
            np.testing.assert_array_equal(found, open_array(image / str(level))[...])
        labels = {path.parent for path in image.glob("labels/*/zarr.json")}
        assert labels <= nodes.keys()
        for label in labels:
            np.testing.assert_array_equal(nodes[label].data[0], open_array(label / "0")[...])


def test_a_viewer_is_told_which_grey_values_to_show(store):
    for image, names in zip(groups(store), (["0"], ["0"], ["DAPI", "actin"]), strict=True):
        channels = json.loads((image / "zarr.json").read_text())["attributes"]["ome"]["omero"]["channels"]
        assert [channel["label"] for channel in channels] == names
        for number, channel in enumerate(channels):
            pixels, window = open_array(image / "0")[:, number], channel["window"]
            assert window["min"] <= window["start"] < window["end"] <= window["max"]
            assert 0.9 < ((pixels >= window["start"]) & (pixels <= window["end"])).mean() <= 1
