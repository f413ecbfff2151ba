"""Draws the pictures of README and documentation: the demo's result, the chain of rules, the speeds beside peers.

`make figures` runs it; what it shows is the demo's run, Snakemake's own graph, and the tables of benchmarks/RESULTS.md.
"""

import re
import subprocess
import sys
from pathlib import Path

import networkx as nx
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from unetpipe.manifest import read_json
from unetpipe.report.pictures import coloured, grey, outlines
from unetpipe.store import label_path, open_array

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "runs" / "demo"
WINDOW = (slice(1240, 1540), slice(1480, 1780))  # of the demo's slide: cells that touch, and some that do not
SEEN = 3  # level of the whole slide
FASTER, SLOWER = "#5b8def", "#d1495b"
GPU, CPU, END = "#f2a65a", "#d9e2ec", "#9fd8a4"


def main() -> None:
    """Write all of them into docs."""
    for name, draw in {"demo.png": draw_demo, "chain.png": draw_chain, "peers.png": draw_peers}.items():
        path = ROOT / "docs" / name
        draw().savefig(path, dpi=110, bbox_inches="tight", pad_inches=0.08, metadata={"Software": None})
        print(path)


def draw_demo() -> Figure:
    """The slide, and of one window image, probability and objects."""
    results = DEMO / "results"
    store, tissue = results / "images/slide.ome.zarr", read_json(results / "tissue/slide.json")["series"][0]
    limits = tissue["low"], tissue["high"]
    whole = grey(open_array(store / "0" / str(SEEN))[0, :, 0], *limits)
    image = grey(open_array(store / "0/0")[(0, slice(None), 0, *WINDOW)], *limits)
    probability = open_array(results / "probabilities/slide.zarr/0")[(0, 0, 0, *WINDOW)]
    objects = label_path(store, "0", "objects")
    found = open_array(objects / "0")[(0, 0, *WINDOW)]
    pictures = {
        "slide": coloured(whole, open_array(objects / str(SEEN))[0, 0]),
        "image": image,
        "probability": probability,
        "objects": np.where(outlines(found, None)[..., None] > 0, 255, coloured(image, found)),
    }
    figure = Figure(figsize=(11.5, 3.2), layout="constrained")
    for panel, (title, picture) in zip(figure.subplots(1, 4), pictures.items(), strict=True):
        panel.imshow(picture, cmap="inferno", interpolation="antialiased")
        panel.set(xticks=[], yticks=[], title=title)
    (y, x), scale = (part.start for part in WINDOW), 2**SEEN
    side = (WINDOW[0].stop - WINDOW[0].start) / scale
    figure.axes[0].add_patch(Rectangle((x / scale, y / scale), side, side, fill=False, color="white", linewidth=2))
    return figure


def draw_chain() -> Figure:
    """The rules, each behind what it needs; those in orange hold a GPU."""
    graph = read_graph(ROOT / "config" / "demo" / "config.yaml", DEMO)
    layers = {rule: number for number, layer in enumerate(nx.topological_generations(graph)) for rule in layer}
    nx.set_node_attributes(graph, layers, "layer")
    places = nx.multipartite_layout(graph, subset_key="layer", scale=1)
    figure = Figure(figsize=(14, 1.9))
    panel = figure.add_axes((0, 0, 1, 1))
    arrow = {"arrowstyle": "->", "color": "#7b8794", "shrinkA": 36, "shrinkB": 38}
    for one, other in graph.edges:
        panel.annotate("", places[other], places[one], arrowprops=arrow)
    for rule, (x, y) in places.items():
        colour = GPU if rule in ("train", "predict_part") else END if rule == "report" else CPU
        box = {"boxstyle": "round,pad=0.5", "facecolor": colour, "edgecolor": "none"}
        panel.text(x, y, rule.replace("_", "\n"), ha="center", va="center", fontsize=12, bbox=box)
    panel.set(xlim=(-1.08, 1.08), ylim=np.array((-1.5, 1.5)) * max(y for _, y in places.values()))
    panel.axis("off")
    return figure


def read_graph(config: Path, folder: Path) -> nx.DiGraph:
    """Rules and what they need, as Snakemake tells them; what follows from others is left out."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--configfile", config, "--forceall", "--rulegraph", "dot"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = dict(re.findall(r'(\d+)\[label = "([^"]*)"', said))
    edges = [(names[one], names[other]) for one, other in re.findall(r"(\d+) -> (\d+)", said)]
    return nx.transitive_reduction(nx.DiGraph([edge for edge in edges if "all" not in edge]))


def draw_peers() -> Figure:
    """How many times as fast as each peer, by all rows of the table that say so."""
    rows = read_speeds(ROOT / "benchmarks" / "RESULTS.md")
    figure = Figure(figsize=(13, 0.32 * len(rows) + 1), layout="constrained")
    panel = figure.subplots()
    values = [value for _, _, value in rows]
    colours = [FASTER if value >= 1 else SLOWER for value in values]
    panel.barh(range(len(rows)), np.array(values) - 1, left=1, color=colours)
    panel.set_xscale("log")
    new = [not place or row[0] != rows[place - 1][0] for place, row in enumerate(rows)]
    labels = [f"{claim}:  {peer}" if first else peer for first, (claim, peer, _) in zip(new, rows, strict=True)]
    panel.set_yticks(range(len(rows)), labels, fontsize=8)
    panel.set_xticks([0.5, 1, 2, 5, 10, 100], ["0.5", "1", "2", "5", "10", "100"])
    panel.minorticks_off()
    panel.margins(y=0.01)
    for place, value in enumerate(values):
        panel.text(value * 1.04 if value >= 1 else 1.04, place, f"{value:g}", va="center", fontsize=8)
    panel.invert_yaxis()
    panel.axvline(1, color="black", linewidth=0.8)
    panel.set_xlim(0.4, max(values) * 1.6)
    panel.set_xlabel("times as fast as the peer, in one run with it (benchmarks/RESULTS.md)")
    return figure


def read_speeds(path: Path) -> list[tuple[str, str, float]]:
    """What was done, the peer, and how many times as fast: of the lines on speed, and those that say likewise."""
    rows, claim, peer = [], "", ""
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 5 or not re.match(r"\d{4}-\d\d-\d\d", cells[0]):
            continue
        claim = claim if cells[1].startswith("likewise") else cells[1]
        peer = cells[3].replace("the same", peer.removesuffix(", float32 eager"))
        value = re.match(r"\**(\d+(\.\d+)?)", cells[2])
        if "speed" in claim and not re.search("peak of memory|difference", cells[1]) and value and peer != "itself":
            rows.append((re.split(r",? \(|, speed", claim)[0], peer, float(value[1])))
    return rows


if __name__ == "__main__":
    main()
