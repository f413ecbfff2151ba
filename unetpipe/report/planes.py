"""Which plane of a volume or of a time series is looked at, since one picture shows one."""

from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow.parquet import read_table

Plane = tuple[int, int]  # t, z


def fullest_plane(table: Path | None, entry: dict) -> Plane:
    """The plane of a series that most objects touch, of several the middle one; without objects that in the middle.

    Parameters
    ----------
    table : path, optional
        Of the objects of its sample.
    entry : dict
        The series, in the attributes of its store.
    """
    t, z = _planes(entry)
    counts = np.zeros((t, z + 1), int)
    if table and t * z > 1:
        found = spans(table, entry)
        np.add.at(counts, (found.t, found.front), 1)
        np.add.at(counts, (found.t, found.back), -1)
        counts = counts.cumsum(axis=1)
    if not counts.any():
        return t // 2, z // 2
    fullest = np.argwhere(counts == counts.max())
    time, depth = fullest[len(fullest) // 2].tolist()
    return time, depth


def spans(table: Path, entry: dict) -> pd.DataFrame:
    """Columns `t`, `front` and `back` of the objects of a series: each lies in planes front … back − 1."""
    deep = _planes(entry)[1] > 1
    columns = ["t", "front", "back"] if deep else ["t"]
    found = read_table(table, columns=columns, filters=[("series", "==", entry["name"])]).to_pandas().astype(int)
    return found if deep else found.assign(front=0, back=1)


def plane_name(entry: dict, plane: Plane) -> str:
    """What tells a plane from the others of its series, to follow a name; empty where it is the only one."""
    parts = zip("tz", plane, _planes(entry), strict=True)
    return "".join(f", {axis} {number}" for axis, number, several in parts if several > 1)


def _planes(entry: dict) -> Plane:
    """How many there are along each axis."""
    return entry["shape"][0], entry["shape"][2]
