"""Begins a project: looks at images and labels, and writes sheet and config."""

from unetpipe.start.project import Begun, begin

__all__ = ["Begun", "begin"]
