"""What is left to the machine: tiles fit into memory, and what does not compile runs without."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unetpipe.fitting import LEAST, compile_or_not, fit, step_memory, worth_compiling
from unetpipe.network import UNet, channels_last

CPU, FLOAT32 = torch.device("cpu"), torch.float32


def quadratic(tile, tiles):
    return tiles * tile**2


@pytest.mark.parametrize(
    ("fixed", "limit", "expected"),
    [
        ((False, False), 1e9, (388, 4)),
        ((False, False), 2 * 388**2, (388, 2)),  # tiles go first
        ((False, True), 4 * 310**2, (310, 4)),
        ((True, False), 388**2, (388, 1)),
        ((False, False), LEAST**2, (LEAST, 1)),
    ],
)
def test_the_largest_step_that_fits_is_taken(fixed, limit, expected):
    assert fit(388, 4, quadratic, limit, fixed=fixed) == expected


@pytest.mark.parametrize("fixed", [(True, True), (True, False), (False, True), (False, False)])
def test_what_never_fits_is_an_error_with_numbers(fixed):
    with pytest.raises(MemoryError, match=r"tiles of \d+ pixels needs 2.0 GB, 1.0 GB are free; set train.tile"):
        fit(388, 4, lambda *_: 2e9, 1e9, fixed=fixed)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory of a process from /proc")
def test_the_estimate_for_a_cpu_is_near_what_a_step_takes():
    code = "from test_fitting import peak; print(peak())"
    folder = Path(__file__).parent
    taken = subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True)
    estimate = step_memory(UNet(features=8), (1, 1, 572, 572), CPU, FLOAT32)
    assert estimate == pytest.approx(float(taken.stdout), rel=0.4)  # allocators differ; the job's limit leaves a fifth


def peak():
    """Bytes by which one step raises the peak of a process."""
    network = channels_last(UNet(features=8))
    small = channels_last(torch.zeros(1, 1, 188, 188))
    network(small).mean().backward()
    before = high_water()
    network(channels_last(torch.zeros(1, 1, 572, 572))).mean().backward()
    return high_water() - before


def high_water():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def network_and_image():
    return UNet(depth=1, features=2, normalise=True, dropout=0.0), torch.rand(1, 1, 36, 36)


def test_short_runs_are_not_compiled(caplog):
    caplog.set_level(logging.INFO)
    network, image = network_and_image()
    assert worth_compiling(network, image, 10, FLOAT32) is False
    assert "not compiled, 10 steps are too few to repay it" in caplog.text


def test_without_a_compiler_it_stays_eager_with_a_warning(caplog, monkeypatch):
    def broken(_):
        def call(_):
            raise RuntimeError("Failed to find C++ compiler")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    network, image = network_and_image()
    assert compile_or_not(network, image, FLOAT32) is network
    assert worth_compiling(network, image, 10**9, FLOAT32) is False
    assert caplog.text.count("torch.compile does not work here, training is slower without: Failed to find C++") == 2


def test_compiled_it_computes_the_same_and_the_trial_leaves_no_trace():
    network, image = network_and_image()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    compiled = compile_or_not(network, image, FLOAT32)
    assert compiled is not network
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    torch.testing.assert_close(compiled(image), network(image), rtol=1e-4, atol=1e-5)  # float32 in another order
