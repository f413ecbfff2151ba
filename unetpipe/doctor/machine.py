"""Python, packages, compiler, cores, memory, GPUs."""

import os
import platform
import resource
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from unetpipe import __version__
from unetpipe.device import choose_precision
from unetpipe.doctor.findings import Finding, bad, good, unsure

LOCK = Path(__file__).parents[2] / "requirements.lock"
HANDLES = 256  # files open at once: of each thread a few, of Snakemake three a job


def examine_machine() -> Iterator[Finding]:
    """What every job relies on."""
    yield from _versions()
    yield _compiler()
    yield _handles()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield good(f"{cores} cores, {memory:.0f} GB of memory")
    yield from _gpus()


def _versions() -> Iterator[Finding]:
    said = f"Python {platform.python_version()}, unetpipe {__version__}, torch {torch.__version__}"
    if not LOCK.exists():
        yield unsure(f"{said}; {LOCK} is not there to compare the versions of packages with")
        return
    pinned = dict(line.split("==") for line in LOCK.read_text().split() if "==" in line)
    found = {name: _installed(name) for name in pinned}
    other = [f"{name} {found[name]} instead of {pinned[name]}" for name in pinned if found[name] != pinned[name]]
    if other:
        yield bad(f"{said}; {', '.join(other)}", "make setup installs what the lock file names")
    else:
        yield good(f"{said}; {len(pinned)} packages as in {LOCK.name}")


def _installed(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "missing"


def _compiler() -> Finding:
    found = next(filter(None, map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))), None)
    if found:
        return good(f"compiler {found}")
    return unsure("no C++ compiler: torch.compile is left out, and networks are slower", "install g++")


def _handles() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < HANDLES:
        return bad(f"{soft} files may be open at once, fewer than {HANDLES}", f"ulimit -n {min(hard, 4096)}")
    return good(f"{soft} files may be open at once")


def _gpus() -> Iterator[Finding]:
    count = torch.cuda.device_count()
    for number in range(count):
        what = torch.cuda.get_device_properties(number)
        kind = _precision(torch.device("cuda", number))
        yield good(f"GPU {number}: {what.name}, {what.total_memory / 1e9:.0f} GB, {kind}")
    if not count and Path("/proc/driver/nvidia/version").exists():
        advice = "install the build of torch for your driver, see pytorch.org"
        yield bad(f"there is a driver for GPUs, but torch {torch.__version__} sees none", advice)
    elif not count:
        said = f"no GPU: train and predict compute on the CPU in {_precision(torch.device('cpu'))}"
        yield unsure(said, "unetpipe plan CONFIG measures how long; fewer train.features and steps take less")


def _precision(place: torch.device) -> str:
    return str(choose_precision("auto", place)).removeprefix("torch.")
