"""Runs the blocks of a store on Dask's threads, stage by stage, and keeps the ledger of what is finished."""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Self

import dask

from unetpipe.locks import held
from unetpipe.log import Progress
from unetpipe.manifest import digest, file_checksum

logger = logging.getLogger(__name__)
BATCH = 256  # tasks that Dask knows of at once, so that a large slide needs no more memory than a small one


class Done(NamedTuple):
    """What a finished block leaves: its shards, its note for later passes, or why it was skipped."""

    files: Sequence[Path] = ()
    note: Any = None  # anything JSON can hold, e.g. the digest of the values
    skipped: str = ""


class Stage(NamedTuple):
    """What happens to a block before its work ends; each takes what the one before gives, the first nothing."""

    name: str
    call: Callable[..., Any]


class Task(NamedTuple):
    """One block of work. A series whose task fails is left aside, the others go on."""

    series: str
    block: str
    work: Callable[..., Done]  # takes what the last stage before it gives
    before: tuple[Stage, ...] = ()

    @property
    def name(self) -> str:
        """Of its line in the ledger."""
        return f"{self.series} {self.block}"


def read_lines(path: Path) -> list[dict]:
    """The whole lines of a ledger's file, the key first; a last one that a kill tore is dropped."""
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            logger.warning("%s: a torn line is ignored", path)
    return lines


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

    Raises
    ------
    BlockingIOError
        If another process writes the same part.
    """

    def __init__(self, store, stage: str, key, *, part: str = "all"):
        self.store, self.key = Path(store), digest(key)
        self.folder = self.store / ".ledger" / stage
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"{part}.jsonl"
        self.opened = ExitStack()
        self.opened.enter_context(held(self.folder / f"{part}.lock"))
        self.file = self.opened.enter_context(open(self.path, "a+"))  # noqa: SIM115 - it is
        self.resumed = self._key_of(self.path) == self.key
        self.finished = self._believe()
        self.lock = Lock()
        self._restart()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.opened.close()

    def _key_of(self, path: Path) -> str:
        lines = read_lines(path)
        return lines[0].get("key", "") if lines else ""

    def _believe(self) -> dict[str, dict]:
        paths = [path for path in sorted(self.folder.glob("*.jsonl")) if self._key_of(path) == self.key]
        entries = {line["name"]: line for path in paths for line in read_lines(path)[1:]}
        return {name: entry for name, entry in entries.items() if self._holds(entry)}

    def _holds(self, entry: dict) -> bool:
        return all(self._checksum(self.store / path) == sum_ for path, sum_ in entry["shards"].items())

    @staticmethod
    def _checksum(path: Path) -> str | None:
        return file_checksum(path) if path.exists() else None

    def _restart(self) -> None:
        """Begin the own file anew with what still holds."""
        own = {line["name"] for line in read_lines(self.path)[1:]} if self.resumed else set()
        self.file.truncate(0)
        lines = [{"key": self.key}, *(entry for name, entry in self.finished.items() if name in own)]
        self.file.writelines(json.dumps(line) + "\n" for line in lines)
        self.file.flush()

    def record(self, name: str, done: Done) -> None:
        """Note a finished block and the checksums of its shards."""
        shards = {str(path.relative_to(self.store)): self._checksum(path) for path in done.files}
        entry = {"name": name, "shards": shards, "note": done.note, "skipped": done.skipped}
        with self.lock:
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()
            self.finished[name] = entry

    def check_coverage(self, names: Iterable[str], advice: str = "run it again") -> None:
        """Raise RuntimeError unless every named block is computed, or skipped for a stated reason."""
        missing = [name for name in names if name not in self.finished]
        if missing:
            shown = "; ".join(missing[:5]) + ("; …" if len(missing) > 5 else "")
            raise RuntimeError(f"{self.store}: {len(missing)} blocks are not accounted for ({shown}); {advice}")

    def notes(self, series: str) -> dict[str, Any]:
        """Notes of the finished blocks of one series, by name, in the order of the names."""
        return {n: self.finished[n]["note"] for n in sorted(self.finished) if n.startswith(f"{series} ")}

    def shards(self, prefixes: tuple[str, ...] = ("",)) -> set[Path]:
        """All files that finished blocks own whose names start with one of the prefixes."""
        entries = [entry for name, entry in self.finished.items() if name.startswith(prefixes)]
        return {self.store / path for entry in entries for path in entry["shards"]}


def run(tasks: Iterable[Task], ledger: Ledger, failures: dict[str, Exception], *, workers: int) -> dict[str, float]:
    """Run the tasks that the ledger does not hold yet; every stage is a task of Dask, and stages overlap.

    Parameters
    ----------
    failures : dict of series → error
        A task that fails adds its series; further tasks of a series in it are left out.
    workers : int
        Threads; each holds one block in memory.

    Returns
    -------
    dict of stage → seconds
        Summed over the threads; 0 for a stage that never ran.
    """
    todo = [task for task in tasks if task.name not in ledger.finished]
    progress, spent = Progress(len(todo), f"blocks of {ledger.folder.name}"), defaultdict[str, float](float)

    def one(task: Task, stage: Stage, *given: Any) -> Any:
        begun = time.monotonic()
        result: Any = None
        if task.series not in failures:
            try:
                result = stage.call(*given)
            except Exception as error:
                logger.exception("series %s, block %s", task.series, task.block)
                failures[task.series] = error
        if stage.call is task.work:
            if result is not None:
                ledger.record(task.name, result)
            progress.advance()
        with ledger.lock:
            spent[stage.name] += time.monotonic() - begun
        return result

    def chained(task: Task) -> Any:
        given: list = []
        for stage in (*task.before, Stage("write", task.work)):
            given = [job(task, stage, *given, dask_key_name=f"{stage.name} {task.name}")]
        return given[0]

    job = dask.delayed(one, pure=False)
    for first in range(0, len(todo), BATCH):
        chains = [chained(task) for task in todo[first : first + BATCH]]
        dask.compute(*chains, scheduler="threads", num_workers=workers)
    return spent


def raise_failures(sample: str, failures: dict[str, Exception]) -> None:
    """Raise one RuntimeError that names the sample, every failed series and its cause."""
    if failures:
        causes = "\n".join(f"  series {series}: {error}" for series, error in sorted(failures.items()))
        raise RuntimeError(f'sample "{sample}": {len(failures)} series could not be read or written\n{causes}')
