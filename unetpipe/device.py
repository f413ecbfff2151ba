"""Which device and which arithmetic a job uses."""

import logging
import os

import torch

logger = logging.getLogger(__name__)


def choose_device(name: str, number: int = 0) -> torch.device:
    """The device of that name; "auto" takes a GPU where there is one.

    Parameters
    ----------
    name : "auto", "cpu" or "cuda"
    number : int
        Which of the visible GPUs.

    Raises
    ------
    RuntimeError
        If a GPU was asked for and none is visible, or too few are.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            "the job asked for a GPU and sees none; check the driver and the allocation, or set device=cpu"
        )
    if name == "cuda" and number >= torch.cuda.device_count():
        raise RuntimeError(
            f"the job asked for {number + 1} GPUs or more and sees {torch.cuda.device_count()}; "
            "set the resource gpu of the rule to what it is granted"
        )
    return torch.device(name, number) if name == "cuda" else torch.device(name)


def be_deterministic(*, wanted: bool) -> None:
    """Let the same run give the same bits also on a GPU, slower; an operation that cannot is an error that names it."""
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.benchmark = not wanted


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """bfloat16 or float32; "auto" takes bfloat16 where it is the faster.

    Raises
    ------
    ValueError
        If the name is another.
    """
    kinds = {"bf16": torch.bfloat16, "bfloat16": torch.bfloat16, "float32": torch.float32}
    if name == "auto":
        on_gpu = device.type == "cuda"
        supported = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else _cpu_is_fast_in_bf16()
        return torch.bfloat16 if supported else torch.float32
    if name not in kinds:
        raise ValueError(f"precision {name!r} is not one of auto, {', '.join(kinds)}")
    return kinds[name]


def _cpu_is_fast_in_bf16() -> bool:
    """Matrix units, or AMD's; Intel's AVX-512 alone is half as fast in bf16 as in float32 (measured)."""
    has = torch.cpu.get_capabilities()
    return has.get("amx_bf16", False) or (has.get("avx512_bf16", False) and _vendor() == "AuthenticAMD")


def _vendor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.split(":")[1].strip() for line in file if line.startswith("vendor_id")), "")
    except OSError:
        return ""


def say_uncompiled(error: RuntimeError, work: str) -> None:
    """Warn that there is no compiler that works."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    logger.warning("torch.compile does not work here, %s is slower without: %s", work, first)
