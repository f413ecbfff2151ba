"""Charts for the report: SVG that stands in the page and takes its colours of light and dark."""

import io
import re

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unetpipe.report.gather import SIZES
from unetpipe.totals import ALL

INK = "#010203"  # becomes the colour of the page's text
MAIN, OTHER = "#d2691e", "#4682b4"
INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
STYLE: dict = {
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.2,
    **dict.fromkeys(INKED, INK),
}
MOST = 40  # samples that a chart names


class Chart:
    """One pair of axes, to be drawn on in a `with` block; `svg` holds the result.

    Parameters
    ----------
    name : str
        What the chart shows, for those who cannot see it.
    height : float
        Inches; the width is 4.6.
    """

    def __init__(self, name: str, *, height: float = 2.4, **labels):
        self.name, self.height, self.labels, self.svg = name, height, labels, Markup()

    def __enter__(self) -> Axes:
        self.style = rc_context({**STYLE, "svg.hashsalt": self.name})
        self.style.__enter__()
        self.figure = Figure(figsize=(4.6, self.height), layout="constrained")
        axes = self.figure.subplots()
        axes.set(**self.labels)
        axes.grid(visible=True)
        return axes

    def __exit__(self, kind, *error) -> None:
        if kind is None:
            packed = io.StringIO()
            self.figure.savefig(packed, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
            self.svg = self._inlined(packed.getvalue())
        self.style.__exit__(kind, *error)

    def _inlined(self, text: str) -> Markup:
        """Without the head of a file and sizes of its own; ids that no other chart has."""
        text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
        salt = re.sub(r"\W+", "-", self.name)
        text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{salt}-", text)
        text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2).replace(INK, "currentColor")
        text = text.replace("<svg", f'<svg role="img" aria-label="{self.name}"', 1)
        return Markup(text)  # noqa: S704 Matplotlib has escaped what is not ours


def training(curves: dict[str, list[list[float | None]]]) -> list[Markup]:
    """Loss, and score and threshold where networks were scored, over the steps.

    Parameters
    ----------
    curves : dict of name → points
        See `curve.curve_table`.
    """
    if not curves:
        return []
    loss = Chart("loss over the steps", xlabel="step", ylabel="weighted cross-entropy", yscale="log")
    with loss as axes:
        for number, points in enumerate(curves.values()):
            axes.plot(*list(zip(*points, strict=True))[:2], color=MAIN, alpha=max(0.3, 0.7**number))
    scored = {name: [p for p in points if len(p) > 3 and p[3] is not None] for name, points in curves.items()}
    if not any(scored.values()):
        return [loss.svg]
    best = Chart("score and best threshold over the steps", xlabel="step", ylabel="on images left out")
    with best as axes:
        for points in filter(None, scored.values()):
            steps, _, _, scores, thresholds = zip(*points, strict=True)
            axes.plot(steps, scores, "o-", color=MAIN, markersize=3, label="score")
            axes.plot(steps, thresholds, "s:", color=OTHER, markersize=3, label="threshold at which it is best")
        _legend(axes)
    return [loss.svg, best.svg]


def _legend(axes: Axes) -> None:
    """Each label once."""
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), frameon=False)


def intervals(totals: pd.DataFrame, metric: str, title: str) -> Markup:
    """A metric of each sample with its 95 % interval, the worst first, and no more than `MOST` of them.

    Parameters
    ----------
    totals : DataFrame
        See `totals.wide`.
    """
    shown = totals.sort_values(metric).head(MOST)[::-1]
    chart = Chart(f"{title} of each sample", height=0.9 + 0.2 * len(shown), xlabel=f"{title}, 95 % interval")
    with chart as axes:
        low, high = (shown[f"{metric}_{end}"].fillna(shown[metric]) for end in ("low", "high"))
        spread = [(shown[metric] - low).clip(lower=0), (high - shown[metric]).clip(lower=0)]
        axes.errorbar(shown[metric], range(len(shown)), xerr=spread, fmt="o", color=MAIN, markersize=4, capsize=2)
        axes.set_yticks(range(len(shown)), [_plain(name) for name in shown["sample"]])
        axes.set_ylim(-0.6, len(shown) - 0.4)
    return chart.svg


def _plain(name: str) -> str:
    """A name that Matplotlib takes as it is."""
    return str(name).replace("$", r"\$")


def strictness(scores: pd.DataFrame) -> Markup:
    """Precision, recall, F1 and AP over the intersection over union of a match; means of the samples."""
    chosen = scores[(scores.series == ALL) & scores.metric.isin(["precision", "recall", "f1", "ap"])]
    means = chosen.pivot_table("value", "threshold", "metric")
    names = {"precision": "precision", "recall": "recall", "f1": "F1", "ap": "AP"}
    chart = Chart("scores over the intersection over union of a match", xlabel="least intersection over union")
    with chart as axes:
        for (name, title), line in zip(names.items(), ("-", "--", "-", "--"), strict=True):
            axes.plot(means.index, means[name], line, label=title, color=MAIN if name in ("f1", "ap") else OTHER)
        axes.set_ylim(0, 1.02)
        axes.legend(frameon=False)
    return chart.svg


def thresholds(counts: np.ndarray) -> tuple[Markup, dict[str, float]]:
    """Dice, precision and recall of pixels over the threshold of the probability; the best threshold and its Dice.

    Parameters
    ----------
    counts : (2, 256) int
        Pixels of the true background and of the true foreground that have each probability (p × 255).
    """
    above = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    false, hits = above.astype(float)
    whole = max(1, counts[1].sum())
    dice = 2 * hits / np.maximum(1, whole + hits + false)
    levels = np.arange(256) / 255
    chart = Chart("scores of pixels over the threshold", xlabel="threshold of the probability", ylabel="of pixels")
    with chart as axes:
        axes.plot(levels, dice, color=MAIN, label="Dice")
        axes.plot(levels, hits / np.maximum(1, hits + false), "--", color=OTHER, label="precision")
        axes.plot(levels, hits / whole, ":", color=OTHER, label="recall")
        axes.set_ylim(0, 1.02)
        axes.legend(frameon=False)
    best = int(dice.argmax())
    return chart.svg, {"threshold": levels[best], "dice": dice[best]}


def sizes(counts: np.ndarray, unit: str) -> Markup:
    """Histogram of the sizes of objects, on a logarithmic axis.

    Parameters
    ----------
    counts : (n,) int
        Between the edges of `gather.SIZES`.
    """
    chart = Chart("sizes of objects", xlabel=f"size of an object, {unit}", ylabel="objects", xscale="log")
    with chart as axes:
        used = np.flatnonzero(counts)
        part = slice(used[0], used[-1] + 1)
        edges = 2.0**SIZES
        axes.stairs(counts[part], edges[part.start : part.stop + 1], fill=True, color=MAIN, alpha=0.8)
    return chart.svg


def densities(cells: np.ndarray) -> Markup:
    """Histogram of the density of objects in the cells that hold any."""
    chart = Chart("density of objects", xlabel="objects per megapixel", ylabel="cells")
    with chart as axes:
        axes.hist(cells, bins=min(30, max(5, round(len(cells) ** 0.5))), color=OTHER, alpha=0.8)
    return chart.svg
