"""Figures of a sample, pooled and averaged, how far they would be elsewhere, and the tables they stand in."""

import numpy as np
import pandas as pd
import pytest

from unetpipe.metrics import detection
from unetpipe.totals import ALL, COLUMNS, overall, read_scores, tidy, wide

COUNTS = [(10, 9, 8), (40, 50, 20), (0, 0, 0), (3, 1, 1)]


def scores(counts, seed=0):
    """Rows of (truths, objects, matched), the other figures at random."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(counts, columns=["truths", "objects", "matched 0.5"])
    share = random.random(len(frame))
    others = {name: random.random(len(frame)) for name in ("pixel_error", "rand", "information")}
    counted = {f"{name} 1": random.integers(0, 99, len(frame)) for name in ("shared", "false", "missed")}
    overlap = {"overlap 0.5": 0.8 * frame["matched 0.5"], "covered": share * frame.truths}
    later = {"matched 0.75": frame["matched 0.5"] // 2, "overlap 0.75": 0.4 * frame["matched 0.5"]}
    return frame.assign(**overlap, **later, **others, **counted)


def test_names_that_look_like_numbers_or_nothing_are_names(tmp_path):
    rows = [(name, "test", ALL, "f1", 0.5, 1.0, np.nan, np.nan) for name in ("NA", "001", "nan")]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(tmp_path / "scores.tsv", sep="\t", index=False)
    found = read_scores(tmp_path / "scores.tsv")
    assert found["sample"].tolist() == ["NA", "001", "nan"]
    assert found["low"].isna().all()


@pytest.mark.parametrize("counts", [COUNTS, [(0, 0, 0)], [(0, 3, 0)], [(3, 0, 0)]])
def test_counts_are_pooled(counts):
    found = overall(scores(counts))
    truths, objects, matched = np.sum(counts, axis=0)
    expected = detection(matched, truths, objects)
    assert {name: found[name] for name in expected} == expected


def test_panoptic_quality_is_segmentation_times_recognition():
    found = overall(scores(COUNTS))
    assert found["pq"] == pytest.approx(0.8 * found["f1"])


def test_the_others_are_means_and_mean_iou_is_one_of_objects():
    frame = scores(COUNTS)
    found = overall(frame)
    assert found["rand"] == pytest.approx(frame["rand"].mean())
    assert found["mean_iou"] == pytest.approx(frame.covered.sum() / 53)


def test_classes_pool_their_pixels():
    frame = scores(COUNTS)
    shared, false, missed = (frame[f"{name} 1"].sum() for name in ("shared", "false", "missed"))
    found = overall(frame)
    assert found["iou_1"] == pytest.approx(shared / (shared + false + missed))
    assert found["dice_1"] == pytest.approx(2 * shared / (2 * shared + false + missed))


def test_mean_ap_is_that_of_all_thresholds():
    table = tidy(scores(COUNTS).assign(sample="a", split="test", series="0"))
    ap = table[(table.metric == "ap") & (table.series == ALL)]
    assert ap.threshold.tolist() == [0.5, 0.75]
    assert table[(table.metric == "mean_ap") & (table.series == ALL)].value.item() == pytest.approx(ap.value.mean())


def named(frame):
    return frame.assign(sample="a", split="test", series=[f"i{k}" for k in range(len(frame))])


def test_intervals_are_those_of_images_drawn_again():
    frame, random = scores(COUNTS), np.random.default_rng(5)
    again = pd.DataFrame([overall(frame.iloc[random.integers(0, len(frame), len(frame))]) for _ in range(800)])
    row = wide(tidy(named(frame), repeats=20_000)).iloc[0]
    for name in ("f1", "mean_iou", "pixel_error", "iou_1"):
        expected = np.percentile(again[name], [2.5, 97.5])
        found = [row[f"{name}_low"], row[f"{name}_high"]]
        assert found == pytest.approx(expected, abs=0.06)  # 800 draws of four images


def test_a_single_image_has_no_interval():
    row = wide(tidy(named(scores([(10, 9, 8)])))).iloc[0]
    assert np.isnan(row.f1_low)
    assert row.images == 1


def test_wide_tables_have_a_row_for_each_sample_or_series():
    frame = named(scores(COUNTS)).assign(sample=["b", "b", "a", "a"])
    table = tidy(frame)
    assert wide(table)["sample"].tolist() == ["b", "a"]  # as they came
    assert wide(table).images.tolist() == [2, 2]
    series = wide(table, whole=False)
    assert series.series.tolist() == ["i0", "i1", "i2", "i3"]
    assert series.matched.tolist() == [8, 20, 0, 1]  # at the lowest threshold


def test_time_points_of_a_series_are_pooled():
    frame = named(scores(COUNTS)).assign(series=["i0", "i0", "i1", "i1"])
    assert wide(tidy(frame), whole=False).truths.tolist() == [50, 3]


def test_seams_have_an_interval_though_some_images_have_no_object_there():
    images = scores(COUNTS).assign(seams=[4, 0, 0, 0], inside=[3, 9, 0, 1])
    images = images.assign(**{"seams matched": [3, 0, 0, 0], "inside matched": [3, 8, 0, 1]})
    places = pd.DataFrame({"sample": "s", "split": "test", "series": ["a", "b", "c", "d"]})
    table = tidy(pd.concat([places, images], axis=1))
    row = table[(table.metric == "f1_seams") & (table.series == ALL)].iloc[0]
    assert (row.value, row.low, row.high) == (0.75, 0.75, 0.75)


def test_a_figure_is_the_mean_of_the_images_that_have_it():
    images = scores(COUNTS).assign(warping_error=[0.1, np.nan, 0.3, np.nan])
    assert overall(images)["warping_error"] == pytest.approx(0.2)


def test_the_first_threshold_is_the_one_that_counts():
    images = scores(COUNTS)
    more = images.rename(columns={"matched 0.75": "matched 0.3", "overlap 0.75": "overlap 0.3"})
    found = overall(more[["truths", "objects", "matched 0.5", "overlap 0.5", "matched 0.3", "overlap 0.3", "covered"]])
    assert found["ap"] == overall(images[["truths", "objects", "matched 0.5", "overlap 0.5", "covered"]])["ap"]
    assert found["mean_ap"] == found["ap"], "of 0.5, 0.55, … 0.95 alone"


def test_without_objects_at_seams_there_is_no_figure_of_them():
    frame = scores(COUNTS).assign(**{"seams": 0, "seams matched": 0, "inside": 4, "inside matched": 3})
    found = overall(frame)
    assert np.isnan(found["f1_seams"])
    assert found["f1_inside"] == 0.75
