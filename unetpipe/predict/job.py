"""What there is to predict: the blocks of a sample, and the windows that check its seams."""

import math
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from unetpipe.geometry import Axis, Block
from unetpipe.manifest import read_json
from unetpipe.needs import block_side
from unetpipe.notes import axes_of, check_image, expected_by, read_notes
from unetpipe.overlap_tile import holds_tissue, volume_blocks
from unetpipe.revisions import REVISIONS
from unetpipe.seams import Window, across, chosen
from unetpipe.store import label_path, open_array, read_attributes

WORTH = 80e6  # pixels that repay compiling: 6 s of it, 0.02 to 0.2 s less for 512² (two cores, float32)


class Job(NamedTuple):
    """What all parts of one sample's prediction agree on."""

    images: Path
    entries: list[dict]
    statistics: list[dict]
    networks: list[dict]
    block: int
    planes: int
    views: int

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Of the networks."""
        return axes_of(self.networks[0])

    @property
    def key(self) -> list:
        """What the ledger's lines hold for."""
        pairs = zip(self.entries, self.statistics, strict=True)
        inputs = [[e["digest"], e["chunk"], s["digest"], s["low"], s["high"]] for e, s in pairs]
        networks = [[note["digest"], note["precision"]] for note in self.networks]
        return [REVISIONS["predict"], inputs, networks, self.block, self.planes, self.views]


class Unit(NamedTuple):
    """One network call: a block of one plane or volume of one series."""

    number: int  # of the series
    t: int
    block: Block  # axes z, y, x

    @property
    def name(self) -> str:
        """Of its line in the ledger."""
        return f"{self.number} {self.where}"

    @property
    def where(self) -> str:
        """Time point and corner."""
        z, y, x = (part.start for part in self.block.write)
        return f"t {self.t}, z {z}, y {y}, x {x}"


def open_job(
    image: str, tissue: str, networks: Sequence[str], *, sample: str, block: int | str, planes: int, views: int
) -> Job:
    """Read the manifests; refuse networks that differ, and an image that they were not made for."""
    notes, entries = read_notes(networks), read_attributes(image)["series"]
    for entry in entries:
        check_image(entry, sample, expected_by(networks[0], notes[0]))
    side = block_side(block, notes[0]["arguments"]["features"], axes_of(notes[0]), planes, entries[0]["chunk"])
    return Job(Path(image).parent, entries, read_json(tissue)["series"], notes, side, planes, views)


def units(job: Job) -> list[Unit]:
    """All network calls of a sample, in a fixed order."""
    return [
        Unit(number, t, block)
        for number, entry in enumerate(job.entries)
        for t in range(entry["shape"][0])
        for block in volume_blocks(entry["shape"][2:], (job.planes, job.block, job.block), job.axes)
    ]


def units_with_tissue(job: Job, every: list[Unit]) -> list[tuple[Unit, bool]]:
    """Each block, and whether there is anything to see in it, by the tissue at the level at which it was found."""
    series = (list(mine) for _, mine in groupby(every, attrgetter("number")))
    return [pair for mine in series for pair in zip(mine, _hold_tissue(job, mine), strict=True)]


def _hold_tissue(job: Job, mine: list[Unit]) -> list[bool]:
    """For the blocks of one series."""
    number = mine[0].number
    seen, held = job.statistics[number], list[bool]()
    if seen["fraction"] == 1:
        return [True] * len(mine)
    tissue = open_array(label_path(job.images, job.entries[number]["path"], "tissue") / str(seen["level"]))
    for (t, z), several in groupby(mine, lambda unit: (unit.t, unit.block.write[0])):
        planes = tissue[t, z].any(axis=0, keepdims=True)
        held += [holds_tissue(_of_one_plane(unit.block), planes, seen["level"]) for unit in several]
    return held


def _of_one_plane(block: Block) -> Block:
    return block._replace(write=(slice(0, 1), *block.write[1:]))


def worth_compiling(job: Job, seen: list[Unit]) -> bool:
    """Whether there is enough to compute of one shape: by the blocks alone, so that all parts and restarts agree.

    Parameters
    ----------
    seen : list of Unit
        Those of the whole sample that hold tissue.
    """
    shapes = {tuple(part.stop - part.start for part in unit.block.read) for unit in seen}
    pixels = sum(math.prod(part.stop - part.start for part in unit.block.write) for unit in seen)
    return pixels * len(job.networks) * job.views >= WORTH * len(shapes) > 0


def seams(job: Job, seen: list[Unit]) -> list[tuple[Unit, Window]]:
    """The windows of the seam certificate, each beside a block that holds tissue; the same for all parts."""
    checks = []
    for order, unit in enumerate(chosen([unit for unit in seen if any(_windows(job, unit))])):
        ahead, behind = _windows(job, unit)
        window = (behind or ahead) if order % 2 else (ahead or behind)
        if window:
            checks.append((unit, window))
    return checks


def _windows(job: Job, unit: Unit) -> list[Window | None]:
    shape, sides = job.entries[unit.number]["shape"][2:], (job.planes, job.block, job.block)
    return [across(unit.block, shape, sides, job.axes, ahead=ahead) for ahead in (True, False)]


def seam_name(check: tuple[Unit, Window]) -> str:
    """Of its line in the ledger."""
    return f"seams {check[0].name}"
