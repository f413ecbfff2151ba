"""Whether a Slurm cluster would accept the jobs of a project, and what they would find there."""

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import yaml

from unetpipe.doctor.findings import Finding, bad, good, unsure

SAID = 3  # lines of Snakemake's at its end that say what is wrong
PLUGIN = "snakemake-executor-plugin-slurm"
SNAKEFILE = Path(__file__).parents[2] / "Snakefile"
RULE = re.compile(r"^rule (\w+):\n(.*?)(?=^\[|\Z)", re.DOTALL | re.MULTILINE)
WAIT = 60  # seconds that a short job waits for a node
START = 60  # more until it has said what it sees: torch is read from a shared file system
FORGETS = 60  # seconds; a Slurm that forgets jobs sooner may do so between two looks of Snakemake at their state
LOOK = """
import json, pathlib, sys, torch, unetpipe
seen = {"package": unetpipe.__file__, "gpus": torch.cuda.device_count(), "shared": pathlib.Path(sys.argv[1]).exists()}
json.dump(seen, sys.stdout)
"""


class Needs(NamedTuple):
    """What the jobs of a rule ask for; of several the most memory."""

    rule: str
    threads: int
    resources: dict[str, str]

    @property
    def number(self) -> int:
        """MB of memory."""
        return int(self.resources["mem_mb"])

    @property
    def partition(self) -> str:
        """One, several separated by commas, or none: the cluster's default."""
        return self.resources.get("slurm_partition", "")

    @property
    def gpus(self) -> int:
        """Of a job."""
        return int(self.resources.get("gpu", 0))

    def options(self) -> list[str]:
        """For Slurm, as the executor gives them."""
        given, names = self.resources, {"partition": "slurm_partition", "account": "slurm_account", "time": "runtime"}
        names |= {"mem": "mem_mb", **{name: name for name in ("constraint", "qos", "gres")}}
        options = [f"--{option}={given[name]}" for option, name in names.items() if name in given]
        model = f"{given['gpu_model']}:" if "gpu_model" in given else ""
        options += [f"--gpus={model}{self.gpus}"] if self.gpus else ["--ntasks=1"]
        return [*options, f"--cpus-per-task={self.threads}", *shlex.split(given.get("slurm_extra", "").strip("'\""))]


def examine_cluster(profile: Path, config: Path | None, directory: Path, data: Path | None = None) -> Iterator[Finding]:
    """What Slurm says of the jobs that a run with this profile would submit.

    Parameters
    ----------
    profile : path
        Folder of a profile of Snakemake.
    config : path, optional
        Of the project; every rule of a run of it is tried, as if nothing had run yet. Without one, the rules with
        the defaults.
    directory : path
        Where it would run.
    data : path, optional
        Instead of the config's key data.
    """
    content = yaml.safe_load((profile / "config.yaml").read_text())
    if content.get("executor") != "slurm":
        yield unsure(f"{profile}: executor {content.get('executor', 'local')}; only slurm can be examined")
        return
    tools = [name for name in ("sbatch", "srun", "scontrol", "sinfo") if not shutil.which(name)]
    if tools:
        yield bad(f"{', '.join(tools)} not found", "run this where jobs are submitted, on the login node")
        return
    yield _plugin()
    try:
        settings = _settings()
    except subprocess.CalledProcessError as error:
        yield bad(f"Slurm does not answer: {error.stderr.strip()}", "try again when it is up")
        return
    yield from _site(content, settings)
    with tempfile.TemporaryDirectory() as folder:
        needs, said = _needs(profile, config or _any_project(Path(folder)), directory, data)
    if not needs:
        yield bad(f"snakemake --dry-run --profile {profile} lists no jobs", said)
        return
    yield from _accepted(needs)
    yield from _inside(needs, directory)


def _any_project(folder: Path) -> Path:
    """The config of a project of which every rule has a job; a dry run opens no image."""
    splits = ("train", "test")
    for split in splits:
        (folder / f"{split}.tif").touch()
    rows = ["sample\tpath\tlabels\tsplit", *(f"{split}\t{split}.tif\t{split}.tif\t{split}" for split in splits)]
    (folder / "samples.tsv").write_text("\n".join(rows) + "\n")
    (folder / "config.yaml").write_text("samples: samples.tsv\n")
    return folder / "config.yaml"


def _plugin() -> Finding:
    try:
        return good(f"{PLUGIN} {version(PLUGIN)}")
    except PackageNotFoundError:
        return bad(f"{PLUGIN} is not installed", "make setup installs it")


def _ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - Slurm's own


def _settings() -> dict[str, str]:
    pairs = (line.split("=", 1) for line in _ask("scontrol", "show", "config").splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _site(profile: dict, settings: dict[str, str]) -> Iterator[Finding]:
    """How the site has set Slurm up, as far as a run depends on it."""
    yield good(f"Slurm {settings['SLURM_VERSION']}, cluster {settings['ClusterName']}")
    age = int(settings["MinJobAge"].split()[0])
    if age < FORGETS:
        yield bad(f"MinJobAge is {age} s: ended jobs may be forgotten unseen", f"ask for {FORGETS} or more")
    else:
        yield good(f"MinJobAge {age} s: do not stop Snakemake (Ctrl-Z) for longer")
    accounting = settings["AccountingStorageType"] != "accounting_storage/none"
    if not accounting and profile.get("slurm-status-command", "sacct") == "sacct":
        yield bad("no accounting, which sacct waits for", "set slurm-status-command: squeue in the profile")
    else:
        yield good("accounting" if accounting else "no accounting; the profile asks squeue")
    mode = settings["PreemptMode"]
    if "REQUEUE" in mode and not profile.get("slurm-requeue"):
        yield bad(f"PreemptMode {mode}, and jobs are not requeued", "set slurm-requeue: true in the profile")
    else:
        yield good(f"PreemptMode {mode}, JobRequeue {settings['JobRequeue']}")


def _needs(profile: Path, config: Path, directory: Path, data: Path | None) -> tuple[list[Needs], str]:
    """What a run would ask for, and what Snakemake said at last."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--profile", str(profile)]
    command += ["--configfile", str(config), "--directory", str(directory), "--dry-run", "--forceall", "--nolock"]
    command += ["--config", f"data={data.resolve()}"] if data else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this Python
    found: dict[str, Needs] = {}
    for rule, text in RULE.findall(done.stdout):
        line = re.search(r"^    resources: (.*)$", text, re.MULTILINE)
        threads = re.search(r"^    threads: (\d+)$", text, re.MULTILINE)
        if line and "runtime=" in line[1]:  # the rule that only names all others has none
            given = dict(part.split("=", 1) for part in line[1].split(", ") if "=" in part)
            one = Needs(rule, int(threads[1]) if threads else 1, given)
            found[rule] = max(found.get(rule, one), one, key=lambda needs: needs.number)
    lines = [line.strip() for line in (done.stdout.strip() or done.stderr.strip()).splitlines()]
    return [*found.values()], " ".join([line for line in lines if not line.startswith("File ")][-SAID:])


def _accepted(needs: list[Needs]) -> Iterator[Finding]:
    """Whether Slurm would take a job of each rule, within the limit of its partition."""
    limits = dict(line.split("|") for line in _ask("sinfo", "-h", "-a", "-o", "%R|%l").splitlines())
    for one in needs:
        partitions, minutes = one.partition.split(","), int(one.resources["runtime"])
        missing = sorted(set(partitions) - limits.keys() - {""})
        longest = max((_minutes(limits[name]) for name in partitions if name in limits), default=math.inf)
        asked = f"{one.rule}: {one.threads} cores, {one.number} MB, {minutes} min" + f", {one.gpus} GPU" * (
            one.gpus > 0
        )
        if missing:
            yield bad(f"{one.rule}: no partition {missing[0]}", f"there are {', '.join(sorted(limits))}")
        elif minutes > longest:
            advice = f"set runtime of {one.rule} to at most {longest:.0f} under set-resources"
            yield bad(f"{asked}: partition {one.partition} ends jobs after {longest:.0f} min", advice)
        else:
            yield _tested(one, asked)


def _tested(one: Needs, asked: str) -> Finding:
    """What Slurm says to such a job, without running it."""
    command = ["sbatch", "--test-only", *one.options(), "--wrap", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - Slurm's own
    said = " ".join(done.stderr.split()).replace("sbatch: ", "").replace("allocation failure: ", "")
    answer = f"{asked}: {said or 'accepted'}"
    return bad(answer, "mend the profile") if done.returncode else good(answer)


def _minutes(limit: str) -> float:
    """Of a time as Slurm writes it: [days-][hours:]minutes:seconds, or infinite."""
    if limit == "infinite":
        return math.inf
    days, _, clock = limit.rpartition("-")
    seconds = sum(int(part) * 60**place for place, part in enumerate(reversed(clock.split(":"))))
    return int(days or 0) * 24 * 60 + seconds / 60


def _inside(needs: list[Needs], directory: Path) -> Iterator[Finding]:
    """What a short job sees on a node of each partition."""
    kinds = {(one.partition, one.gpus > 0): one for one in needs}
    probe = directory.absolute() / f".doctor-{uuid.uuid4().hex}"
    probe.touch()
    try:
        for one in kinds.values():
            yield from _seen(one, probe)
    finally:
        probe.unlink()


def _seen(one: Needs, probe: Path) -> Iterator[Finding]:
    partition = one.partition or "by default"
    short = one._replace(threads=1, resources={**one.resources, "runtime": "5", "mem_mb": "2000"})
    command = ["srun", f"--immediate={WAIT}", *short.options(), sys.executable, "-c", LOOK, str(probe)]
    try:
        done = subprocess.run(  # noqa: S603 - this Python
            command, capture_output=True, text=True, check=False, timeout=WAIT + START, cwd=os.sep
        )
    except subprocess.TimeoutExpired:
        yield unsure(f"partition {partition}: a short job did not end within {WAIT + START} s", "try again later")
        return
    if done.returncode:
        yield unsure(f"partition {partition}: a short job did not run: {' '.join(done.stderr.split())[-300:]}")
        return
    seen = json.loads(done.stdout.splitlines()[-1])
    here = str(SNAKEFILE.parent / "unetpipe" / "__init__.py")
    if not seen["shared"]:
        advice = "keep the project on a file system that all nodes share"
        yield bad(f"partition {partition}: {probe.parent} is not the same there", advice)
    elif seen["package"] != here:
        yield bad(f"partition {partition}: Python there finds {seen['package']} instead of {here}")
    elif one.gpus > seen["gpus"] and one.resources.get("device") == "cuda":
        advice = "check its driver, and the build of torch"
        yield bad(f"partition {partition}: {one.gpus} GPU granted, torch sees {seen['gpus']}", advice)
    else:
        yield good(f"partition {partition}: a short job ran, saw the folder and {seen['gpus']} GPUs")
