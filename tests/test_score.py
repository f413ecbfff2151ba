"""Figures of a sample, pooled and averaged, and how far they would be elsewhere."""

import numpy as np
import pandas as pd
import pytest

from unetpipe.metrics import detection
from unetpipe.scoring import summary

POOLED = ["precision", "recall", "f1", "ap"]


def scores(counts, seed=0):
    """Rows of (truths, objects, matched), the other figures at random."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(counts, columns=["truths", "objects", "matched"])
    others = {name: random.random(len(frame)) for name in ("mean_iou", "pixel_error", "rand", "information")}
    return frame.assign(sample="a", split="test", **others)


COUNTS = [(10, 9, 8), (40, 50, 20), (0, 0, 0), (3, 1, 1)]


@pytest.mark.parametrize("counts", [COUNTS, [(0, 0, 0)], [(0, 3, 0)], [(3, 0, 0)]])
def test_counts_are_pooled(counts):
    row = summary(scores(counts)).iloc[0]
    truths, objects, matched = np.sum(counts, axis=0)
    assert {name: row[name] for name in POOLED} == detection(matched, truths, objects)


def test_the_others_are_means_and_mean_iou_is_one_of_objects():
    frame = scores(COUNTS)
    row = summary(frame).iloc[0]
    assert row.rand == pytest.approx(frame["rand"].mean())
    assert row.mean_iou == pytest.approx((frame.mean_iou * frame.truths).sum() / 53)


def test_intervals_are_those_of_images_drawn_again():
    frame, random = scores(COUNTS), np.random.default_rng(5)
    again = pd.concat(
        [summary(frame.iloc[random.integers(0, len(frame), len(frame))]) for _ in range(800)], ignore_index=True
    )
    row = summary(frame, repeats=20_000).iloc[0]
    for name in ("f1", "mean_iou", "pixel_error"):
        expected = np.percentile(again[name], [2.5, 97.5])
        assert [row[f"{name}_low"], row[f"{name}_high"]] == pytest.approx(
            expected, abs=0.06
        )  # 800 draws of four images


def test_one_image_has_no_width():
    row = summary(scores([(10, 9, 8)]), repeats=100).iloc[0]
    assert row.f1_low == row.f1 == row.f1_high
