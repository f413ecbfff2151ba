"""The workflow on a real Slurm of one machine, through profiles/slurm: the same bytes, and nothing lost to faults.

Two CPU nodes and two GPU nodes with two stand-in GPUs each: arithmetic stays on the CPU, which the profile says.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from projects import ROOT, draw_data

from unetpipe.doctor import examine_cluster

LAB = ROOT.parent / "shared" / "slurm" / "slurm-local.sh"
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not LAB.exists(), reason=f"no Slurm to start: {LAB} is not there"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a Slurm"),
]
ENVIRONMENT = {**os.environ, "SLURM_LAB": "/tmp/unetpipe-slurm-test"}  # noqa: S108 - a socket's path has to be short
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


def ask(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


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
def local(tmp_path_factory):
    """What this machine makes of the project without a scheduler."""
    project = draw_data(tmp_path_factory.mktemp("local"))
    project.config["train"]["steps"] = 150
    project.rows = [row for row in project.rows if not row.startswith("slide")]
    code, said = project.run("--set-threads", "train=1", "predict_part=1")
    assert code == 0, said
    return project


@pytest.fixture
def project(local, tmp_path):
    """The same project, before any job."""
    ignored = shutil.ignore_patterns("results", ".snakemake", "logs")
    shutil.copytree(local.folder, tmp_path / "p", ignore=ignored, copy_function=shutil.copy2)
    return type(local)(tmp_path / "p", local.config, local.rows)


@pytest.fixture
def untrained(local, tmp_path):
    """The same project, of which only the network is missing."""
    shutil.copytree(local.folder, tmp_path / "p", copy_function=shutil.copy2)
    shutil.rmtree(tmp_path / "p" / "results" / "network")
    shutil.rmtree(tmp_path / "p" / "logs")
    return type(local)(tmp_path / "p", local.config, local.rows)


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


def learning(project):
    """Whether its training is about to take steps."""
    log = project.folder / "logs" / "train" / "all.log"
    return log.exists() and re.search(r"\d+ steps: ", log.read_text()) is not None


@pytest.mark.usefixtures("cluster")
class TestOnSlurm:
    """In this order: the first also tells that the profile works at all."""

    def test_the_whole_chain_ends_as_without_a_scheduler(self, profile, local, project):
        code = ended(start(project, profile))
        assert code == 0, (project.folder / "driver.log").read_text()
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
        def said():
            return "\n".join(map(str, examine_cluster(profile, local.folder / "config.yaml", local.folder)))

        text = said()
        assert "✗" not in text
        assert text.count("a short job ran, saw the folder and 0 GPUs") == 2
        ask("scontrol", "update", "partitionname=cpu", "MaxTime=60")
        text = said()
        ask("scontrol", "update", "partitionname=cpu", "MaxTime=INFINITE")
        assert "partition cpu ends jobs after 60 min; set runtime of ingest to at most 60" in text
        assert "✓ mask: 2 cores, 2000 MB, 60 min" in text

    def test_a_preempted_training_goes_on_with_the_same_weights(self, profile, local, untrained):
        driver = start(untrained, profile, NETWORK)
        wait_for(lambda: learning(untrained))
        send(untrained, signal.SIGSTOP)  # so that it does not end before; Slurm wakes what it ends
        rival = ["sbatch", "-p", "preempt", "-A", "lab", "--gres=gpu:2", "-o", "/dev/null", "--wrap", "sleep 3"]
        for node in ("g1", "g2"):
            ask(*rival, "-w", node)
        assert ended(driver) == 0, (untrained.folder / "driver.log").read_text()
        assert re.search(r"going on from step \d+", (untrained.folder / "logs" / "train" / "all.log").read_text())
        assert network(untrained) == network(local)

    def test_a_driver_killed_beside_its_jobs_starts_none_of_them_twice(self, profile, local, untrained):
        driver = start(untrained, profile, NETWORK)
        wait_for(lambda: learning(untrained))
        send(untrained, signal.SIGSTOP)
        os.killpg(driver.pid, 9)
        assert untrained.run("--unlock")[0] == 0
        driver = start(untrained, profile, NETWORK)
        wait_for(lambda: "is being written by process" in logs(untrained))
        send(untrained, signal.SIGCONT)
        code = ended(driver)
        if code:  # the orphan outlived the three jobs that were refused
            code = ended(start(untrained, profile, NETWORK))
        assert code == 0, (untrained.folder / "driver.log").read_text()
        assert network(untrained) == network(local)


NETWORK = "results/network/all/network.json"


def send(project, number):
    """A signal to the process that trains."""
    holder = (project.folder / NETWORK).with_name(".lock").read_text()
    os.kill(int(re.match(r"process (\d+) ", holder)[1]), number)


def logs(project):
    """What Slurm kept of all jobs."""
    return "".join(path.read_text() for path in (project.folder / "logs" / "slurm").rglob("*.log"))


def network(project):
    return (project.folder / NETWORK).with_name("network.safetensors").read_bytes()
