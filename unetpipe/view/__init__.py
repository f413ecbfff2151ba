"""Looks at the data themselves: Neuroglancer in a browser, or napari, over the stores as they lie on disk."""

from unetpipe.view.desktop import show_in_napari
from unetpipe.view.server import serving

__all__ = ["serving", "show_in_napari"]
