"""Which samples are unlike the others: each measure against the set's median and median absolute deviation."""

from typing import NamedTuple

import numpy as np
import pandas as pd

LIMIT = 3.5  # of a robust z, as Iglewicz and Hoaglin (1993) advise
FEWEST = 5  # samples that make a distribution


class Measure(NamedTuple):
    """A number that every sample has."""

    head: str  # of a column
    title: str
    shown: str  # format
    least: float  # spread below which differences mean nothing
    relative: bool = False  # compared by logarithms


MEASURES = {
    "tissue": Measure("tissue", "share of tissue", "{:.0%}", 0.02),
    "foreground": Measure("foreground", "share of the tissue that is objects", "{:.1%}", 0.01),
    "density": Measure("objects a megapixel", "objects per megapixel of tissue", "{:.3g}", 0.1, relative=True),
    "size": Measure("median size", "median size of objects", "{:.3g}", 0.05, relative=True),
    "uncertainty": Measure("uncertainty", "uncertainty of probabilities inside objects", "{:.3f}", 0.01),
    "focus": Measure("sharpness", "sharpness", "{:.3g}", 0.1, relative=True),
    "seams": Measure("seams", "largest difference of probability at seams", "{:.4f}", 0.005),
}


def judge(measures: pd.DataFrame) -> pd.DataFrame:
    """How odd each sample is, and why.

    Parameters
    ----------
    measures : DataFrame
        One row for each sample, columns of `MEASURES`; NaN where a sample has no such number.

    Returns
    -------
    DataFrame
        For each measure `z_{name}`; `odd`, the largest of their absolute values, 0 where fewer than `FEWEST` samples
        can be compared; `reasons`, a sentence for each measure beyond `LIMIT`, the worst first.
    """
    z = pd.DataFrame({name: robust_z(measures[name], measure) for name, measure in MEASURES.items()})
    medians = measures[list(MEASURES)].median()
    worst = z.abs().max(axis=1).fillna(0.0)
    reasons = [
        "; ".join(
            _reason(name, measures.loc[row, name], medians[name], z.loc[row, name]) for name in _beyond(z.loc[row])
        )
        for row in z.index
    ]
    return z.add_prefix("z_").assign(odd=worst, reasons=reasons)


def robust_z(values: pd.Series, measure: Measure) -> pd.Series:
    """Distances from the median in units of 1.4826 times the median absolute deviation; NaN where too few are known."""
    if values.notna().sum() < FEWEST:
        return values * np.nan
    if measure.relative:
        values = np.log(values.clip(lower=max(values.median() / 100, 1e-12)))
    apart = values - values.median()
    return apart / max(1.4826 * apart.abs().median(), measure.least)


def _beyond(z: pd.Series) -> list[str]:
    far = z.abs().sort_values(ascending=False)
    return list(far[far > LIMIT].index)


def _reason(name: str, value: float, usual: float, z: float) -> str:
    measure = MEASURES[name]
    height = "high" if z > 0 else "low"
    return f"{measure.title} {height}: {measure.shown.format(value)}, usually {measure.shown.format(usual)}"
