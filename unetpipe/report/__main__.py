"""Writes what there is to report of a run that failed; the arguments of `write_report` come as JSON."""

import json
import sys
from pathlib import Path

from unetpipe.log import log_to
from unetpipe.report import SO_FAR, write_report

told = json.load(sys.stdin)
log_to("logs/report-so-far.log")
write_report(Path(told["results"]) / SO_FAR, **told)
