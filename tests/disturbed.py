"""A small run whose stages are disturbed one at a time, each in a process of its own that is forked ready-made."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import tifffile
from scenes import SIDES, discs

SHAPE = (250, 300)
LEARN = {"depth": 1, "features": 4, "tile": 40, "batch": 2, "steps": 10, "learning_rate": 0.02, "normalise": True}
LEARN |= {"precision": "float32", "compile": False, "dropout": 0.1}
SAMPLE, WORKERS = {"sample": "s"}, {"sample": "s", "workers": 2}
PREDICTED = {**SAMPLE, "block": 64}
IMAGE, TRUTH, TISSUE = "images/s.ome.zarr/zarr.json", "truth/s.json", "tissue/s.json"
WEIGHTS, NETWORK = "weights/s.zarr/zarr.json", "network/all/network.json"
STORE, PART, OBJECTS = "probabilities/s.zarr/zarr.json", "probabilities/s.parts/0.json", "objects/s.json"
TABLE, OUTLINES = "objects/s.parquet", "objects/s.geojson.gz"
SCORED, REPORT = {"samples": [["s", "test"]]}, {"config": {}, "networks": [NETWORK], "results": "."}


class Stage(NamedTuple):
    """How a stage is called in the folder of results."""

    call: str  # module:function
    paths: tuple
    options: dict[str, Any]
    flight: int = 2  # units of work, blocks or steps, that may be repeated after each fault


STAGES = {
    "ingest": Stage("ingest:ingest", (["../image.tif"], IMAGE), {**WORKERS, **SIDES}),
    "truth": Stage("truth:write_truth", (["../labels.tif"], IMAGE, TRUTH), WORKERS),
    "mask": Stage("mask:write_mask", (IMAGE, TISSUE), {**WORKERS, "contrast": 0}),
    "weights": Stage("weights:write_weights", (IMAGE, TRUTH, WEIGHTS), WORKERS),
    "train": Stage("train:train", ([IMAGE], [TISSUE], [WEIGHTS], NETWORK), LEARN),
    "predict_part": Stage(
        "predict.part:predict_part", (IMAGE, TISSUE, [NETWORK], PART), {**PREDICTED, "store": STORE}, 3
    ),
    "predict": Stage("predict.publish:publish_probabilities", (IMAGE, TISSUE, [NETWORK], STORE), PREDICTED),
    "label": Stage("label:write_objects", (IMAGE, STORE, OBJECTS), WORKERS),
    "measure": Stage("measure:write_measurements", (IMAGE, STORE, OBJECTS, TABLE, OUTLINES), WORKERS),
    "table_csv": Stage("tables:write_csv", (TABLE, "objects/s.csv.gz"), {}),
    "labels_tiff": Stage("labels_tiff:write_tiff", (IMAGE, OBJECTS, "objects/s.ome.tif"), {}),
    "score": Stage("score:write_scores", ([IMAGE], [STORE], [TABLE], "scores.tsv"), SCORED),
    "report": Stage("report:write_report", ("report.html",), {**SCORED, **REPORT}),
}
HEAVY = ["dask", "jinja2", "matplotlib.figure", "numba", "pandas", "pyarrow.parquet", "safetensors.torch", "zarrs"]
HEAVY += ["scipy.ndimage", "skimage.measure", "skimage.segmentation", "tifffile", "torch", "tqdm", "yaml", "zarr"]
DEALINGS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree"}
PAGE = 4096  # bytes, the least that a file takes of a tmpfs


class Ended(NamedTuple):
    """What became of a process."""

    code: int  # -9 where it was killed
    said: str
    work: int  # blocks that were computed, or steps of training
    dealings: int  # with files below the results, and ends of work; 0 where it was killed


def perform(name: str, results: Path, notes: Path, die_at: int, clock: float) -> None:
    """Run a stage, note every unit of work, and die at one of the dealings; the clock is so many seconds ahead."""
    for descriptor, end in ((2, "said"), (9, "work")):
        os.dup2(os.open(notes.with_suffix(f".{end}"), os.O_WRONLY | os.O_CREAT), descriptor)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    os.chdir(results)
    now = time.time
    time.time = lambda: now() + clock
    dealings = [0]

    def deal():
        dealings[0] += 1
        if dealings[0] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event, arguments):
        named = event in DEALINGS and isinstance(arguments[0], str | os.PathLike)
        if named and Path(arguments[0]).absolute().is_relative_to(results):
            deal()

    code = 1
    try:
        call = _call_of(name, deal)
        sys.addaudithook(watch)
        from unetpipe.log import log_to

        log_to(results / "logs" / f"{name}.log")
        call(*STAGES[name].paths, **STAGES[name].options)
        code = 0
    except BaseException:  # noqa: BLE001 - said as at the end of a process
        sys.excepthook(*sys.exc_info())
    notes.with_suffix(".dealings").write_text(str(dealings[0]))
    os._exit(code)


def _call_of(name: str, deal):
    """The function of a stage, every unit of its work counted."""
    import torch

    from unetpipe import blocks

    torch.set_num_threads(1)
    module, function = STAGES[name].call.split(":")
    call = getattr(import_module(f"unetpipe.{module}"), function)

    def counted(method, counts):
        def wrapped(self, *arguments):
            value = method(self, *arguments)
            if counts(self):
                os.write(9, b".")
            deal()
            return value

        return wrapped

    blocks.Step.take = counted(blocks.Step.take, lambda step: step.name == blocks.LAST)
    if name == "train":
        loop = import_module("unetpipe.train.loop")
        loop.SAVE_EVERY = 0
        loop.Progress.advance = counted(loop.Progress.advance, lambda _: True)
    return call


class Bench:
    """The folder of a run as it was before and after each stage, and copies of it to be disturbed.

    Attributes
    ----------
    usual : dict of stage → Ended
        Undisturbed.
    """

    def __init__(self, folder: Path):
        self.folder, self.count = folder, 0
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(HEAVY)
        results = folder / "run" / "results"
        results.mkdir(parents=True)
        for path, pixels in zip(("image", "labels"), discs(SHAPE, seed=3, count=30, radius=10), strict=True):
            tifffile.imwrite(folder / "run" / f"{path}.tif", pixels)
        self.usual = {}
        for name in STAGES:
            shutil.copytree(folder / "run", folder / "before" / name)
            self.usual[name] = self.run(name, results)
            assert self.usual[name].code == 0, (name, self.usual[name].said)
            shutil.copytree(folder / "run", folder / "after" / name)

    def start(self, name: str, results: Path, *, die_at: int = 0, clock: float = 0):
        """Start a stage; see `perform`."""
        self.count += 1
        notes = self.folder / f"{self.count}.notes"
        process = self.context.Process(target=perform, args=(name, results, notes, die_at, clock))
        process.start()
        return process, notes

    def end(self, started) -> Ended:
        """Wait for it."""
        process, notes = started
        process.join()
        said, work, dealings = (notes.with_suffix(f".{end}") for end in ("said", "work", "dealings"))
        number = int(dealings.read_text()) if dealings.exists() else 0
        return Ended(process.exitcode, said.read_text(), work.stat().st_size, number)

    def run(self, name: str, results: Path, **how) -> Ended:
        """Start a stage and wait for it."""
        return self.end(self.start(name, results, **how))

    def copy(self, name: str, folder: Path, when: str = "before") -> Path:
        """The results before or after a stage, below a folder; the report names the run by its own."""
        return Path(shutil.copytree(self.folder / when / name, folder / "run")) / "results"

    def needs(self, name: str) -> int:
        """Bytes of a tmpfs that a stage fills."""
        before, after = (sum(map(_room, (self.folder / when / name).rglob("*"))) for when in ("before", "after"))
        return after - before

    def differences(self, name: str, results: Path) -> list[str]:
        """Files that are not what an undisturbed stage leaves."""
        expected, found = content(self.folder / "after" / name / "results"), content(results)
        lost = [f"{path} is missing" for path in expected.keys() - found.keys()]
        left = [f"{path} was left" for path in found.keys() - expected.keys()]
        return (
            lost
            + left
            + [f"{path} differs" for path in expected.keys() & found.keys() if expected[path] != found[path]]
        )


def _room(path: Path) -> int:
    return -(-path.stat().st_size // PAGE) * PAGE if path.is_file() else 0


def content(results: Path) -> dict[str, bytes]:
    """All files but logs; of ledgers, locks and checkpoints the names alone."""
    files = [path for path in results.rglob("*") if path.is_file() and "logs" not in path.parts]
    own = {path for path in files if ".ledger" in path.parts or path.name.endswith((".pt", ".lock"))}
    return {str(path.relative_to(results)): b"" if path in own else path.read_bytes() for path in files}


@contextlib.contextmanager
def small_disk(folder: Path, size: int):
    """A file system of so many bytes; False where none can be mounted."""
    folder.mkdir(parents=True)
    mount, umount = shutil.which("mount"), shutil.which("umount")
    command = [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    mounted = os.geteuid() == 0 and mount and not subprocess.run(command, check=False, capture_output=True).returncode
    try:
        yield bool(mounted)
    finally:
        if mounted:
            subprocess.run([umount, folder], check=True)


@contextlib.contextmanager
def read_only(disk: Path):
    """A mounted file system that nobody may write."""
    subprocess.run([shutil.which("mount"), "-o", "remount,ro", disk], check=True)
    try:
        yield
    finally:
        subprocess.run([shutil.which("mount"), "-o", "remount,rw", disk], check=True)


@contextlib.contextmanager
def full(disk: Path, free: int):
    """A mounted file system with so many bytes left."""
    room = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(max(0, room.f_bavail * room.f_frsize - free)))
    try:
        yield
    finally:
        (disk / "ballast").unlink()
