"""A scheduler's wish to end is noticed in time, and handlers are left as they were."""

import signal

import pytest

from unetpipe.watch import MARGIN, Watch


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_is_kept_until_somebody_asks(name):
    before = signal.getsignal(getattr(signal, name))
    with Watch() as watch:
        assert watch.reason() == ""
        signal.raise_signal(getattr(signal, name))
        assert watch.reason() == name
    assert signal.getsignal(getattr(signal, name)) is before


def test_the_run_time_ends_before_the_scheduler_does(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watch = Watch(10)
    for passed, unit, over in [(500 - MARGIN, 0, False), (601 - MARGIN, 0, True), (500 - MARGIN, 60, True)]:
        now[0] = 1000 + passed
        assert watch.reason(unit) == ("the run time of 10 minutes is nearly over" if over else "")


def test_a_short_run_time_is_not_all_margin(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watch = Watch(1)
    now[0] = 47.0
    assert not watch.reason()
    now[0] = 49.0
    assert watch.reason()


def test_no_limit(monkeypatch):
    watch = Watch(0)
    monkeypatch.setattr("time.monotonic", lambda: 1e9)
    assert watch.reason(1e6) == ""
