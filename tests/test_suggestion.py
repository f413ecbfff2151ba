"""What is suggested is unsure and unlike what is known, and comes back as truth once it is corrected."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import discs
from scipy import ndimage

from unetpipe.cli import main
from unetpipe.config import load_project, read_config
from unetpipe.correction import write_rows
from unetpipe.ingest import ingest
from unetpipe.label import write_objects
from unetpipe.mask import write_mask
from unetpipe.store import create_array, label_path, open_array, read_attributes, write_group
from unetpipe.suggestion import appearance, choose, suggest, uncertainty
from unetpipe.truth import write_truth

SIDES = {"chunk": 32, "shard": 64}


def bytes_of(probability):
    return np.rint(255 * probability).astype(np.uint8)[None]


def test_pixels_without_a_clear_class_are_unsure():
    probability = np.zeros((1, 10, 10), np.uint8)
    probability[0, :, :4] = np.array([63, 64, 191, 192])  # a quarter of 255 is 63.75, three are 191.25
    assert uncertainty(probability) == 0.2
    probability[0] = 20  # far from any object, and everywhere
    assert uncertainty(probability) == 0


def test_of_several_classes_the_two_likeliest_count():
    parts = np.zeros((2, 10, 10), np.uint8)
    parts[:, :, :5] = 127
    assert uncertainty(parts) == 0.5
    parts[0, :, :5], parts[1, :, :5] = 254, 0
    assert uncertainty(parts) == 0


@given(
    unsure=st.lists(st.floats(0, 9), min_size=1, max_size=12),
    known=st.integers(0, 5),
    count=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_each_choice_has_the_best_sum_of_ranks(unsure, known, count, seed):
    """Written naively: places above which a window ranks, ties counting half."""
    random = np.random.default_rng(seed)
    unsure, features, known = np.array(unsure), random.normal(size=(len(unsure), 3)), random.normal(size=(known, 3))
    spread = np.concatenate([features, known]).std(axis=0).clip(0.01)
    chosen = []
    for place, distance in choose(unsure, features, known, count):
        far = [
            min((np.linalg.norm((one - other) / spread) for other in [*known, *features[chosen]]), default=np.inf)
            for one in features
        ]
        rank = [sum((b < a) + 0.5 * (b == a) for b in unsure) for a in unsure]
        rank = [r + sum((b < a) + 0.5 * (b == a) for b in far) for r, a in zip(rank, far, strict=True)]
        assert place not in chosen
        assert rank[place] == max(rank[k] for k in range(len(unsure)) if k not in chosen)
        np.testing.assert_allclose(distance, far[place] if np.isfinite(far[place]) else np.nan)
        chosen.append(place)
    assert len(chosen) == min(count, len(unsure))


def test_appearance_is_of_each_channel():
    ramp = np.tile(np.linspace(0, 1, 101, dtype=np.float32), (101, 1))
    mean, deviation, low, high, slope = appearance(np.stack([ramp, 0 * ramp])).reshape(5, 2).T[0]
    assert (mean, low, high, slope) == pytest.approx((0.5, 0.05, 0.95, 0.01), abs=1e-6)
    assert deviation == pytest.approx(np.std(ramp))


@pytest.fixture
def results(tmp_path):
    """`known` is annotated; of `new`, the right half is brighter, and unsure in its lower part."""
    results = tmp_path / "results"
    for name, brighter in (("known", 0), ("new", 60)):
        image, labels = discs((192, 256), seed=4, count=25)
        image[:, 128:] += np.uint8(brighter)
        np.save(tmp_path / f"{name}.npy", image)
        np.save(tmp_path / "labels.npy", labels)
        store = str(results / f"images/{name}.ome.zarr/zarr.json")
        ingest([str(tmp_path / f"{name}.npy")], store, sample=name, **SIDES)
        write_mask(store, str(results / f"tissue/{name}.json"), sample=name, contrast=0)
    write_truth([str(tmp_path / "labels.npy")], str(results / "images/known.ome.zarr/zarr.json"),
                str(results / "truth/known.json"), sample="known")  # fmt: skip
    probability = ndimage.gaussian_filter((labels > 0).astype(float), 1)
    probability[128:, 192:] = ndimage.gaussian_filter((labels > 0).astype(float), 5)[128:, 192:]
    array = create_array(results / "probabilities/new.zarr/0", (1, 1, 1, 192, 256), np.uint8, chunk=32, shard=64)
    array[0, 0, 0] = bytes_of(probability)[0]
    write_group(
        results / "probabilities/new.zarr",
        {"unetpipe": {"sides": [1, 64, 64], "series": [{"path": "0", "digest": "x"}]}},
    )
    image = str(results / "images/new.ome.zarr/zarr.json")
    predicted = str(results / "probabilities/new.zarr/zarr.json")
    write_objects(image, predicted, str(results / "objects/new.json"), sample="new", min_size=4)
    return results


def test_the_unsure_and_unlike_window_comes_first(results):
    found = suggest(results, count=3, side=64, workers=2)
    assert found[0].window.plane == (slice(128, 192), slice(192, 256))
    assert found[0].uncertainty == max(one.uncertainty for one in suggest(results, count=12, side=64))
    assert len({str(one.window.plane) for one in found}) == 3
    without = [one for one in suggest(results, count=12, side=64) if one.window.plane[1].stop <= 128]
    assert max(one.distance for one in without) < found[0].distance  # the left half looks as what is known


def test_a_given_network_needs_nothing_annotated(results):
    (results / "truth/known.json").unlink()
    found = suggest(results, count=3, side=64)
    assert np.isnan(found[0].distance)
    assert found[0].uncertainty == max(one.uncertainty for one in suggest(results, count=12, side=64))
    assert all(one.distance > 0 for one in found[1:])


def test_a_suggestion_comes_back_as_truth(results, capsys):
    main(["suggest", str(results), "--count", "2", "--side", "64"])
    path = results.parent / "suggested" / "new.geojson"
    said = capsys.readouterr().out
    assert said.count(str(path)) == 2
    assert "   128    192" in said
    store = results / "images/new.ome.zarr"
    objects = open_array(label_path(store, "0", "objects") / "0")[0, 0]
    write_truth([str(path)], str(store / "zarr.json"), str(results.parent / "t.json"), sample="new")
    truth, classes = (open_array(label_path(store, "0", name) / "0")[0, 0] for name in ("truth", "classes"))
    known = classes != 255
    assert known.sum() == 2 * 64 * 64
    assert known[128:, 192:].all()
    np.testing.assert_array_equal(truth > 0, known & (objects > 0))
    pairs = np.unique(np.stack([truth[truth > 0], objects[truth > 0]]), axis=1)
    assert len(np.unique(pairs[0])) == pairs.shape[1]  # each is a piece of one object
    with pytest.raises(SystemExit, match=r"new.geojson exists, and may have been edited"):
        main(["suggest", str(results), "--side", "64"])


def test_an_object_in_two_regions_stays_one(results):
    store = results / "images/new.ome.zarr"
    main(["suggest", str(results), "--count", "12", "--side", "64"])  # all of the image
    path = results.parent / "suggested" / "new.geojson"
    write_truth([str(path)], str(store / "zarr.json"), str(results.parent / "t.json"), sample="new")
    truth, objects = (open_array(label_path(store, "0", name) / "0")[0, 0] for name in ("truth", "objects"))
    pairs = np.unique(np.stack([truth.ravel(), objects.ravel()]), axis=1)
    assert pairs.shape[1] == objects.max() + 1  # each has one partner, the background too
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def test_regions_of_a_rescaled_slide_are_in_its_own_pixels(tmp_path, results):
    root = results / "images/new.ome.zarr/zarr.json"
    content = json.loads(root.read_text())
    content["attributes"]["unetpipe"]["series"][0]["origin"] = {"sides": [384, 512], "steps": [2.0, 2.0]}
    root.write_text(json.dumps(content))
    assert read_attributes(root)["series"][0]["origin"]
    main(["suggest", str(results), "--count", "1", "--side", "64", "--to", str(tmp_path / "other")])
    region = json.loads((tmp_path / "other/new.geojson").read_text())["features"][0]
    assert region["properties"]["classification"]["name"] == "Region*"
    corners = np.array(region["geometry"]["coordinates"][0])
    assert (corners.min(axis=0).tolist(), corners.max(axis=0).tolist()) == ([384, 256], [512, 384])


def test_annotated_samples_are_left_to_their_split(results):
    with pytest.raises(SystemExit, match='sample "known" is not predicted; new are'):
        main(["suggest", str(results), "known"])
    (results / "truth/new.json").write_text("{}")
    with pytest.raises(SystemExit, match='sample "new" has truth already'):
        main(["suggest", str(results), "new"])
    with pytest.raises(SystemExit, match="no predicted sample is without truth"):
        main(["suggest", str(results)])


class TestRows:
    """They belong into the sheet of the project, beside whose config the results lie."""

    def write_sheet(self, folder, path):
        (folder / "my.tsv").write_text(f"sample\tsplit\tpath\tlabels\tchannels\nnew\tpredict\t{path}\t\t0\n")
        (folder / "config.yaml").write_text("samples: my.tsv\n")

    @pytest.mark.parametrize("path", ["new.npy", "*w.npy", "/new.npy"])
    def test_a_row_is_finished(self, results, capsys, path):
        folder = results.parent
        self.write_sheet(folder, f"{folder}{path}" if path[0] == "/" else path)
        main(["suggest", str(folder), "--count", "2", "--side", "64"])
        assert f"add the rows of {folder}/suggested/rows.tsv to {folder}/my.tsv" in capsys.readouterr().out
        lines = (folder / "suggested/rows.tsv").read_text().splitlines()
        with (folder / "my.tsv").open("a") as file:
            file.write("\n".join(lines[1:]))
        samples, problems = load_project(read_config(folder / "config.yaml"), folder)
        assert not problems
        assert (samples[1].name, samples[1].split, samples[1].channels) == ("new-corrected", "train", ["0"])
        assert samples[1].files == [str(folder / "new.npy")]
        assert samples[1].labels == [str(folder / "suggested/new.geojson")]
        assert lines[1].split("\t")[2].startswith("/") == (path[0] == "/")

    def test_a_second_round_has_another_name(self, results):
        folder = results.parent
        self.write_sheet(folder, "new.npy")
        with (folder / "my.tsv").open("a") as file:
            file.write("new-corrected \ttrain\tnew.npy\tnew.npy\t\n")  # blanks around a cell mean nothing
        main(["suggest", str(folder), "--count", "1", "--side", "64"])
        assert (folder / "suggested/rows.tsv").read_text().splitlines()[1].startswith("new-corrected-2\ttrain\t")

    def test_an_image_that_no_row_names_has_none(self, results, capsys):
        self.write_sheet(results.parent, "known.npy")
        main(["suggest", str(results), "--count", "1", "--side", "64"])
        assert "name it in the column labels" in capsys.readouterr().out
        assert not (results.parent / "suggested/rows.tsv").exists()

    def test_an_image_that_shares_its_file_has_none(self, results):
        folder, store = results.parent, results / "images/new.ome.zarr/zarr.json"
        self.write_sheet(folder, "new.npy")
        image = suggest(results, count=1, side=64)[0].window.image
        content = json.loads(store.read_text())
        content["attributes"]["unetpipe"]["series"].append({**image.entry, "path": "1"})
        other = folder / "other.zarr"
        write_group(other, content["attributes"])
        path = folder / "suggested/new.geojson"
        assert write_rows(folder, {path: image._replace(store=other)}, folder / "rows.tsv") == (None, [path])
        assert not (folder / "rows.tsv").exists()

    def test_it_says_which_image_has_none(self, results, capsys, monkeypatch):
        monkeypatch.setattr("unetpipe.correction._shares_file", lambda _: True)
        self.write_sheet(results.parent, "new.npy")
        main(["suggest", str(results), "--count", "1", "--side", "64"])
        said = capsys.readouterr().out
        assert f"no row for {results.parent}/suggested/new.geojson: its image shares a file with others" in said

    def test_a_line_of_empty_cells_is_none(self, results):
        self.write_sheet(results.parent, "new.npy")
        with (results.parent / "my.tsv").open("a") as file:
            file.write("\t\t\t\t\n")
        main(["suggest", str(results), "--count", "1", "--side", "64"])
        assert len((results.parent / "suggested/rows.tsv").read_text().splitlines()) == 2

    def test_no_file_is_left_where_rows_cannot_be_made(self, results):
        (results.parent / "config.yaml").write_text("samples: nowhere.tsv\n")
        with pytest.raises(SystemExit, match=r"nowhere\.tsv"):
            main(["suggest", str(results), "--count", "1", "--side", "64"])
        assert not (results.parent / "suggested").exists()

    def test_rows_of_an_earlier_call_wait(self, results):
        """Those that the sheet has, and those whose corrections are gone, do not."""
        self.write_sheet(results.parent, "new.npy")
        with (results.parent / "my.tsv").open("a") as file:
            file.write("had\ttrain\tnew.npy\tlabels.npy\t\n")
        rows = results.parent / "suggested/rows.tsv"
        rows.parent.mkdir()
        earlier = [f"{name}\ttrain\tknown.npy\t{file}\t" for name, file in
                   (("new-corrected", "labels.npy"), ("gone", "gone.geojson"), ("had", "labels.npy"))]  # fmt: skip
        rows.write_text("\n".join(["sample\tsplit\tpath\tlabels\tchannels", *earlier]) + "\n")
        main(["suggest", str(results), "--count", "1", "--side", "64"])
        names = [line.split("\t")[0] for line in rows.read_text().splitlines()]
        assert names == ["sample", "new-corrected", "new-corrected-2"]

    def test_results_may_be_a_link_to_another_disk(self, results, tmp_path):
        project = tmp_path / "project"
        project.mkdir()
        (project / "results").symlink_to(results)
        self.write_sheet(project, f"{tmp_path}/new.npy")
        main(["suggest", str(project), "--count", "1", "--side", "64"])
        assert {path.name for path in (project / "suggested").iterdir()} == {"new.geojson", "rows.tsv"}


@pytest.mark.parametrize(("option", "least"), [("--side", 16), ("--count", 1)])
def test_sides_and_counts_that_are_none(option, least, capsys):
    for wrong in (str(least - 1), "-5", "many"):
        with pytest.raises(SystemExit):
            main(["suggest", "results", option, wrong])
        assert f"'{wrong}' is no whole number of {least} or more" in capsys.readouterr().err


def correct(results, name, corrections):
    """Add the image `new` with what is drawn on it as another sample."""
    store = str(results / f"images/{name}.ome.zarr/zarr.json")
    ingest([str(results.parent / "new.npy")], store, sample=name, **SIDES)
    write_mask(store, str(results / f"tissue/{name}.json"), sample=name, contrast=0)
    write_truth([str(corrections)], store, str(results / f"truth/{name}.json"), sample=name)


def test_what_was_corrected_is_not_suggested_again(results, capsys):
    corrected = set()
    for name in ("again", "more"):
        corrected |= {str(one.window.plane) for one in suggest(results, count=2, side=64)}
        main(["suggest", str(results), "--count", "2", "--side", "64", "--to", str(results / name)])
        correct(results, name, results / name / "new.geojson")
    others = {str(one.window.plane) for one in suggest(results, count=12, side=64)}
    assert (len(corrected), len(others)) == (4, 8)
    assert not others & corrected
    capsys.readouterr()
    main(["suggest", str(results), "--count", "12", "--side", "64", "--to", str(results / "all")])
    assert "no more squares of 64 pixels hold tissue that nobody annotated" in capsys.readouterr().out
