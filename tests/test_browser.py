"""The report in a browser: no errors, tables sort, layers switch, pictures zoom; on a screen and on a phone."""

import io

import numpy as np
import pytest
from browser import CHROMIUM, opened
from PIL import Image

from unetpipe.ingest import ingest
from unetpipe.manifest import write_json
from unetpipe.report import write_report
from unetpipe.truth import write_truth

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; apt-get install chromium"),
]
SIZES = {"n1": (64, 96), "n2": (128, 96), "n10": (256, 320)}


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    """A page about three annotated samples of one image each: a bright square on dark ground."""
    folder = tmp_path_factory.mktemp("page")
    results = folder / "results"
    for name, shape in SIZES.items():
        labels = np.zeros(shape, np.uint8)
        labels[10:40, 10:40] = 1
        for kind, pixels in (("image", 50 + 150 * labels), ("labels", labels)):
            Image.fromarray(pixels).save(folder / f"{name}-{kind}.png")
        store = str(results / f"images/{name}.ome.zarr/zarr.json")
        ingest([str(folder / f"{name}-image.png")], store, sample=name, chunk=64, shard=64)
        write_truth([str(folder / f"{name}-labels.png")], store, str(results / f"truth/{name}.json"), sample=name)
        write_json(results / f"tissue/{name}.json", {"series": [{"fraction": 1.0, "low": [0], "high": [255]}]})
    samples = [[name, "train"] for name in SIZES]
    write_report(folder / "page.html", results=results, samples=samples, networks=[])
    with opened(folder / "page.html", folder / "browser") as tab:
        tab.resize(1280, 900)
        yield tab


def named(tab):
    return tab.run("[...document.querySelectorAll('#table tbody tr:not([hidden]) .name')].map(e => e.textContent)")


def click_heading(tab, text):
    tab.run(f"[...document.querySelectorAll('#table th')].find(e => e.textContent === '{text}').click()")


def shown(tab):
    return tab.run(
        "[...document.querySelectorAll('.stack')[0].children].filter(e => getComputedStyle(e).display !== 'none')"
        ".map(e => e.className)"
    )


def pixels(tab):
    return np.asarray(Image.open(io.BytesIO(tab.picture())).convert("RGB")).astype(int)


def test_the_console_is_silent(tab):
    assert tab.run("document.querySelectorAll('.stack').length") == 3
    assert tab.said == []


def test_a_click_on_a_heading_sorts_numbers_and_names(tab):
    click_heading(tab, "sample")
    assert named(tab) == ["n1", "n2", "n10"]  # as people count
    click_heading(tab, "megapixels")
    assert named(tab) == ["n1", "n2", "n10"]
    click_heading(tab, "megapixels")
    assert named(tab) == ["n10", "n2", "n1"]


def test_rows_are_filtered_by_what_they_contain(tab):
    tab.run("filter = document.getElementById('filter'); filter.value = 'N1'; filter.dispatchEvent(new Event('input'))")
    assert set(named(tab)) == {"n1", "n10"}
    tab.run("filter.value = ''; filter.dispatchEvent(new Event('input'))")
    assert set(named(tab)) == set(SIZES)


def test_layers_switch_by_button_and_by_key(tab):
    assert shown(tab) == ["image", "outlines"]
    tab.run("document.querySelector('button[data-layer=image]').click()")
    assert shown(tab) == ["image"]
    tab.ask("Input.dispatchKeyEvent", type="keyDown", key="3")
    assert shown(tab) == ["image", "outlines"]


def test_a_picture_opens_zooms_around_the_mouse_and_closes(tab):
    tab.run("document.querySelector('a.open').click()")
    box = "(b => [b.left, b.top, b.width])(document.querySelector('#stage .stack').getBoundingClientRect())"
    left, top, width = tab.run(box)
    before = pixels(tab)
    x, y = left + width / 4, top + width / 4
    tab.ask("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-400)
    wide_left, wide_top, wide = tab.run(box)
    assert wide == pytest.approx(np.e * width, rel=1e-3)  # exp(400 / 400)
    assert (x - wide_left) / wide == pytest.approx((x - left) / width, abs=1e-3)  # the mouse's pixel stayed
    assert (y - wide_top) / wide == pytest.approx((y - top) / width, abs=1e-3)
    assert (pixels(tab) != before).any()
    for kind, place in (("mousePressed", x), ("mouseMoved", x + 50), ("mouseReleased", x + 50)):
        tab.ask("Input.dispatchMouseEvent", type=kind, x=place, y=y, button="left", buttons=1, clickCount=1)
    assert tab.run(box)[0] == pytest.approx(wide_left + 50, abs=1)
    tab.run("document.getElementById('close').click()")
    tab.run("new Promise(requestAnimationFrame)")
    assert tab.run("document.querySelectorAll('figure .stack').length") == 3
    assert tab.said == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_and_takes_the_theme(tab, width, theme):
    tab.resize(width, 900, theme)
    assert tab.run("document.documentElement.scrollWidth") <= width
    corner = pixels(tab)[5, 5].mean()
    assert corner > 200 if theme == "light" else corner < 60
    ink = "getComputedStyle(document.querySelector('h1')).color.match(/\\d+/g).map(Number)"
    assert abs(np.mean(tab.run(ink)) - corner) > 120  # text stands out
