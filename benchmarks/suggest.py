"""Whether `unetpipe suggest` finds where corrections are needed: rank correlation of its uncertainty with their number.

Corrections are the missed and the false objects of a window, by their centres, in samples whose truth is known. The
peer is what active learning mostly takes, the mean entropy of the pixels, of the same windows and probabilities.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.stats import spearmanr

from unetpipe.geometry import blocks
from unetpipe.metrics import Overlaps, Pairs, matches
from unetpipe.store import label_path, open_array, read_attributes
from unetpipe.suggestion import uncertainty


def main():
    """Print one line for each measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path("runs/demo/results"))
    parser.add_argument("--side", type=int, default=256, help="of a window, pixels")
    options = parser.parse_args()
    rows = [row for truth in sorted(options.results.glob("truth/*.json")) for row in windows(options, truth.stem)]
    if not rows:
        raise SystemExit(f"{options.results}: no sample there is annotated and predicted; run make demo first")
    own, peer, corrections, objects = np.array(rows).T
    most = np.argsort(-corrections)[: len(rows) // 10]
    for name, measure in (("uncertainty", own), ("mean entropy", peer)):
        chosen = np.argsort(-measure)[: len(most)]
        print(
            f'claim="corrections of {options.side}² windows by {name}" '
            f"rank_correlation={spearmanr(measure, corrections)[0]:.2f} "
            f"corrections_in_the_first_tenth={corrections[chosen].sum():.0f} at_most={corrections[most].sum():.0f} "
            f"at_random={corrections.mean() * len(most):.0f} objects_there={objects[chosen].sum():.0f} n={len(rows)}"
        )


def windows(options, sample):
    """Uncertainty, mean entropy, corrections and true objects of each window."""
    store, found = (options.results / name for name in (f"images/{sample}.ome.zarr", f"probabilities/{sample}.zarr"))
    if not (found / "zarr.json").exists():
        return
    for entry in read_attributes(store / "zarr.json")["series"]:
        truth, objects = (open_array(label_path(store, entry["path"], n) / "0")[0, 0] for n in ("truth", "objects"))
        probability = open_array(found / entry["path"])[0, :, 0]
        wrong, true = corrections(truth, objects)
        for block in blocks(truth.shape, (options.side, options.side)):
            part = probability[(slice(None), *block.write)]
            yield uncertainty(part), entropy(part), wrong[block.write].sum(), true[block.write].sum()


def corrections(truth, found):
    """Centres of the objects that were missed or are false, and of all true ones, as counts of each pixel."""
    table = Overlaps.of(Pairs.of(truth, found))
    true_hits, found_hits = table.pairs[matches(table, np.nextafter(0.5, 1))].T
    missed = np.setdiff1d(table.true_ids, table.true_ids[true_hits])
    false = np.setdiff1d(table.found_ids, table.found_ids[found_hits])
    return centres(truth, missed) + centres(found, false), centres(truth, table.true_ids)


def centres(labels, ids):
    """How many of the objects have their centre in each pixel."""
    counts = np.zeros(labels.shape, int)
    places = np.array(ndimage.center_of_mass(labels > 0, labels, ids)).reshape(-1, 2).astype(int)
    np.add.at(counts, tuple(places.T), 1)
    return counts


def entropy(probability):
    """Mean of the pixels, in bits."""
    parts = np.concatenate([255 - probability.sum(axis=0, dtype=float)[None], probability]) / 255
    return -(parts * np.log2(parts.clip(1e-9))).sum(axis=0).mean()


if __name__ == "__main__":
    main()
