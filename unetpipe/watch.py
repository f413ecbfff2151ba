"""Notices that a scheduler wants a job to end: by a signal, or because its run time is nearly over."""

import signal
import threading
import time
from typing import Self

SIGNALS = ("SIGTERM", "SIGUSR1")
MARGIN = 90.0  # seconds before the end of the run time, beside two units of work; of short ones a fifth


class Watch:
    """Collects the reasons to end, while it is entered as a context.

    Parameters
    ----------
    minutes : float
        The job's run time, counted from here on; 0: no limit.
    """

    def __init__(self, minutes: float = 0):
        self.minutes, self.begun = minutes, time.monotonic()
        self.received: list[str] = []
        self.earlier: dict = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                self.earlier[name] = signal.signal(
                    getattr(signal, name), lambda *_, name=name: self.received.append(name)
                )
        return self

    def __exit__(self, *_) -> None:
        for name, handler in self.earlier.items():
            signal.signal(getattr(signal, name), handler)

    def reason(self, unit: float = 0.0) -> str:
        """Why the job has to end now, or nothing.

        Parameters
        ----------
        unit : float
            Seconds that the next unit of work takes.
        """
        if self.received:
            return self.received[0]
        margin = min(MARGIN, 12 * self.minutes) + 2 * unit
        if self.minutes and time.monotonic() - self.begun + margin > 60 * self.minutes:
            return f"the run time of {self.minutes:g} minutes is nearly over"
        return ""
