"""What no own format reads is read through bioio's plugins; a stand-in of bioio gives what its documentation says."""

import sys
from types import ModuleType, SimpleNamespace

import dask.array
import numpy as np
import pytest
from PIL import Image

from unetpipe.readers import open_series

ARRAYS = {
    "TCZYX": np.arange(2 * 3 * 4 * 5 * 6, dtype=np.uint16).reshape(2, 3, 4, 5, 6),
    "TCZYXS": np.arange(3 * 5 * 6, dtype=np.uint8).reshape(1, 1, 1, 5, 6, 3),
}


class UnsupportedError(Exception):
    """What bioio raises."""


def sizes(z, y, x):
    return SimpleNamespace(Z=z, Y=y, X=x)


class StandIn:
    """A file of two scenes, the second in colours."""

    scenes = ("first", "second")

    def __init__(self, path):
        if path.suffix != ".czi":
            raise UnsupportedError("no plugin")

    def set_scene(self, number):
        """What is read from then on."""
        order = [*ARRAYS][number]
        self.array = ARRAYS[order]
        self.dims = SimpleNamespace(order=order, C=self.array.shape[1])
        self.physical_pixel_sizes = [sizes(2.0, 0.5, 0.25), sizes(None, None, None)][number]
        self.channel_names = [["DAPI", "GFP", "actin"], ["Channel:0"]][number]

    def get_image_dask_data(self, axes):
        """The scene's pixels."""
        swapped = self.array[:, 0].transpose(0, 4, 1, 2, 3) if axes == "TSZYX" else self.array
        return dask.array.from_array(swapped)


@pytest.fixture
def bioio(monkeypatch):
    modules = {"bioio": {"BioImage": StandIn}, "bioio_base": {}}
    modules["bioio_base.exceptions"] = {"UnsupportedFileFormatError": UnsupportedError}
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("bioio")
def test_scenes_become_series(tmp_path):
    (tmp_path / "a.czi").touch()
    with pytest.raises(ValueError, match="claims"):  # an empty file cannot hold pixels
        open_series(tmp_path / "a.czi")
    (tmp_path / "a.czi").write_bytes(b"czi")
    first, second = open_series(tmp_path / "a.czi")
    assert (first.name, first.pixel_size, first.channels) == ("a-0", (2.0, 0.5, 0.25), ("DAPI", "GFP", "actin"))
    assert (second.pixel_size, second.channels) == (None, ("red", "green", "blue"))
    window = (slice(1, 2), slice(0, 2), slice(1, 4), slice(2, 5), slice(0, 3))
    np.testing.assert_array_equal(first.read(window), ARRAYS["TCZYX"][window])
    colours = second.read(tuple(slice(0, size) for size in second.shape))
    np.testing.assert_array_equal(colours[0, :, 0], np.moveaxis(ARRAYS["TCZYXS"][0, 0, 0], -1, 0))


@pytest.mark.usefixtures("bioio")
def test_without_a_plugin_the_error_says_so(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a\.xyz: no plugin of bioio that is installed reads it"):
        open_series(tmp_path / "a.xyz")


def test_without_bioio_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "bioio", None)
    (tmp_path / "a.czi").write_bytes(b"czi")
    with pytest.raises(ValueError, match=r"a\.czi: unknown image format; known suffixes are \.tif.*pip install bioio"):
        open_series(tmp_path / "a.czi")


def test_a_real_plugin(tmp_path):
    pytest.importorskip("bioio_imageio", reason="bioio and its plugins are no part of the project")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.ppm")
    (series,) = open_series(tmp_path / "a.ppm")
    found = series.read(tuple(slice(0, size) for size in series.shape))
    np.testing.assert_array_equal(found[0, :, 0], np.moveaxis(pixels, -1, 0))
