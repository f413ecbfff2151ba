"""Which device and which arithmetic a job uses."""

import torch


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes a GPU where there is one.

    Raises
    ------
    RuntimeError
        If a GPU was asked for and none is visible.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            "the job asked for a GPU and sees none; check the driver and the allocation, or set device=cpu"
        )
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """bfloat16 or float32; "auto" takes bfloat16 where it is the faster.

    Raises
    ------
    ValueError
        If the name is another.
    """
    kinds = {"bf16": torch.bfloat16, "bfloat16": torch.bfloat16, "float32": torch.float32}
    if name == "auto":
        supported = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_is_fast_in_bf16()
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
