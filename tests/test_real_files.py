"""Every real file goes into a store with the pixels that another reader finds in it."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from unetpipe.ingest import ingest
from unetpipe.store import open_array, read_attributes

DATA = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"real images are not at {DATA}")
RGB = ["red", "green", "blue"]
TIFF = [
    ("slides/boxes.tiff", "YXC", RGB),
    ("slides/yb10kx5k.zstd.tiff", "YXC", RGB),
    ("ome-tiff/single-channel.ome.tiff", "YX", ["0"]),
    ("ome-tiff/multi-channel.ome.tif", "CYX", ["0", "1", "2"]),
    ("ome-tiff/multifile-Z3.ome.tiff", "YX", ["0"]),
    ("stardist-demo/img2d_256.tif", "YX", ["0"]),
    ("stardist-demo/img2d_512.tif", "YX", ["0"]),
    ("stardist-demo/img3d.tif", "ZYX", ["0"]),
    ("stardist-demo/mask3d.tif", "ZYX", ["0"]),
]
PICTURES = ["sim-nuclei/images/t000.png", "sim-nuclei/labels"]
HDF5 = [("confocal3d/nuclei_1135_mini.h5", "label"), ("confocal3d/nuclei_1135_mini.h5", "raw")]


def stored(tmp_path, path, **options):
    root = tmp_path / "s.ome.zarr" / "zarr.json"
    ingest([str(path)], str(root), sample="s", workers=2, **options)
    (series,) = read_attributes(root)["series"]
    return series, open_array(root.parent / "0" / "0")


@pytest.mark.parametrize(("name", "axes", "channels"), TIFF, ids=[name for name, *_ in TIFF])
def test_tiff(tmp_path, name, axes, channels):
    series, found = stored(tmp_path, DATA / name)
    expected = tifffile.imread(DATA / name)
    assert found.dtype == expected.dtype
    order = np.argsort(["CZYX".index(axis) for axis in axes])
    missing = [place for place, axis in enumerate("TCZYX") if axis not in axes]
    np.testing.assert_array_equal(found[...], np.expand_dims(expected.transpose(order), missing))
    assert series["channels"] == channels


def test_pictures(tmp_path):
    for number, name in enumerate(PICTURES):
        path = DATA / name
        path = path if path.is_file() else min(path.glob("*.png"))
        _, found = stored(tmp_path / str(number), path)
        with Image.open(path) as image:
            np.testing.assert_array_equal(found[0, 0, 0], np.asarray(image))


@pytest.mark.parametrize(("name", "inside"), HDF5)
def test_hdf5(tmp_path, name, inside):
    series, found = stored(tmp_path, DATA / name, inside=inside)
    with h5py.File(DATA / name) as file:
        np.testing.assert_array_equal(found[0, 0], file[inside][...])
        assert series["pixel_size"] == pytest.approx([float(size) for size in file[inside].attrs["element_size_um"]])
