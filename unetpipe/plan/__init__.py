"""What a run will take, before it starts."""

from unetpipe.plan.calibration import calibrate
from unetpipe.plan.lines import Plan, make_network, measure_size, table

__all__ = ["Plan", "calibrate", "make_network", "measure_size", "table"]
