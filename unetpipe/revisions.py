"""The revision of every stage: raise it when a change of the library changes what the stage writes.

The rules carry it as a parameter and the ledgers as a part of their key, so that both see the change.
"""

REVISIONS = {
    "ingest": "ingest 5",
    "truth": "truth 1",
    "mask": "mask 2",
    "weights": "weights 3",
    "train": "train 7",
    "predict": "predict 4",
    "label": "label 4",
    "measure": "measure 5",
    "score": "score 4",
    "report": "report 7",
}
