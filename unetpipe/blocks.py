"""Runs the blocks of a store on Dask, stage by stage, and keeps the ledger of what is finished."""

import errno
import json
import logging
import os
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from io import SEEK_END, FileIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

from unetpipe.disk import explained
from unetpipe.locks import held
from unetpipe.log import Progress
from unetpipe.manifest import digest, file_checksum, write_bytes
from unetpipe.scheduling import Graph, compute_each

logger = logging.getLogger(__name__)
BATCH = 256  # tasks that Dask knows of at once, so that a large slide needs no more memory than a small one
LAST = "write"  # name of the stage that gives `Done`
HEAD, ENTRY = {"key"}, {"name", "shards", "note", "skipped"}  # what the lines of a ledger hold
KEY = " of run "  # in Dask's names of the tasks


class Done(NamedTuple):
    """What a finished block leaves: its shards, its note for later passes, or why it was skipped."""

    files: Sequence[Path] = ()
    note: Any = None  # anything JSON can hold, e.g. the digest of the values
    skipped: str = ""


class Stage(NamedTuple):
    """What happens to a block before its work ends.

    A call that many blocks share, the same object, reaches a process that computes several of them once.
    """

    name: str
    call: Callable[..., Any]
    given: tuple = ()  # what it takes of this block, before what the last stage gives


class Task(NamedTuple):
    """One block of work. A series whose task fails is left aside, the others go on."""

    series: str
    block: str
    work: Callable[..., Done]
    given: tuple = ()  # as in a stage
    before: tuple[Stage, ...] = ()

    @property
    def name(self) -> str:
        """Of its line in the ledger."""
        return f"{self.series} {self.block}"


def entry_of(store: Path, name: str, done: Done) -> dict:
    """The line of a ledger: a finished block and the checksums of its shards."""
    shards = {str(path.relative_to(store)): _checksum(path) for path in done.files}
    return {"name": name, "shards": shards, "note": done.note, "skipped": done.skipped}


def _checksum(path: Path) -> str | None:
    return file_checksum(path) if path.exists() else None


def _line(entry: dict) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _append(file: FileIO, line: bytes) -> None:
    """Write a line whole or not at all: half of one would take the next with it."""
    end = file.seek(0, SEEK_END)
    if file.write(line) != len(line):
        file.truncate(end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_lines(path: Path) -> list[dict]:
    """The whole lines of a ledger's file, the key first; one that was torn or damaged is dropped."""
    lines = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            logger.warning("%s: a torn line is ignored", path)
    kinds = (ENTRY if number else HEAD for number in range(len(lines)))
    return [line for line, kind in zip(lines, kinds, strict=True) if isinstance(line, dict) and line.keys() == kind]


class Ledger:
    """The finished blocks of one stage of a store: one line of JSON each, checked before it is believed.

    Parameters
    ----------
    store : path
        Root of the store; the ledger lies in its folder `.ledger`.
    stage : str
    key : object
        Digests of inputs, parameters, network and the stage's revision. Lines under another key
        are forgotten.
    part : str
        Name of this writer; each part appends to a file of its own, locked until the ledger is left as a context, and
        reads those of all.
    among : container of str, optional
        Names of the blocks that this writer asks for, whose shards are checked; those of all if not given.

    Raises
    ------
    BlockingIOError
        If another process writes the same part.
    """

    def __init__(self, store, stage: str, key, *, part: str = "all", among: Container[str] | None = None):
        self.store, self.key, self.among = Path(store), digest(key), among
        self.folder = self.store / ".ledger" / stage
        self.path = self.folder / f"{part}.jsonl"
        self.opened = ExitStack()
        self.file: FileIO | None = None  # open since the first finished block
        self.opened.enter_context(held(self.folder / f"{part}.lock"))
        noted = self._noted()
        self.noted = {entry["name"] for entry in noted}
        self.finished = {entry["name"]: entry for entry in noted if self._asked(entry) and self._holds(entry)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.opened.close()

    def _lines(self, path: Path) -> list[dict]:
        """Of a file, if they hold under this key."""
        head, *entries = read_lines(path) or [{}]
        return entries if head.get("key") == self.key else []

    def _noted(self) -> list[dict]:
        """The lines of all parts: two may know a block, of which one holds."""
        paths = sorted(self.folder.glob("[!.]*.jsonl"))
        return [line for path in paths for line in self._lines(path)]

    def _asked(self, entry: dict) -> bool:
        return self.among is None or entry["name"] in self.among

    def _holds(self, entry: dict) -> bool:
        return all(_checksum(self.store / path) == sum_ for path, sum_ in entry["shards"].items())

    def begin(self) -> FileIO:
        """Begin the own file anew with what still holds, or was not asked for.

        By rename, so that whatever happens here no finished block is forgotten; a run that finishes none leaves the
        old one.
        """
        every = self._lines(self.path)
        own = [line for line in every if not self._asked(line) or self.finished.get(line["name"]) == line]
        lines = [{"key": self.key}, *{line["name"]: line for line in own}.values()]
        write_bytes(self.path, b"".join(map(_line, lines)))
        self.file = self.opened.enter_context(FileIO(self.path, "a"))
        return self.file

    def knows(self, prefix: str) -> bool:
        """Whether a block of such a name was finished under this key before, whatever became of its shards."""
        return any(name.startswith(prefix) for name in self.noted)

    def record(self, name: str, done: Done) -> None:
        """Note a finished block and the checksums of its shards."""
        self.keep(entry_of(self.store, name, done))

    def keep(self, entry: dict) -> None:
        """Note what `entry_of` gives."""
        with explained(self.path):
            _append(self.file or self.begin(), _line(entry))
        self.finished[entry["name"]] = entry

    def check_coverage(self, names: Iterable[str], advice: str = "run it again") -> None:
        """Raise RuntimeError unless every named block is computed, or skipped for a stated reason."""
        missing = [name for name in names if name not in self.finished]
        if missing:
            shown = "; ".join(missing[:5]) + ("; …" if len(missing) > 5 else "")
            raise RuntimeError(f"{self.store}: {len(missing)} blocks are not accounted for ({shown}); {advice}")

    def notes(self) -> dict[str, dict[str, Any]]:
        """Notes of the finished blocks of each series, by name, in the order of the names."""
        found = defaultdict[str, dict[str, Any]](dict)
        for name in sorted(self.finished):
            found[name.partition(" ")[0]][name] = self.finished[name]["note"]
        return found

    def shards(self, prefixes: tuple[str, ...] = ("",)) -> set[Path]:
        """All files that finished blocks own whose names start with one of the prefixes."""
        entries = [entry for name, entry in self.finished.items() if name.startswith(prefixes)]
        return {self.store / path for entry in entries for path in entry["shards"]}


def run(tasks: Iterable[Task], ledger: Ledger, failures: dict[str, Exception], *, workers: int) -> dict[str, float]:
    """Run the tasks that the ledger does not hold yet; every stage is a task of Dask, and stages overlap.

    They run where `scheduling.scheduled` says.

    Parameters
    ----------
    failures : dict of series → error
        A task that fails adds its series; further tasks of a series in it are left out.
    workers : int
        Threads, where they compute; each holds one block in memory.

    Returns
    -------
    dict of stage → seconds
        Summed over the threads; 0 for a stage that never ran.
    """
    todo = {task.name: task for task in tasks if task.name not in ledger.finished}
    progress, spent = Progress(len(todo), f"blocks of {ledger.folder.name}"), defaultdict[str, float](float)

    def keep(key: str, outcome: Outcome) -> None:
        task = todo[key.removeprefix(f"{LAST} ").removesuffix(f"{KEY}{unique}")]
        if outcome.error:
            logger.error("series %s, block %s: %s", task.series, task.block, outcome.error, exc_info=outcome.error)
            failures.setdefault(task.series, outcome.error)
            failed.add(task.series)
        elif outcome.value is not None:
            ledger.keep(outcome.value)
        for name, seconds in outcome.spent.items():
            spent[name] += seconds
        progress.advance()

    failed, unique, names = set(failures), uuid.uuid4().hex, iter(todo)
    while batch := [todo[name] for name in islice(names, BATCH)]:
        compute_each(*_graph(batch, ledger.store, failed, unique), keep, workers)
    return spent


class Outcome(NamedTuple):
    """What a stage gives to the next and the last one to the ledger, or why it gives nothing."""

    value: Any = None
    error: Exception | None = None
    spent: dict[str, float] = {}  # noqa: RUF012 - seconds of each stage so far, never changed


NOTHING = Outcome()


class Step:
    """One stage of one block. Dask does not look into it; a process of its own gets a copy as of the submission."""

    def __init__(self, task: Task, stage: Stage, failed: Collection[str], store: Path):
        self.series, self.task, self.name, self.given = task.series, task.name, stage.name, stage.given
        self.failed, self.store = failed, store

    def take(self, call: Callable[..., Any], before: Outcome) -> Any:
        """What the stage makes of what the one before gave."""
        value = call(*self.given, *(() if before.value is None else (before.value,)))
        return entry_of(self.store, self.task, value) if self.name == LAST else value


def _graph(tasks: list[Task], store: Path, failed: Collection[str], run: str) -> tuple[Graph, list[str]]:
    """The stages of the tasks, each after the ones before it, and the keys of the last ones."""
    graph: Graph = {}  # a scheduler may know those of other runs too
    keys: list[str] = []
    for task in tasks:
        before: tuple[str, ...] = ()
        for stage in (*task.before, Stage(LAST, task.work, task.given)):
            shared = f"call {id(stage.call)}{KEY}{run}"  # one that many blocks share goes to each process once
            name = f"{stage.name} {task.name}{KEY}{run}"
            graph |= {shared: stage.call, name: (partial(_attempt, Step(task, stage, failed, store)), shared, *before)}
            before = (name,)
        keys += before
    return graph, keys


def _attempt(step: Step, call: Callable[..., Any], before: Outcome = NOTHING) -> Outcome:
    """One stage of a block, unless one before it gave nothing, or its series failed elsewhere."""
    begun, value, error = time.monotonic(), None, before.error
    first = not before.spent
    if error is None and step.series not in step.failed and (first or before.value is not None):
        try:
            value = step.take(call, before)
        except Exception as raised:  # noqa: BLE001 - it is told in the process that keeps the ledger
            error = raised
    return Outcome(value, error, {**before.spent, step.name: time.monotonic() - begun})


def raise_failures(sample: str, failures: dict[str, Exception]) -> None:
    """Raise one RuntimeError that names the sample, every failed series and its cause."""
    if failures:
        causes = "\n".join(f"  series {series}: {error}" for series, error in sorted(failures.items()))
        raise RuntimeError(f'sample "{sample}": {len(failures)} series could not be read or written\n{causes}')
