"""Predicts whole stores, block by block, in parts that several jobs share."""

from unetpipe.predict.part import predict_part
from unetpipe.predict.publish import publish_probabilities
from unetpipe.predict.recheck import recheck

__all__ = ["predict_part", "publish_probabilities", "recheck"]
