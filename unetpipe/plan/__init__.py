"""What a run will take, before it starts."""

from unetpipe.plan.calibration import calibrate
from unetpipe.plan.lines import Plan, Size, make_network, table

__all__ = ["Plan", "Size", "calibrate", "make_network", "table"]
