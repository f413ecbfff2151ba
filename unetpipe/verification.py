"""Finds what is damaged or missing among the results of a run."""

import gzip
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unetpipe.blocks import read_lines
from unetpipe.config import given_networks
from unetpipe.geometry import Region
from unetpipe.label import Objects, Settings, Spacing
from unetpipe.manifest import file_checksum, read_json
from unetpipe.notes import read_note
from unetpipe.predict.recheck import recheck
from unetpipe.saved import load_network
from unetpipe.store import label_path, open_array, read_attributes
from unetpipe.tables import count_rows

STAGES = {"ingest": "images/{}.ome.zarr/zarr.json", "truth": "truth/{}.json", "tissue": "tissue/{}.json"}
STAGES |= {"objects": "objects/{}.json", "weights": "weights/{}.zarr/zarr.json"}
STAGES |= {"predict": "probabilities/{}.zarr/zarr.json probabilities/{}.parts"}
NAMED = 3  # of files that are to be made again together
STORES = {"images": ".ome.zarr", "weights": ".zarr", "probabilities": ".zarr"}


class Problem(NamedTuple):
    """One thing that is wrong."""

    what: str
    delete: str = ""  # what to delete, so that the next run makes it again; paths below the results

    def __str__(self) -> str:
        return f"{self.what}; delete {self.delete} and run again" if self.delete else self.what


def verify(
    results: Path, *, blocks: int = 3, networks: Sequence[str | Path] = (), device: str = "auto", workers: int = 1
) -> Iterator[Problem]:
    """Whatever is not as it was written, or is not what it would be if it were computed again.

    Parameters
    ----------
    results : path
        Of a run that ended.
    blocks : int
        Of every sample, to be computed again: chosen at random, of the probabilities and of the objects.
    networks : sequence of path
        `network.json` of those that predicted, where they are neither the run's own nor named by the `config.yaml`
        beside the results.
    workers : int
        Threads that find objects again.
    """
    elsewhere = [*given_networks(results.absolute().parent), *networks]
    for path in elsewhere:
        read_note(path)  # a broken one is no reason to delete what it predicted
    harmed = set()  # samples of which some blocks may be unreadable
    for kind, ending in STORES.items():
        for root in sorted((results / kind).glob(f"*{ending}/zarr.json")):
            sample = root.parent.name.removesuffix(ending)
            for problem in damaged_shards(root.parent, sample):
                harmed.add(sample)
                yield problem
    broken = [*damaged_networks(results)]
    yield from broken
    known = [*(results / "network").glob("*/network.json"), *elsewhere]
    for sample in sorted({path.stem for kind in ("tissue", "objects") for path in (results / kind).glob("[!.]*.json")}):
        lost = [*missing(results, sample)]
        yield from lost
        if not _manifest(results, sample).exists():
            continue  # it is learnt from
        yield from damaged_tables(results, sample)
        if blocks and not lost:
            found = {"objects": other_objects(results, sample, blocks, workers)}
            found |= {} if broken else {"predict": other_probabilities(results, sample, blocks, known, device)}
            for stage, again in found.items():
                yield from _readable(again, _root(stage, sample), told=sample in harmed)


def _readable(problems: Iterator[Problem], delete: str, *, told: bool) -> Iterator[Problem]:
    """Problems until something cannot be read, which is one more, unless it is told already."""
    try:
        yield from problems
    except (OSError, ValueError, RuntimeError) as error:
        if not told:
            yield Problem(str(error), delete)


def _root(stage: str, sample: str) -> str:
    """What to delete below the results, so that a stage of a sample runs again."""
    return STAGES[stage].replace("{}", sample)


def _manifest(results: Path, sample: str) -> Path:
    return results / _root("objects", sample)


def missing(results: Path, sample: str) -> Iterator[Problem]:
    """What has to be there before anything can be found again."""
    stages = "ingest", "tissue", *(["predict"] if _manifest(results, sample).exists() else [])
    for path in (results / _root(stage, sample).split()[0] for stage in stages):
        if not path.exists():
            yield Problem(f"{path} is missing; run again")


def damaged_shards(store: Path, sample: str) -> Iterator[Problem]:
    """Files of a store whose checksums are not those in its ledger, together for each stage that wrote there."""
    for folder in sorted((store / ".ledger").glob("*")):
        wrong = [*_wrong_files(store, _written(folder))]
        if wrong:
            more = f", and {len(wrong) - NAMED} files more" if len(wrong) > NAMED else ""
            yield Problem(", ".join(wrong[:NAMED]) + more, _root(folder.name, sample))


def _wrong_files(store: Path, written: dict[str, dict[str, str]]) -> Iterator[str]:
    """Arrays that are gone, and shards, each with the block that it is of."""
    for array in sorted({path.partition("/c/")[0] for path in written}):
        if not (store / array / "zarr.json").exists():
            yield f"{store / array / 'zarr.json'} is missing"
    for path, known in written.items():
        file = store / path
        found = file_checksum(file) if file.exists() else None
        if found not in known:
            state = "is missing" if found is None else "is not what was written"
            yield f"{file} ({next(iter(known.values()))}) {state}"


def _written(folder: Path) -> dict[str, dict[str, str]]:
    """Files of a ledger: checksums, each with the block that had it; of the key under which the store was published."""
    ledgers = {path: read_lines(path) for path in folder.glob("[!.]*.jsonl")}
    published = folder / ("publish.jsonl" if (folder / "publish.jsonl").exists() else "all.jsonl")
    key = ledgers[published][0].get("key") if ledgers.get(published) else None
    found = defaultdict[str, dict[str, str]](dict)
    for head, *lines in filter(None, ledgers.values()):
        for line in lines if head.get("key") == key is not None else ():
            for path, checksum in line["shards"].items():
                found[path][checksum] = line["name"]
    return found


def damaged_networks(results: Path) -> Iterator[Problem]:
    """Networks whose weights are not those that were saved."""
    for path in sorted((results / "network").glob("*/network.json")):
        try:
            load_network(path)
        except (OSError, ValueError) as error:
            yield Problem(str(error), str(path.relative_to(results)))


def damaged_tables(results: Path, sample: str) -> Iterator[Problem]:
    """Tables and outlines that are not whole, or have other objects than the manifest."""
    manifest = _manifest(results, sample)
    table, outlines = (manifest.with_name(f"{sample}{end}") for end in (".parquet", ".geojson.gz"))
    expected = sum(series["objects"] for series in read_json(manifest)["series"])
    try:
        rows = count_rows(table)
        if rows != expected:
            yield Problem(f"{table} has {rows} rows, {manifest.name} counts {expected}", f"objects/{sample}.parquet")
    except (OSError, ValueError) as error:
        yield Problem(f"{table} cannot be read ({error})", f"objects/{sample}.parquet")
    try:
        with gzip.open(outlines) as file:
            while file.read(2**20):
                pass
    except (OSError, EOFError) as error:
        yield Problem(f"{outlines} cannot be read ({error})", f"objects/{sample}.geojson.gz")


def other_objects(results: Path, sample: str, count: int, workers: int) -> Iterator[Problem]:
    """Blocks of the objects that are others if they are found again."""
    image, source = results / "images" / f"{sample}.ome.zarr", results / "probabilities" / f"{sample}.zarr"
    settings, random = Settings(**read_json(_manifest(results, sample))["settings"]), np.random.default_rng()
    entries = read_attributes(image / "zarr.json")["series"]
    for number in sorted(random.choice(len(entries), min(count, len(entries)), replace=False)):
        entry = entries[number]
        spacing = Spacing.of(entry, read_attributes(source / "zarr.json"))
        objects = Objects(source / entry["path"], entry["shard"], settings, workers, spacing)
        stored = open_array(label_path(image, entry["path"], "objects") / "0")
        for _ in range(-(-count // len(entries))):
            region = _any_block(stored.shape, stored.shards, random)
            if not np.array_equal(objects.read(region), stored[region]):
                place = ",".join(str(part.start) for part in region)
                what = f"objects of {sample}, series {entry['name']}, at {place}: found again they are others"
                yield Problem(what, _root("objects", sample))


def _any_block(shape: Sequence[int], sides: Sequence[int], random: np.random.Generator) -> Region:
    starts = [int(random.integers(size)) // side * side for size, side in zip(shape, sides, strict=True)]
    return tuple(slice(a, min(a + side, size)) for a, side, size in zip(starts, sides, shape, strict=True))


def other_probabilities(
    results: Path, sample: str, count: int, networks: Sequence[str | Path], device: str
) -> Iterator[Problem]:
    """Blocks of the probabilities that are others if they are predicted again."""
    store = results / "probabilities" / f"{sample}.zarr" / "zarr.json"
    known, wanted = {read_json(path)["digest"]: str(path) for path in networks}, read_attributes(store)["networks"]
    if set(wanted) - known.keys():
        what = f"{store} was made by a network that is not at hand: name its network.json with --network"
        own = any((results / "network").glob("*/network.json"))
        yield Problem(f"{what}, or if it is out of date", _root("predict", sample)) if own else Problem(what)
        return
    image, tissue = (str(results / path) for path in (f"images/{sample}.ome.zarr/zarr.json", f"tissue/{sample}.json"))
    used = [known[digest] for digest in wanted]
    for problem in recheck(image, tissue, used, str(store), sample=sample, count=count, device=device):
        yield Problem(f"probabilities of {sample}, {problem}", _root("predict", sample))
