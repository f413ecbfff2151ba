"""U-Net segmentation of whole slides and volumes, from a few annotated images."""

import os
from typing import Any

__version__ = "0.1.0"

# GNU OpenMP's threads spin while they wait. Where another process wants the core, a training step
# then takes 20 times as long (1.5 s instead of 0.08 s); with this limit, 2 times, and alone the same.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def __getattr__(name: str) -> Any:
    """`Network`, loaded when it is first asked for: it needs torch."""
    if name == "Network":
        from unetpipe.trained import Network  # noqa: PLC0415 - `import unetpipe` stays light

        return Network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
