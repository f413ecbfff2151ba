"""GeoJSON of objects that somebody drew or corrected, in QuPath say, as labels that number them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unetpipe.geometry import Region
from unetpipe.readers.series import Series
from unetpipe.regions import Drawn, inside, read_drawn

SUFFIXES = (".geojson", ".geojson.gz")
ANNOTATED, IGNORED = "Region*", "Ignore*"  # classes that every project of QuPath has
NOT_ANNOTATED = 2**32 - 1


def open_file(path: Path) -> list[Series]:
    """One series: 0 is background, 1, 2, … are the objects, `NOT_ANNOTATED` is what nobody looked at.

    Where outlines overlap, the later one lies on top. Outlines of class `Region*` are no objects: they say where all
    objects were drawn, which without any is everywhere; those of class `Ignore*` say where they were not. On several
    planes, outlines of one name are one object. The series ends where the last outline does, and can be read beyond.
    """
    drawn = read_drawn(path)
    objects = [one for one in drawn if one.kind not in (ANNOTATED, IGNORED)]
    numbers = _numbers(objects)
    regions, ignored = (Outlines.of([one for one in drawn if one.kind == kind]) for kind in (ANNOTATED, IGNORED))
    painter = Painter(Outlines.of(objects), regions, ignored, np.array(numbers, np.uint32))
    every = Outlines.of(drawn)
    shape = (int(every.t.max()) + 1, 1, int(every.z.max()) + 1, *np.maximum(1, every.high.max(axis=0)).tolist())
    kinds = dict(zip(numbers, (one.kind for one in objects), strict=True))
    return [Series(path.name, shape, np.dtype(np.uint32), None, ("0",), painter.read, kinds=("", *kinds.values()))]


def _numbers(objects: Sequence[Drawn]) -> list[int]:
    """Of each outline, in the order of the file; in a volume those of one name share theirs."""
    several = len({one.z for one in objects}) > 1
    known: dict[Any, int] = {}
    keys = [(one.t, one.name) if several and one.name else place for place, one in enumerate(objects)]
    return [known.setdefault(key, len(known) + 1) for key in keys]


class Outlines(NamedTuple):
    """Outlines and where they lie."""

    drawn: list[Drawn]
    t: np.ndarray  # (n,)
    z: np.ndarray
    low: np.ndarray  # (n, 2) first pixel along y, x whose centre may be inside
    high: np.ndarray  # one beyond the last

    @classmethod
    def of(cls, drawn: list[Drawn]) -> "Outlines":
        """Find their boxes."""
        points = [np.concatenate([ring for rings in one.polygons for ring in rings])[:, ::-1] for one in drawn]
        low, high = (np.array([side(each, axis=0) for each in points]).reshape(-1, 2) for side in (np.min, np.max))
        planes = np.array([(one.t, one.z) for one in drawn], int).reshape(-1, 2)
        return cls(drawn, *planes.T, *(np.ceil(side - 0.5).astype(int) for side in (low, high)))

    def paint(self, plane: np.ndarray, at: tuple[int, int], corner: np.ndarray, values: np.ndarray) -> None:
        """Fill those on plane (t, z) that reach into a window of it, in order.

        Parameters
        ----------
        plane : (y, x)
            The window.
        corner : (y, x)
            Its first pixel.
        values : (n,)
            Of each outline.
        """
        first, last = np.maximum(self.low - corner, 0), np.minimum(self.high - corner, plane.shape)
        for k in np.flatnonzero((self.t == at[0]) & (self.z == at[1]) & (first < last).all(axis=1)):
            moved = [[ring - (corner + first[k])[::-1] for ring in rings] for rings in self.drawn[k].polygons]
            part = plane[tuple(map(slice, first[k], last[k]))]
            part[inside(moved, part.shape)] = values[k]


class Painter(NamedTuple):
    """Makes a region of the labels from outlines, see `open_file`."""

    objects: Outlines
    regions: Outlines
    ignored: Outlines
    numbers: np.ndarray  # (n,) uint32, of the objects

    def read(self, region: Region) -> np.ndarray:
        """See `Series.read`."""
        t, _, z, y, x = region
        planes = [[self._plane((i, k), y, x) for k in range(z.start, z.stop)] for i in range(t.start, t.stop)]
        return np.array(planes)[:, None]

    def _plane(self, at: tuple[int, int], y: slice, x: slice) -> np.ndarray:
        corner = np.array((y.start, x.start))
        values = np.zeros((y.stop - y.start, x.stop - x.start), np.uint32)
        self.objects.paint(values, at, corner, self.numbers)
        unknown = np.full(values.shape, len(self.regions.drawn) > 0)
        self.regions.paint(unknown, at, corner, np.zeros(len(self.regions.drawn), bool))
        self.ignored.paint(unknown, at, corner, np.ones(len(self.ignored.drawn), bool))
        values[unknown] = NOT_ANNOTATED
        return values
