"""Progress: a bar where somebody looks, lines in the log, rates of this start alone."""

import contextlib
import logging
import os
import pty
import subprocess
import sys
import termios

from unetpipe.log import Progress

COUNT = """
from unetpipe.log import Progress
progress = Progress(5, "steps", done=2)
for _ in range(3):
    progress.advance("loss 0.5")
"""


def test_the_log_says_how_far_it_is_and_how_fast(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    now = [0.0]
    monkeypatch.setattr("unetpipe.log.time.monotonic", lambda: now[0])
    progress = Progress(1000, "steps", done=900)
    for _ in range(100):
        now[0] += 2.0
        progress.advance("loss 0.5")
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "930/1000 steps, 0.50 a second, 140 s left loss 0.5"
    assert lines[-1] == "1000/1000 steps, 0.50 a second, 0 s left loss 0.5"
    assert len(lines) == 4


def test_a_terminal_gets_a_bar():
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    with subprocess.Popen([sys.executable, "-c", COUNT], stderr=terminal):
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(master, 1000):
                shown += part
    os.close(master)
    assert b"2/5" in shown
    assert b"steps" in shown


def test_a_log_that_cannot_be_written_costs_the_terminal_no_sentence():
    code = "from unetpipe.log import log_to; log_to('/dev/full'); raise ValueError('the sentence')"
    said = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True).stderr
    assert [line.split(": ", 1)[1] for line in said.splitlines()] == [
        "/dev/full is cut short: [Errno 28] No space left on device",
        "ValueError: the sentence",
    ]


def test_the_terminal_gets_sentences_and_the_log_tracebacks(tmp_path):
    code = """
import logging, sys
from unetpipe.log import log_to
log_to(sys.argv[1])
try:
    1 / 0
except ZeroDivisionError as error:
    logging.getLogger("unetpipe.blocks").error("series 0: %s", error, exc_info=error)
raise ValueError("the end")
"""
    said = subprocess.run([sys.executable, "-c", code, tmp_path / "log"], check=False, capture_output=True, text=True)
    assert [line.split(" ", 1)[1] for line in said.stderr.splitlines()] == [
        "ERROR unetpipe.blocks: series 0: division by zero",
        "ERROR unetpipe: ValueError: the end",
    ]
    assert (tmp_path / "log").read_text().count("Traceback (most recent call last)") == 2


def test_a_file_gets_no_bar():
    done = subprocess.run([sys.executable, "-c", COUNT], check=True, capture_output=True)
    assert done.stderr == b""
