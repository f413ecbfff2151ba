"""A job of a project on a real Slurm, followed over all its attempts."""

import os
import re
import subprocess


def ask(*command):
    """What a command of Slurm prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class Job:
    """What holds a GPU, over all its attempts."""

    def __init__(self, project):
        self.project, self.stopped = project, 0
        self.results, self.logs = project.folder / "results", project.folder / "logs"

    def process(self):
        """Number of the process that works on it."""
        holder = re.match(r"process (\d+) ", self.lock.read_text()) if self.lock.exists() else None
        return int(holder[1]) if holder else self.stopped

    def send(self, number):
        """A signal to that process."""
        self.stopped = self.process()
        os.kill(self.stopped, number)

    def log(self):
        """Of its last attempt."""
        return self.path.read_text() if self.path.exists() else ""

    def number_and_node(self):
        """As Slurm has it."""
        rows = [line.split("|") for line in ask("squeue", "-h", "-p", "gpu", "-t", "R", "-o", "%A|%N|%Z").splitlines()]
        return next((row[:2] for row in rows if row[2] == str(self.project.folder)), ["", ""])

    def states(self):
        """In which its attempts have ended."""
        lines = ask("sacct", "-D", "-X", "-n", "-P", "-r", "gpu", "--format=State,WorkDir").splitlines()
        return {state for state, folder in (line.split("|") for line in lines) if folder == str(self.project.folder)}


class Training(Job):
    """Of the network."""

    def __init__(self, project):
        super().__init__(project)
        self.lock, self.path = self.results / "network" / "all" / ".lock", self.logs / "train" / "all.log"

    def in_the_middle(self):
        """Whether a new process is about to take steps."""
        return self.process() != self.stopped and re.search(r"\d+ steps: ", self.log()) is not None


class Prediction(Job):
    """Of the slide."""

    def __init__(self, project):
        super().__init__(project)
        self.known, folder = 0, self.results / "probabilities" / "slide.zarr" / ".ledger" / "predict"
        self.lock, self.ledger, self.path = (
            folder / "0.lock",
            folder / "0.jsonl",
            self.logs / "predict" / "slide" / "0.log",
        )

    def finished(self):
        """Blocks in the ledger."""
        return len(self.ledger.read_text().splitlines()[1:]) if self.ledger.exists() else 0

    def in_the_middle(self):
        """Whether a new process has finished some blocks more."""
        if self.process() == self.stopped:
            self.known = self.finished()
        return self.finished() > self.known + 2
