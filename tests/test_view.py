"""What a viewer shows of a run: the right stores, at the right scale and contrast, to those who know the token."""

import io
import json
import shutil
import sys
import time
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from browser import CHROMIUM, opened
from dask.array import Array
from PIL import Image
from scenes import SIDES

from unetpipe.cli import main
from unetpipe.ingest import ingest
from unetpipe.manifest import write_json
from unetpipe.store import create_array, write_group
from unetpipe.truth import write_truth
from unetpipe.view import serving
from unetpipe.view.neuroglancer import state
from unetpipe.view.scene import find_scenes

SHAPE = (200, 300)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """`colour`: left half red, right half blue, a square of truth; `grey`: two channels, predicted."""
    folder = tmp_path_factory.mktemp("view")
    colour, labels = np.zeros((*SHAPE, 3), np.uint8), np.zeros(SHAPE, np.uint8)
    colour[:, :150, 0], colour[:, 150:, 2], labels[60:140, 40:110] = 200, 200, 7
    Image.fromarray(colour).save(folder / "colour.png")
    Image.fromarray(labels).save(folder / "labels.png")
    np.save(folder / "grey.npy", np.stack([np.full((1, *SHAPE), 100), np.full((1, *SHAPE), 50)]).astype(np.uint16))
    results = folder / "results"
    write_json(results / "tissue/colour.json", {"series": [{"path": "0", "low": [0] * 3, "high": [200] * 3}]})
    for name, file in (("colour", "colour.png"), ("grey", "grey.npy")):
        store = str(results / f"images/{name}.ome.zarr/zarr.json")
        ingest([str(folder / file)], store, sample=name, pixel_size=0.5, **SIDES)
    store = str(results / "images/colour.ome.zarr/zarr.json")
    write_truth([str(folder / "labels.png")], store, str(results / "truth/colour.json"), sample="colour")
    write_json(results / "tissue/grey.json", {"series": [{"path": "0", "low": [0, 20], "high": [200, 60]}]})
    probabilities = create_array(results / "probabilities/grey.zarr/0", (1, 1, 1, *SHAPE), np.uint8, chunk=32, shard=64)
    probabilities[..., 100:] = 255
    write_group(results / "probabilities/grey.zarr", {})
    return results


def layers(results, sample):
    (scene,) = find_scenes(results, [sample])
    shown = state(scene, "http://here/data")
    return shown, {layer["name"]: layer for layer in shown["layers"]}


def test_a_scene_has_a_layer_for_each_thing_that_is_there(results):
    shown, found = layers(results, "colour")
    assert list(found) == ["image red", "image green", "image blue", "truth"]
    assert found["truth"]["visible"]  # there are no objects to be seen instead
    assert {found[f"image {colour}"]["source"]["url"] for colour in ("red", "green", "blue")} == {
        "http://here/data/images/colour.ome.zarr/0/|zarr3:"
    }
    assert found["truth"]["source"] == "http://here/data/images/colour.ome.zarr/0/labels/truth/|zarr3:"
    assert shown["dimensions"] == {"x": [5e-7, "m"], "y": [5e-7, "m"], "z": [1e-6, "m"], "t": [1, ""]}
    assert shown["position"] == [149.5, 99.5, 0, 0]
    assert list(layers(results, "grey")[1]) == ["image 0", "image 1", "probability"]


def test_each_class_has_a_layer_of_probability(results, tmp_path):
    shutil.copytree(results, tmp_path / "r")
    create_array(tmp_path / "r/probabilities/grey.zarr/0", (1, 2, 1, *SHAPE), np.uint8, chunk=32, shard=64)
    _, found = layers(tmp_path / "r", "grey")
    chances = {name: layer for name, layer in found.items() if name.startswith("probability")}
    assert {name: layer["localPosition"] for name, layer in chances.items()} == {
        "probability 1": [0],
        "probability 2": [1],
    }
    assert len({layer["shader"] for layer in chances.values()}) == 2  # one can be told from the other


def test_pixels_that_neuroglancer_cannot_show_are_named(tmp_path, caplog):
    np.save(tmp_path / "a.npy", np.arange(20 * 30).reshape(20, 30).astype(np.int64))
    root = tmp_path / "results/images/a.ome.zarr/zarr.json"
    ingest([str(tmp_path / "a.npy")], str(root), sample="a", **SIDES)
    assert 'Type="double"' in (root.parent / "OME/METADATA.ome.xml").read_text()  # OME has no int64
    assert not layers(tmp_path / "results", "a")[1]
    with serving(tmp_path / "results"):
        assert 'sample "a", image a: Neuroglancer cannot show pixels of type int64' in caplog.text


def test_contrast_is_that_of_the_tissue(results):
    _, found = layers(results, "grey")
    assert "grey(range=[0, 200])" in found["image 0"]["shader"]
    assert "grey(range=[20, 60])" in found["image 1"]["shader"]
    assert found["image 1"]["localPosition"] == [1]


def test_who_knows_the_token_reads_stores_and_nothing_else(results):
    with serving(results) as address:
        assert json.load(urlopen(f"{address}scenes")) == [["colour", "colour"], ["grey", "grey"]]  # noqa: S310 - http
        store = json.load(urlopen(f"{address}scenes/0"))["layers"][0]["source"]["url"].removesuffix("|zarr3:")  # noqa: S310
        piece = urlopen(Request(f"{store}0/zarr.json", headers={"Range": "bytes=2-9"}))  # noqa: S310
        assert piece.status == 206
        assert piece.read() == (results / "images/colour.ome.zarr/0/0/zarr.json").read_bytes()[2:10]
        token = address.split("/")[-2]
        for refused in (
            store.replace(token, "guessed"),
            f"{address}data/tissue/grey.json",
            f"{address}data/images/../tissue/grey.json",
            f"{address}data/images/..%2Ftissue%2Fgrey.json",
            f"{address}scenes/9",
        ):
            with pytest.raises(HTTPError, match=r"40[34]"):
                urlopen(refused)  # noqa: S310


def test_a_taken_port_and_a_strange_sample_are_named(results):
    with serving(results) as address:
        port = address.split(":")[2].split("/")[0]
    with pytest.raises(SystemExit, match=r"no sample nowhere; there are colour, grey"):
        main(["view", str(results), "nowhere", "--no-browser"])
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=rf"port {port} of 127.0.0.1 cannot be had \(Address already in use\)"):
            main(["view", str(results), "--no-browser", "--port", str(port)])


def test_napari_gets_every_level_at_its_scale(results, monkeypatch):
    """A stand-in notes what it is asked for: napari itself needs a screen."""
    calls = []
    viewer = SimpleNamespace(
        add_image=lambda data, **how: calls.append(("image", data, how)),
        add_labels=lambda data, **how: calls.append(("labels", data, how)),
    )
    fake = SimpleNamespace(Viewer=lambda: viewer, run=lambda: calls.append(("run", None, {})))
    monkeypatch.setitem(sys.modules, "napari", fake)
    main(["view", str(results), "grey", "--napari"])
    (_, levels, how), (_, found, _), (last, _, _) = calls
    assert [level.shape[-2:] for level in levels] == [(200, 300), (100, 150), (50, 75), (25, 38), (13, 19)]
    assert (how["channel_axis"], how["scale"]) == (1, (1.0, 1.0, 0.5, 0.5))
    assert how["contrast_limits"] == [(0, 200), (20, 60)]
    assert found.shape == (1, 1, 1, *SHAPE)
    assert all(isinstance(array, Array) for array in (*levels, found))  # whose channels napari takes without reading
    assert (levels[0][:, 1].compute() == 50).all()
    assert last == "run"


def test_without_napari_it_is_said(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari", None)
    with pytest.raises(SystemExit, match="napari is not installed: pip install"):
        main(["view", str(results), "grey", "--napari"])


def colour_at(tab, x, y):
    return np.asarray(Image.open(io.BytesIO(tab.picture())).convert("RGB"))[y, x]


def wait_for(tab, x, y, colour):
    """Until a pixel of the window has a colour."""
    deadline = time.monotonic() + 60
    while np.abs(colour_at(tab, x, y).astype(int) - colour).max() > 3:  # Chromium may round otherwise
        assert time.monotonic() < deadline, (colour_at(tab, x, y), tab.said)
        time.sleep(0.2)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; apt-get install chromium")
def test_in_a_browser_pixels_have_their_colours(results, tmp_path):
    """300 × 200 pixels are drawn three times as large in the middle of what the list leaves."""
    with serving(results) as address, opened(address, tmp_path) as tab:
        tab.resize(1224, 800)
        wait_for(tab, 400, 300, (255, 0, 0))
        wait_for(tab, 1000, 300, (0, 0, 255))
        tab.ask("Input.dispatchKeyEvent", type="keyDown", key="PageDown")
        mixed = np.array((0.75, 0.5, 1.0))  # half of cyan and three quarters of magenta
        wait_for(tab, 400, 300, 255 * mixed)
        for kind in ("mousePressed", "mouseReleased"):
            tab.ask("Input.dispatchMouseEvent", type=kind, x=700, y=600, button="left", clickCount=1)
        tab.ask("Input.dispatchKeyEvent", type="keyDown", key="3", code="Digit3")  # the third layer
        wait_for(tab, 1000, 300, 255 * (0.7 * np.array((1, 0.4, 0)) + 0.3 * mixed))
        wait_for(tab, 300, 300, 255 * mixed)
        tab.ask("Input.dispatchKeyEvent", type="keyDown", key="PageUp")
        wait_for(tab, 400, 300, (255, 0, 0))
        assert not [said for said in tab.said if "exception" in said or '"level": "error"' in said]
