"""Trains the U-Net on the annotated samples."""

from unetpipe.train.job import train

__all__ = ["train"]
