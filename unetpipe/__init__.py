"""U-Net segmentation of whole slides and volumes, from a few annotated images."""

__version__ = "0.1.0"
