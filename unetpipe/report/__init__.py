"""The report of a run: one page that needs no network."""

from unetpipe.report.page import SO_FAR, write_report

__all__ = ["SO_FAR", "write_report"]
