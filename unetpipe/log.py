"""What a job says: to its log file in full, to the terminal what a reader there needs."""

import logging
import sys
import time
from copy import copy
from pathlib import Path

from tqdm import tqdm

from unetpipe.disk import explained

LAYOUT = "%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"


def log_to(path: str | Path) -> None:
    """Send the library's log to a file, warnings and errors also to the terminal.

    Errors are written with their tracebacks to the file and as one sentence to the terminal, also the one that ends
    the process; on a full disk to the terminal alone.

    Raises
    ------
    OSError
        If the disk refuses the file, see `disk.explained`.
    """
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    terminal.setFormatter(Sentence(*LAYOUT))
    logger = logging.getLogger("unetpipe")
    logger.handlers = [terminal]
    logger.setLevel(logging.INFO)
    sys.excepthook = _record_error
    with explained(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = LogFile(path, mode="w")
    file.setFormatter(logging.Formatter(*LAYOUT))
    logger.handlers.insert(0, file)  # what ends the process stands last on the terminal


class LogFile(logging.FileHandler):
    """A log whose disk may be full: the terminal hears so once, and the work goes on."""

    whole = True

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's own names
        """Say that lines are lost, and why."""
        if self.whole:
            self.whole = False
            logging.getLogger(__name__).warning("%s is cut short: %s", self.baseFilename, sys.exception())


class Sentence(logging.Formatter):
    """Lines without tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        plain = copy(record)
        plain.exc_info = plain.exc_text = None
        return super().format(plain)


def _record_error(kind, error, traceback) -> None:
    logging.getLogger("unetpipe").error("%s: %s", kind.__name__, error, exc_info=(kind, error, traceback))


class Progress:
    """Counts finished units of work: a bar on a terminal; in the log a line a minute, with the rate and the time left.

    Parameters
    ----------
    total : int
        Units to do.
    unit : str
        What is counted, e.g. "blocks".
    done : int
        Units that an earlier start has done.
    every : float
        Seconds between two lines.
    """

    def __init__(self, total: int, unit: str, *, done: int = 0, every: float = 60.0):
        self.total, self.unit, self.every = total, unit, every
        self.done = self.first = done
        self.start = self.said = time.monotonic()
        self.logger = logging.getLogger("unetpipe.progress")
        self.bar = tqdm(total=total, initial=done, unit=f" {unit}", disable=None, leave=False, dynamic_ncols=True)

    def advance(self, note: str = "") -> None:
        """One unit more is done."""
        self.done += 1
        self.bar.set_postfix_str(note, refresh=False)
        self.bar.update()
        now = time.monotonic()
        if now - self.said >= self.every or self.done == self.total:
            self.said = now
            self.logger.info(self._line(now - self.start, note))
        if self.done == self.total:
            self.bar.close()

    def _line(self, elapsed: float, note: str) -> str:
        rate = (self.done - self.first) / max(elapsed, 1e-9)
        left = (self.total - self.done) / rate
        return f"{self.done}/{self.total} {self.unit}, {rate:.2f} a second, {left:.0f} s left {note}".rstrip()
