"""Whether this machine, a project and a cluster are ready, told before a run."""

from unetpipe.doctor.cluster import examine_cluster
from unetpipe.doctor.findings import Finding
from unetpipe.doctor.machine import examine_machine
from unetpipe.doctor.project import examine_project

__all__ = ["Finding", "examine_cluster", "examine_machine", "examine_project"]
