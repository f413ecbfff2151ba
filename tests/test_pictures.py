"""The pictures of the README show what Snakemake and the tables say."""

import sys

import pytest
from projects import ROOT


@pytest.fixture
def drawing(monkeypatch):
    """docs/figures.py."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    sys.modules.pop("figures", None)
    import figures

    return figures


def test_the_graph_is_snakemakes_without_what_follows(drawing, tmp_path):
    graph = drawing.read_graph(ROOT / "tests" / "lint" / "config.yaml", tmp_path)
    assert ("predict_part", "predict") in graph.edges
    assert ("ingest", "predict_part") not in graph.edges  # follows from ingest, mask, …
    assert "all" not in graph
    assert set(graph) >= {"ingest", "truth", "mask", "weights", "train", "label", "measure", "report"}


def test_only_speeds_are_drawn_each_with_its_peer(drawing, tmp_path):
    table = """
| date | claim | value | peer | n |
|---|---|--:|---|--:|
| 2026-01-01 | labels of 9² (`x.py`), speed | **2.5** (3) | scipy 1, whole array | 3 |
| 2026-01-01 | likewise, peak of memory | 0.05 | scipy | 3 |
| 2026-01-01 | prediction, speed | 0.9 | MONAI 1, overlap 0.5, float32 eager | 1 |
| 2026-01-01 | likewise | 1.1 | the same with the own layout | 1 |
| 2026-01-01 | largest difference of probability | 0.1 | MONAI | 1 |
| 2026-01-01 | time of a step | 3 | itself | 1 |
"""
    (tmp_path / "r.md").write_text(table)
    assert drawing.read_speeds(tmp_path / "r.md") == [
        ("labels of 9²", "scipy 1, whole array", 2.5),
        ("prediction", "MONAI 1, overlap 0.5, float32 eager", 0.9),
        ("prediction", "MONAI 1, overlap 0.5 with the own layout", 1.1),
    ]


def test_slower_is_drawn_too(drawing):
    rows = drawing.read_speeds(ROOT / "benchmarks" / "RESULTS.md")
    assert min(value for *_, value in rows) < 1
    widths = [bar.get_width() for bar in drawing.draw_peers().axes[0].patches]
    assert widths == pytest.approx([value - 1 for *_, value in rows])
