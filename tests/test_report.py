"""The report says what a run left, whatever that is: numbers, odd samples, failures, pictures within their bytes."""

import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scenes import SIDES, prepare, write_pairs

from unetpipe.cli import main
from unetpipe.ingest import ingest
from unetpipe.manifest import write_json
from unetpipe.report import odd, page, write_report
from unetpipe.report.gather import gather
from unetpipe.report.page import BYTES, DRAWN, RICH, allowance
from unetpipe.report.pictures import View, _jpeg, _overlay, errors, layers, outlines, pixel_counts, views
from unetpipe.report.stages import Stage, find_samples, last_error, stage

HOSTILE = '<script>alert("x")</script>&.tif'
FAILURE = """14:02:01 ERROR unetpipe: ValueError: sample "b": <b>no</b> channel
  two lines
Traceback (most recent call last):
  x
"""


class Page(HTMLParser):
    """Tags, and the text of the table of samples, row by row."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside |= tag == "table" and ("id", "table") in attributes
        if self.inside and tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        self.inside &= tag != "table"

    def handle_data(self, text):
        if self.inside and text.strip():
            self.rows[-1].append(text.strip())


def log(folder, name, text):
    path = folder / "logs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Results of a run in which one sample got to its weights and another failed; the first has a hostile file name."""
    folder = tmp_path_factory.mktemp("run")
    results = folder / "results"
    made = prepare(results, [(90, 120), (64, 64)])
    images, _ = write_pairs(folder / "more", [(70, 80)], seed=3)
    shutil.copy(images[0], folder / "more" / HOSTILE.replace("/", "_"))
    ingest(
        [str(folder / "more" / HOSTILE.replace("/", "_"))],
        str(results / "images/a.ome.zarr/zarr.json"),
        sample="a",
        **SIDES,
    )
    for stage_name in ("ingest", "truth", "mask", "weights"):
        log(folder, f"{stage_name}/s.log", "14:00:00 INFO unetpipe: done\n")
    log(folder, "ingest/a.log", "14:00:00 INFO unetpipe: done\n")
    log(folder, "ingest/b.log", FAILURE)
    log(folder, "mask/a.log", "14:00:00 INFO unetpipe.mask: begun <i>\n")
    assert made
    return folder


def test_a_report_of_a_run_that_has_just_begun(begun, capsys):
    main(["report", str(begun / "results")])
    path = begun / "results" / "report-so-far.html"
    assert capsys.readouterr().out == f"{path}\n"
    text = path.read_text()
    seen = Page(text)
    first, second, third = seen.rows[1:]
    assert first[1:4] == ["b", "predict", "failed"]
    assert 'ingest: ValueError: sample "b": <b>no</b> channel\n  two lines' in first
    assert second[1:4] == ["a", "predict", "unfinished"]
    assert "the last line of its log: 14:00:00 INFO unetpipe.mask: begun <i>" in second[4]
    assert third[1:4] == ["s", "train", "done"]
    for sentence in (
        "Nothing has been scored",
        "No table of objects",
        "Nothing has been predicted",
        "There is no network",
    ):
        assert sentence in text
    table = pd.read_csv(path.with_suffix("") / "samples.tsv", sep="\t")
    assert list(table["sample"]) == ["b", "a", "s"]
    pd.testing.assert_frame_equal(
        pd.read_parquet(path.with_suffix("") / "samples.parquet")[["rank", "sample", "state", "images"]],
        table[["rank", "sample", "state", "images"]],
    )


def test_names_are_text_and_the_page_needs_nothing_else(begun, tmp_path):
    write_report(tmp_path / "page.html", results=begun / "results", config={"</pre><img src=x>": 1})
    text = (tmp_path / "page.html").read_text()
    seen = Page(text)
    assert sum(tag == "script" for tag, _ in seen.tags) == 1
    assert "<img src=x>" not in text
    assert "<b>no</b>" not in text
    for _, attributes in seen.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:", "#"))
    assert "url(http" not in text
    assert "@import" not in text


@pytest.mark.parametrize(("most", "said"), [(1, "1 more image is not shown here."), (6, None)])
def test_images_that_are_not_shown_are_counted(begun, tmp_path, monkeypatch, most, said):
    monkeypatch.setattr("unetpipe.report.page.PICTURES", most)
    write_report(tmp_path / "page.html", results=begun / "results")
    text = (tmp_path / "page.html").read_text()
    assert (said in text) if said else ("not shown here" not in text)


def test_nothing_at_all_is_a_report_too(tmp_path):
    (tmp_path / "results").mkdir()
    write_report(tmp_path / "page.html", results=tmp_path / "results", samples=[["x", "test"]], networks=[])
    assert Page((tmp_path / "page.html").read_text()).rows[1][1:4] == ["x", "test", "waiting"]


def test_what_is_damaged_is_said(begun, tmp_path):
    shutil.copytree(begun, tmp_path / "p")
    (tmp_path / "p/results/tissue/s.json").write_text("{")
    write_report(tmp_path / "page.html", results=tmp_path / "p/results")
    rows = Page((tmp_path / "page.html").read_text()).rows[1:]
    damaged = next(row for row in rows if row[1] == "s")
    assert damaged[3] == "failed"
    assert "what it wrote cannot be read" in damaged[4]
    assert "s.json is not whole JSON" in damaged[4]


def test_later_stages_may_outlive_an_earlier_one(begun, tmp_path):
    """A source that was replaced by a damaged one: the store's root is gone, the table of objects is not."""
    shutil.copytree(begun, tmp_path / "p")
    (tmp_path / "p/results/objects").mkdir()
    table = pd.DataFrame({"series": ["x"], "y_px": [1.0], "x_px": [1.0], "area_px": [5], "probability": [0.9]})
    table.to_parquet(tmp_path / "p/results/objects/b.parquet")
    write_report(tmp_path / "page.html", results=tmp_path / "p/results")
    first = Page((tmp_path / "page.html").read_text()).rows[1]
    assert first[1:4] == ["b", "predict", "failed"]


def test_500_samples_fit_into_15_megabytes(tmp_path, monkeypatch):
    """Grey values of noise, which packs worse than any image; forty samples with the bytes of five hundred."""
    results = tmp_path / "results"
    noise = np.random.default_rng(1).integers(0, 256, (600, 600), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.tif")
    ingest(
        [str(tmp_path / "noise.tif")], str(results / "images/n0.ome.zarr/zarr.json"), sample="n0", chunk=256, shard=1024
    )
    for number in range(40):
        write_json(results / "tissue" / f"n{number}.json", {"series": [{"fraction": 1.0, "low": [0], "high": [255]}]})
        if number:
            (results / "images" / f"n{number}.ome.zarr").symlink_to(results / "images" / "n0.ome.zarr")
    monkeypatch.setattr(page, "allowance", lambda _: allowance(500))
    written = {}
    for count in (2, 40):
        write_report(tmp_path / "p.html", results=results, samples=[[f"n{n}", "predict"] for n in range(count)])
        text = (tmp_path / "p.html").read_text()
        assert text.count('class="thumbnail"') == text.count('class="stack"') == count
        written[count] = len(text.encode())
    each = (written[40] - written[2]) / 38
    assert each > 0.6 * allowance(500)  # what there is, is used
    assert written[2] + 498 * each < 15_000_000


@pytest.mark.parametrize("samples", [1, 7, 80, 500, 5000])
def test_pictures_share_their_bytes(samples):
    assert allowance(samples) * min(samples, DRAWN) <= BYTES
    assert allowance(samples) <= RICH


@pytest.mark.parametrize("most", [4_000, 20_000, 1_000_000])
def test_a_view_keeps_to_its_bytes(most):
    random = np.random.default_rng(0)
    ids = np.kron(random.integers(0, 900, (60, 60)), np.ones((8, 8), int))
    noise = random.integers(0, 256, (480, 480), np.uint8)
    view = View("", 1, np.stack([noise] * 3, axis=2), noise, ids, ids, np.ones(ids.shape, bool))
    packed = layers(view, most)
    assert list(packed) == ["image", "probability", "outlines", "errors"]
    assert sum(map(len, packed.values())) <= most


def decoded(uri):
    import base64

    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def test_overlays_keep_their_colours_and_lines():
    codes = np.zeros((64, 64), np.uint8)
    codes[:, 31], codes[10, :30] = 3, 1
    colours = ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    whole = np.asarray(decoded(_overlay(codes, colours, 200, 10**6)).convert("RGBA"))
    assert (whole[:, 31] == (7, 8, 9, 200)).all()
    assert (whole[10, :30] == (1, 2, 3, 200)).all()
    assert (whole[codes == 0, 3] == 0).all()
    small = np.asarray(decoded(_overlay(codes, colours, 200, 150)).convert("RGBA"))
    assert small.shape[0] < 64
    assert ((small == (7, 8, 9, 200)).all(axis=2).any(axis=1)).all()  # the line is whole


def test_jpegs_shrink_until_they_fit():
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    assert decoded(_jpeg(noise, 10**6)).size == (400, 300)
    small = _jpeg(noise, 5000)
    assert len(small) <= 5000
    assert decoded(small).width < 400


def test_errors_are_found_true_missed_and_false():
    truth, found = np.zeros((2, 20, 60), int)
    truth[2:10, 2:10], found[2:10, 3:11] = 1, 7  # 56 of 72 pixels
    truth[2:10, 20:28] = 2  # missed
    found[2:10, 40:48] = 9  # false
    found[12:16, 2:10] = 11  # more than half of it lies where nobody looked
    known = np.ones(truth.shape, bool)
    known[12:15] = False
    codes = errors(found, truth, known)
    expected = np.zeros(truth.shape, int)
    expected[2:10, 3:11], expected[2:10, 20:28], expected[2:10, 40:48] = 1, 2, 3
    assert np.array_equal(codes, expected)


def test_errors_of_large_ids_take_memory_for_few():
    found = np.zeros((20, 60), np.uint32)
    found[2:10, 2:10] = 2**31  # a count of each id would take 16 GB
    known = np.ones(found.shape, bool)
    assert (errors(found, found, known) == (found > 0)).all()


@pytest.fixture
def volume(tmp_path):
    """A volume of 1024 × 512 pixels at two times; at time 1, plane 2, three objects lie in its lower half."""
    image = np.zeros((2, 1, 4, 1024, 512), np.uint8)
    image[1, 0, 2] = np.random.default_rng(0).integers(0, 255, (1024, 512))
    np.save(tmp_path / "v.npy", image)
    results = tmp_path / "results"
    ingest([str(tmp_path / "v.npy")], str(results / "images/v.ome.zarr/zarr.json"), sample="v", chunk=256, shard=1024)
    write_json(results / "tissue/v.json", {"series": [{"fraction": 1.0, "low": [0], "high": [255]}]})
    rows = [(0, 0, 4, 100, 100)] * 2 + [(1, 2, 3, 600, 100)] * 3 + [(1, 0, 1, 100, 100)] * 2
    table = pd.DataFrame(rows, columns=["t", "front", "back", "y_px", "x_px"]).assign(series="v", volume_px=5)
    (results / "objects").mkdir()
    table.assign(probability=0.9).to_parquet(results / "objects/v.parquet")
    for path in ("objects/v.json", "probabilities/v.zarr/zarr.json"):
        note = {"blocks": {"computed": 1, "no tissue": 0}, "seams": {"windows": 0}}
        write_json(results / path, {"attributes": {"unetpipe": note}})
    return results


def test_of_a_volume_the_plane_with_most_objects_is_shown(volume):
    (sample,) = gather(volume, [["v", "predict"]]).samples
    assert sample.objects.plane == (1, 2)
    assert sample.objects.window == (512, 0)  # although the upper half has more objects in all planes together
    assert sample.objects.densities.tolist() == pytest.approx([n / (512**2 * 2 * 4 / 1e6) for n in (4, 3)])
    assert np.isfinite(sample.measures["focus"])  # all other planes are black
    done = [Stage(rule, "v", "done", "") for rule in ("ingest", "mask", "measure")]
    (view,) = views(volume, sample._replace(stages=done), 1, 1024)
    assert view.title == "v, t 1, z 2"
    assert view.image.any()


def test_outlines_say_whose_they_are():
    found, truth = np.zeros((2, 9, 9), int)
    found[1:8, 1:8], truth[1:8, 1:6] = 1, 1
    codes = outlines(found, truth)
    assert (codes[4, 1], codes[4, 5], codes[4, 7], codes[4, 3]) == (3, 2, 1, 0)
    assert set(np.unique(outlines(found, None))) == {0, 1}


def test_pixels_are_counted_by_probability_where_the_truth_is_known():
    probability = np.array([[0, 200], [200, 255]], np.uint8)
    truth, known = np.array([[0, 0], [5, 5]]), np.array([[True, True], [True, False]])
    counts = pixel_counts(View("", 1, np.zeros((2, 2, 3), np.uint8), probability, None, truth, known))
    assert {tuple(place): counts[tuple(place)] for place in np.argwhere(counts)} == {
        (0, 0): 1,
        (0, 200): 1,
        (1, 200): 1,
    }


def measured(**changed):
    """Twenty samples alike but for a little noise, with the values of the last one changed."""
    random = np.random.default_rng(0)
    usual = {
        "tissue": 0.6,
        "foreground": 0.3,
        "density": 500,
        "size": 90,
        "uncertainty": 0.1,
        "focus": 1.0,
        "seams": 0.01,
    }
    table = pd.DataFrame({name: value * random.normal(1, 0.05, 20) for name, value in usual.items()})
    return table.assign(**{name: [*table[name][:-1], value] for name, value in changed.items()})


def test_samples_alike_are_not_odd():
    judged = odd.judge(measured())
    assert (judged.odd < odd.LIMIT).all()
    assert (judged.reasons == "").all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"density": 0}, "objects per megapixel of tissue low: 0, usually"),
        ({"focus": 0.05}, "sharpness low: 0.05, usually"),
        ({"tissue": 0.02}, "share of tissue low: 2%, usually"),
        ({"uncertainty": 0.4}, "uncertainty of probabilities inside objects high: 0.400, usually 0.1"),
        ({"seams": 0.5}, "largest difference of probability at seams high: 0.5000"),
    ],
)
def test_what_is_odd_is_named(changed, said):
    judged = odd.judge(measured(**changed))
    assert judged.odd.idxmax() == 19
    assert said in judged.reasons[19]
    assert (judged.reasons[:-1] == "").all()


def test_a_robust_z_is_a_z_of_normal_numbers():
    values = pd.Series(np.random.default_rng(2).normal(10, 3, 20_000))
    z = odd.robust_z(values, odd.Measure("", "", "", 0.0))
    assert z.std() == pytest.approx(1, abs=0.03)  # the MAD of 20,000 numbers has a standard error of 0.8 %
    assert z.median() == 0


def test_few_samples_are_not_judged():
    judged = odd.judge(measured(tissue=0.0)[-4:])
    assert (judged.odd == 0).all()


def test_equal_samples_and_unknown_numbers_are_no_reason():
    table = pd.DataFrame(0.5, index=range(9), columns=list(odd.MEASURES)).assign(size=np.nan)
    table.loc[3, "tissue"] = 0.51
    judged = odd.judge(table)
    assert (judged.reasons == "").all()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", ""),
        ("10:00:00 INFO unetpipe: fine\n", ""),
        (FAILURE, 'ValueError: sample "b": <b>no</b> channel\n  two lines'),
        ("10:00:00 ERROR a.b: first\n10:00:01 INFO a: on\n10:00:02 ERROR a.b: last\n10:00:03 INFO a: on\n", "last"),
    ],
)
def test_the_last_error_of_a_log(text, error):
    assert last_error(text) == error


def test_a_stage_that_is_done_has_no_old_error(tmp_path):
    log(tmp_path, "truth/x.log", FAILURE)
    assert stage(tmp_path / "results", tmp_path / "logs", "truth", "x").state == "failed"
    write_json(tmp_path / "results/truth/x.json", {})
    assert stage(tmp_path / "results", tmp_path / "logs", "truth", "x").state == "done"


def test_parts_of_a_prediction_have_logs_of_their_own(tmp_path):
    log(tmp_path, "predict/x/1.log", FAILURE)
    log(tmp_path, "predict/x-1.log", "")  # of a sample of that name
    found = {name: stage(tmp_path / "results", tmp_path / "logs", "predict", name).state for name in ("x", "x-1", "z")}
    assert found == {"x": "failed", "x-1": "unfinished", "z": "waiting"}


def test_samples_and_splits_are_found(begun, tmp_path):
    assert find_samples(begun / "results", begun / "logs") == [["a", "predict"], ["b", "predict"], ["s", "train"]]
    write_json(tmp_path / "truth/t.json", {})
    (tmp_path / "images/t.ome.zarr").mkdir(parents=True)
    assert find_samples(tmp_path, tmp_path / "logs") == [["t", "test"]]
    scores = pd.DataFrame({"sample": ["t"], "split": ["val"]})
    scores.to_csv(tmp_path / "scores.tsv", sep="\t")
    assert find_samples(tmp_path, tmp_path / "logs") == [["t", "val"]]


def test_the_page_embeds_its_own_script_whole(begun, tmp_path):
    write_report(tmp_path / "page.html", results=begun / "results")
    script = re.search(r"<script>(.*)</script>", (tmp_path / "page.html").read_text(), flags=re.DOTALL)[1]
    assert "&#" not in script
    assert json.dumps(script).count("showModal") == 1
