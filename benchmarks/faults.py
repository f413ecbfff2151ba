"""Every stage of a small run under every fault; writes FAULTS.md beside itself and ends with 1 if anything was lost.

Each kill is a SIGKILL at a random one of the stage's dealings with files and ends of blocks; its seed is printed.
"""

import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from disturbed import STAGES, Bench, Ended, full, read_only, small_disk

from unetpipe.verification import verify

KILLS = 10
DISK = 2**24  # bytes
CLOCK = -400 * 86400.0  # seconds
PUBLISHED_BY = {"predict_part": "predict"}
PAGE = Path(__file__).with_name("FAULTS.md")
PACKAGES = ("unetpipe", "torch", "zarr", "zarrs", "numpy", "dask", "pyarrow", "tifffile")


class Row(NamedTuple):
    """A line of the table."""

    stage: str
    fault: str
    faults: int
    repeated: int  # blocks, or steps of training
    said: str
    wrong: list[str]


def main() -> None:
    """Disturb every stage, print each row and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        bench, rows = Bench(Path(folder) / "bench"), []
        for name in sys.argv[1:] or STAGES:
            for fault in (killed, on_a_full_disk, on_a_read_only_disk, damaged, locked, clock_set_back, twice):
                for row in fault(bench, name, Path(folder) / f"{name}-{fault.__name__}"):
                    rows.append(row)
                    print(_line(row), flush=True)
    if not sys.argv[1:]:
        PAGE.write_text(_page(rows))
    raise SystemExit(any(row.wrong for row in rows))


def _row(
    bench: Bench, name: str, results: Path, fault: str, ends: list[Ended], said: str = "", *, done: int = 0
) -> Row:
    """After the last run, which has to end whole; `done` is work that was finished before."""
    repeated = max(0, done + sum(end.work for end in ends) - bench.usual[name].work)
    wrong = bench.differences(name, results) if ends[-1].code == 0 else [ends[-1].said]
    count = len(ends) - 1
    if repeated > max(1, count) * STAGES[name].flight:
        wrong.append(f"{repeated} repeated")
    return Row(name, fault, count, repeated, said, wrong)


def _sentence(end: Ended, place: Path) -> str:
    """The last line that a refused run said."""
    if end.code != 1 or "Traceback" in end.said:
        return f"no sentence (code {end.code}): {end.said}"
    return re.split(r"Error: |series 0[^:]*: ", end.said.splitlines()[-1])[-1].replace(f"{place}/", "")


def killed(bench: Bench, name: str, place: Path) -> Iterator[Row]:
    """Ten times, each from where the last one left it; from the beginning where the stage ended before."""
    ends, wrong, rounds, usual = [], [], 1, bench.usual[name]
    results = bench.copy(name, place / "1")
    while len(ends) < KILLS + rounds - 1:
        seed = len(ends) + 1
        moment = int(np.random.default_rng([seed, *name.encode()]).integers(1, usual.dealings, endpoint=True))
        ends.append(bench.run(name, results, die_at=moment))
        print(f"{name}: seed {seed}, dealing {moment}: {'ended before' if ends[-1].code == 0 else 'killed'}")
        if ends[-1].code == 0:
            wrong += bench.differences(name, results)
            rounds += 1
            results = bench.copy(name, place / str(rounds))
    ends.append(bench.run(name, results))
    row = _row(bench, name, results, f"kill -9, {KILLS} times", ends, done=(1 - rounds) * usual.work)
    yield row._replace(faults=KILLS, wrong=row.wrong + wrong)


def on_a_full_disk(bench: Bench, name: str, place: Path) -> Iterator[Row]:
    """That fills at a third of what the stage needs, then at two."""
    with small_disk(place, DISK) as mounted:
        if mounted:
            results, ends = bench.copy(name, place), []
            for third in range(2):
                with full(place, bench.needs(name) * third // 3):
                    ends.append(bench.run(name, results))
            said = _sentence(ends[0], place)
            yield _row(bench, name, results, "disk full", [*ends, bench.run(name, results)], said)


def on_a_read_only_disk(bench: Bench, name: str, place: Path) -> Iterator[Row]:
    """From the start."""
    with small_disk(place, DISK) as mounted:
        if mounted:
            results = bench.copy(name, place)
            with read_only(place):
                end = bench.run(name, results)
            ends = [end, bench.run(name, results)]
            yield _row(bench, name, results, "disk read-only", ends, _sentence(end, place))


def damaged(bench: Bench, name: str, place: Path) -> Iterator[Row]:
    """A shard that it wrote is found by `verify`, once published, and made again after what that says is deleted."""
    last = PUBLISHED_BY.get(name, name)
    before = bench.folder / "before" / name / "results"
    for kind, harm in (("shard truncated", _truncate), ("bit of a shard flipped", _flip)):
        results = bench.copy(last, place / kind, "after")
        shards = [path for path in sorted(results.glob("**/c/**/*")) if path.is_file()]
        own = [path for path in shards if not (before / path.relative_to(results)).exists()]
        if own:
            chosen = own[len(own) // 2]
            harm(chosen)
            (problem,) = (found for found in verify(results, blocks=0) if str(chosen) in found.what)
            for path in problem.delete.split():
                shutil.rmtree(results / path) if (results / path).is_dir() else (results / path).unlink(missing_ok=True)
            ends = [Ended(1, "", 0, 0), *(bench.run(one, results) for one in dict.fromkeys((name, last)))]
            said = str(problem).replace(f"{results}/", "")
            row = _row(bench, last, results, kind, ends, said, done=bench.usual[last].work)
            yield row._replace(stage=name, faults=1)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def locked(bench: Bench, name: str, place: Path) -> Iterator[Row]:
    """By a process that died long ago."""
    results = bench.copy(name, place)
    bench.run(name, results, die_at=bench.usual[name].dealings // 2)
    for lock in [*results.rglob("*.lock"), *results.rglob(".lock")]:
        lock.write_text("process 1 on another machine")
    yield _row(bench, name, results, "stale lock", [bench.run(name, results)])


def clock_set_back(bench: Bench, name: str, place: Path) -> Iterator[Row]:
    """By more than a year between two halves of the work."""
    results = bench.copy(name, place)
    ends = [bench.run(name, results, die_at=bench.usual[name].dealings // 2), bench.run(name, results, clock=CLOCK)]
    yield _row(bench, name, results, "clock set back", ends)


def twice(bench: Bench, name: str, place: Path) -> Iterator[Row]:
    """Two processes at once: one ends, the other is refused or writes the same bytes."""
    results = bench.copy(name, place)
    ends = [bench.end(started) for started in [bench.start(name, results) for _ in range(2)]]
    refused = [end for end in ends if end.code]
    said = _sentence(refused[0], place) if refused else "both wrote the same"
    row = _row(bench, name, results, "two runs at once", [*ends, bench.run(name, results)], said)
    yield row._replace(wrong=row.wrong + ["both were refused"] * (len(refused) == 2))


def _line(row: Row) -> str:
    outcome = "; ".join(row.wrong) if row.wrong else "byte-equal"
    return f"| {row.stage} | {row.fault} | {outcome} | {row.repeated} | {row.said} |".replace("\n", " ")


def _page(rows: list[Row]) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        "# Faults\n\nWritten by `make faults`. Each stage is disturbed, run again, and its results compared byte by "
        "byte with those of an undisturbed run; repeated are the blocks (steps of training) in flight at a fault.\n\n"
        "| stage | fault | outcome | repeated | what it said |\n|---|---|---|--:|---|\n"
        + "".join(f"{_line(row)}\n" for row in rows)
        + f"\nPython {platform.python_version()}, {versions}; {platform.system()} {platform.machine()}.\n"
    )


if __name__ == "__main__":
    main()
