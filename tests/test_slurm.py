"""The workflow on a real Slurm of one machine, through profiles/slurm: the same bytes, and nothing lost to faults.

Two CPU nodes and two GPU nodes with two stand-in GPUs each: arithmetic stays on the CPU, which the profile says.
Most of the time is spent waiting, so a training and a prediction meet their faults side by side.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from jobs import Prediction, Training, ask
from projects import ROOT, Project, draw_data

from unetpipe.doctor import examine_cluster
from unetpipe.network import UNet
from unetpipe.saved import save_network

LAB = ROOT.parent / "shared" / "slurm" / "slurm-local.sh"
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not LAB.exists(), reason=f"no Slurm to start: {LAB} is not there"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a Slurm"),
]
ENVIRONMENT = {**os.environ, "SLURM_LAB": "/tmp/unetpipe-slurm-test"}  # noqa: S108 - a socket's path has to be short
NETWORK = "results/network/all/network.json"
PROBABILITIES = "results/probabilities/slide.zarr/zarr.json"
PATIENCE = 600  # seconds; a machine may be slow


@pytest.fixture(scope="module")
def cluster():
    """Slurm, up for the tests of this module."""
    try:
        subprocess.run([LAB, "up"], env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=PATIENCE)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        subprocess.run([LAB, "wipe"], env=ENVIRONMENT, capture_output=True, check=False)
        pytest.skip(f"Slurm does not start here: {error.stderr[-300:] if error.stderr else error}")
    for partition in ("cpu", "gpu", "preempt"):
        ask("scontrol", "update", f"partitionname={partition}", "MaxTime=INFINITE")
    yield
    subprocess.run([LAB, "wipe"], env=ENVIRONMENT, capture_output=True, check=False)


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """profiles/slurm, edited for this site."""
    content = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    content |= {"slurm-init-seconds-before-status-checks": 2, "seconds-between-status-checks": 2}
    content["max-status-checks-per-second"] = 2
    content["default-resources"] |= {"slurm_partition": "cpu", "slurm_account": "lab"}
    for rule in ("train", "predict_part"):
        content["set-resources"][rule] |= {"slurm_partition": "gpu", "device": "cpu", "mem_mb": 1500}
    folder = tmp_path_factory.mktemp("profile")
    threads = {"train": 1, "predict_part": 1, "ingest": 3}  # ingest: more than the machine that submits may have
    (folder / "config.yaml").write_text(yaml.safe_dump({**content, "set-threads": threads}))
    return folder


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """What this machine makes of two projects without a scheduler: a whole chain; a slide of 72 blocks, predicted."""
    chain, slide = (draw_data(tmp_path_factory.mktemp(name)) for name in ("chain", "slide"))
    chain.config["train"] |= {"steps": 150, "batch": 2}
    chain.rows = [row for row in chain.rows if not row.startswith("slide")]
    network = slide.folder / "given" / "network.json"
    save_network(UNet(depth=2, features=4, dropout=0.0), network, {"precision": "float32", "percentiles": [1, 99]})
    slide.config |= {"network": str(network), "predict": {"block": 128, "views": 8}}
    slide.rows = [row for row in slide.rows if row.startswith(("sample", "slide"))]
    alone = ("--set-threads", "train=1", "predict_part=1")
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(chain.run, *alone), pool.submit(slide.run, PROBABILITIES, *alone)]
    for code, said in (run.result() for run in runs):
        assert code == 0, said
    return chain, slide


@pytest.fixture(scope="module")
def local(references):
    return references[0]


@pytest.fixture(scope="module")
def predicted(references):
    return references[1]


@pytest.fixture
def project(local, tmp_path):
    """The same project, before any job."""
    ignored = shutil.ignore_patterns("results", ".snakemake", "logs")
    shutil.copytree(local.folder, tmp_path / "p", ignore=ignored, copy_function=shutil.copy2)
    return Project(tmp_path / "p", local.config, local.rows)


@pytest.fixture
def untrained(local, tmp_path):
    """The same project, of which only the network is missing."""
    return copied(local, tmp_path / "untrained", "network")


@pytest.fixture
def unpredicted(predicted, tmp_path):
    """The slide, of which only the prediction is missing."""
    return copied(predicted, tmp_path / "unpredicted", "probabilities")


def copied(project, folder, missing):
    shutil.copytree(project.folder, folder, copy_function=shutil.copy2)
    shutil.rmtree(folder / "results" / missing)
    shutil.rmtree(folder / "logs")
    return Project(folder, project.config, project.rows)


def start(project, profile, *targets):
    """Snakemake as on a cluster's login node."""
    command = [sys.executable, "-m", "snakemake", *targets, "--snakefile", ROOT / "Snakefile", "--profile", profile]
    command += ["--directory", project.folder, "--configfile", project.folder / "config.yaml"]
    with open(project.folder / "driver.log", "a") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def ended(process):
    """Exit code of a driver that ends by itself."""
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        raise


def jobs(folder):
    """Rule, state, start, end and resources of every job of a project, as accounting has them."""
    lines = ask("sacct", "-X", "-n", "-P", "--format=Comment,State,Start,End,AllocTRES,WorkDir").splitlines()
    rows = [line.split("|") for line in lines]
    rule = re.compile(r"rule_(.*?)(_wildcards_.*)?$")
    return [(rule.match(row[0])[1], *row[1:5]) for row in rows if row[5] == str(folder) and rule.match(row[0])]


def wait_for(sign):
    deadline = time.monotonic() + PATIENCE
    while not sign():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.usefixtures("cluster")
class TestOnSlurm:
    """In this order: the first also tells that the profile works at all."""

    def test_the_whole_chain_ends_as_without_a_scheduler(self, profile, local, project):
        code = ended(start(project, profile))
        assert code == 0, said(project)
        assert project.digests() == local.digests()
        wait_for(lambda: not {"PENDING", "RUNNING", "COMPLETING"} & {state for _, state, *_ in jobs(project.folder)})
        done = jobs(project.folder)
        assert {state for _, state, *_ in done} == {"COMPLETED"}
        assert {rule for rule, *_, granted in done if "gres/gpu" in granted} == {"train", "predict_part"}
        assert all("gres/gpu" in granted for rule, *_, granted in done if rule in ("train", "predict_part"))
        assert all("cpu=3" in granted for rule, *_, granted in done if rule == "ingest")
        spans = [(begin, end) for rule, _, begin, end, _ in done if rule == "predict_part"]
        assert any(a[0] < b[1] and b[0] < a[1] for a in spans for b in spans if a is not b)  # at once
        assert project.planned() == {}

    def test_the_doctor_finds_what_a_site_refuses(self, profile, local):
        def examined():
            return "\n".join(map(str, examine_cluster(profile, local.folder / "config.yaml", local.folder)))

        text = examined()
        assert "✗" not in text
        assert text.count("a short job ran, saw the folder and 0 GPUs") == 2
        ask("scontrol", "update", "partitionname=cpu", "MaxTime=60")
        text = examined()
        ask("scontrol", "update", "partitionname=cpu", "MaxTime=INFINITE")
        assert "partition cpu ends jobs after 60 min; set runtime of ingest to at most 60" in text
        assert "✓ mask: 2 cores, 2000 MB, 60 min" in text

    @pytest.mark.parametrize(
        "ends", [("PREEMPTED",), pytest.param(("NODE_FAIL", "TIMEOUT"), marks=pytest.mark.long)], ids=", ".join
    )
    def test_jobs_that_meet_one_fault_after_the_other_end_as_without(
        self, profile, local, predicted, untrained, unpredicted, tmp_path, ends
    ):
        """Out of memory, cancelled, and what accounting calls so: each has gone on by the next."""
        site = edited(profile, tmp_path, "200 if attempt < 2 else 1600")
        drivers = start(untrained, site, NETWORK), start(unpredicted, site, PROBABILITIES)
        jobs = Training(untrained), Prediction(unpredicted)
        for fault in (cancel, *(FAULTS[end] for end in ends)):
            stop_in_the_middle(*jobs)
            known = jobs[1].finished()
            fault(*jobs)
        assert [ended(driver) for driver in drivers] == [0, 0], said(untrained) + said(unpredicted)
        assert network(untrained) == network(local)
        assert unpredicted.digests() == predicted.digests()
        assert re.search(r"going on from step \d+", jobs[0].log())
        assert int(re.search(r"/(\d+) blocks of predict", jobs[1].log())[1]) <= 72 - known
        for job in jobs:
            # Slurm looks at memory every two seconds: on a fast machine the first fault may come before it does
            assert job.states() | {"FAILED"} == {"FAILED", "CANCELLED by 0", *ends, "COMPLETED"}
            assert "SLURM status is: 'CANCELLED'" in said(job.project)

    def test_a_driver_killed_beside_its_jobs_starts_none_of_them_twice(self, profile, local, untrained):
        driver, job = start(untrained, profile, NETWORK), Training(untrained)
        stop_in_the_middle(job)
        os.killpg(driver.pid, 9)
        assert untrained.run("--unlock")[0] == 0
        driver = start(untrained, profile, NETWORK)
        wait_for(lambda: "is being written by process" in logs(untrained))
        job.send(signal.SIGCONT)
        code = ended(driver)
        if code:  # the orphan outlived the three jobs that were refused
            code = ended(start(untrained, profile, NETWORK))
        assert code == 0, said(untrained)
        assert network(untrained) == network(local)


def edited(profile, folder, memory):
    """That profile, with the memory of jobs on a GPU as an expression, and an attempt for each fault."""
    content = yaml.safe_load((profile / "config.yaml").read_text())
    for rule in ("train", "predict_part"):
        content["set-resources"][rule]["mem_mb"] = memory
    (folder / "edited").mkdir()
    (folder / "edited" / "config.yaml").write_text(yaml.safe_dump({**content, "retries": 5}))
    return folder / "edited"


def stop_in_the_middle(*jobs):
    """Stop the processes where they have begun; Slurm wakes what it ends."""
    waiting = list(jobs)
    while waiting:
        for job in [job for job in waiting if job.in_the_middle()]:
            job.send(signal.SIGSTOP)
            waiting.remove(job)
        time.sleep(0.01)


def kill_their_node(*jobs):
    for node in {job.number_and_node()[1] for job in jobs}:
        subprocess.run([LAB, "kill-node", node], env=ENVIRONMENT, check=True)
        wait_for(lambda node=node: not any(job.number_and_node()[1] == node for job in jobs))
        subprocess.run([LAB, "start-node", node], env=ENVIRONMENT, check=True)


def preempt(*_):
    rival = ["sbatch", "-p", "preempt", "-A", "lab", "--gres=gpu:2", "-o", "/dev/null", "--wrap", "sleep 3"]
    for node in ("g1", "g2"):
        ask(*rival, "-w", node)


def cancel(*jobs):
    for job in jobs:
        ask("scancel", job.number_and_node()[0])


def end_their_time(*jobs):
    for job in jobs:
        ask("scontrol", "update", f"jobid={job.number_and_node()[0]}", "TimeLimit=1")


FAULTS = {"NODE_FAIL": kill_their_node, "PREEMPTED": preempt, "TIMEOUT": end_their_time}


def said(project):
    """What its drivers printed."""
    return (project.folder / "driver.log").read_text()


def logs(project):
    """What Slurm kept of all jobs."""
    return "".join(path.read_text() for path in (project.folder / "logs" / "slurm").rglob("*.log"))


def network(project):
    return (project.folder / NETWORK).with_name("network.safetensors").read_bytes()
