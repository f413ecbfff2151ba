"""Predicts whole stores, block by block, in parts that several jobs share; only `part` needs torch."""
