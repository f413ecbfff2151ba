"""Settings of all tests: property tests are bounded by examples, not by the clock of a busy machine."""

import os

from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads of many processes on few cores sleep, not spin
settings.register_profile("unetpipe", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("unetpipe")


def pytest_collection_modifyitems(items):
    """What takes minutes begins first, so that no process is left alone with it."""
    items.sort(key=lambda item: item.path.name not in ("test_slurm.py", "test_workflow.py"))
