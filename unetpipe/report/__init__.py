"""The report of a run: one page that needs no network."""

from unetpipe.report.page import write_report

__all__ = ["write_report"]
