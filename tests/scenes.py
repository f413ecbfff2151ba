"""Small images with truth on disk, and the stages run over them without Snakemake."""

import uuid

import numpy as np
import tifffile

from unetpipe.ingest import ingest
from unetpipe.mask import write_mask
from unetpipe.truth import write_truth
from unetpipe.weights import write_weights

SIDES = {"chunk": 32, "shard": 64}


def discs(shape, *, seed, count=12, radius=9):
    """Bright discs or balls on dark ground with noise, some touching: uint8 and ids."""
    random = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.uint16)
    grid = np.indices(shape)
    for number in range(1, count + 1):
        centre = np.array([random.integers(0, size) for size in shape]).reshape(-1, *[1] * len(shape))
        labels[((grid - centre) ** 2).sum(axis=0) <= radius**2] = number
    image = 60 + 100 * (labels > 0) + random.normal(0, 8, shape)
    return image.clip(0, 255).astype(np.uint8), labels


def write_pairs(folder, shapes, *, seed=0, spacing=None):
    """Images and truths as TIFF, volumes as OME-TIFF; returns both lists of paths."""
    paths = {"images": [], "labels": []}
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", spacing or (), strict=False)}
    for number, shape in enumerate(shapes):
        for name, pixels in zip(paths, discs(shape, seed=seed + number), strict=True):
            path = folder / name / f"{number:02d}{'.ome' if len(shape) == 3 else ''}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            volume = {"metadata": {"axes": "ZYX", **sizes}} if len(shape) == 3 else {}
            tifffile.imwrite(path, pixels, **volume)
            paths[name].append(str(path))
    return paths["images"], paths["labels"]


def write_several(folder, volume):
    """An OME-TIFF of one file for each slice."""
    names = [f"urn:uuid:{uuid.UUID(int=number + 1)}" for number in range(len(volume))]
    planes = "".join(
        f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="z{z}.ome.tif">{name}</UUID></TiffData>'
        for z, name in enumerate(names)
    )
    z, y, x = volume.shape
    sides = f'DimensionOrder="XYZCT" Type="uint8" SizeX="{x}" SizeY="{y}" SizeZ="{z}" SizeC="1" SizeT="1"'
    for number, name in enumerate(names):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{name}"><Image ID="Image:0">'
            f'<Pixels ID="Pixels:0" {sides}><Channel ID="Channel:0:0"/>{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(folder / f"z{number}.ome.tif", volume[number], description=xml, metadata=None)
    return [folder / f"z{number}.ome.tif" for number in range(z)]


def prepare(folder, shapes, *, seed=0, spacing=None, dimensions=2):
    """Ingest, truth, mask and weights of one sample; returns the paths of what they wrote."""
    images, labels = write_pairs(folder / "data", shapes, seed=seed, spacing=spacing)
    made = {
        "image": str(folder / "images" / "s.ome.zarr" / "zarr.json"),
        "truth": str(folder / "truth" / "s.json"),
        "tissue": str(folder / "tissue" / "s.json"),
        "weights": str(folder / "weights" / "s.zarr" / "zarr.json"),
    }
    ingest(images, made["image"], sample="s", **SIDES)
    write_truth(labels, made["image"], made["truth"], sample="s")
    write_mask(made["image"], made["tissue"], sample="s", contrast=0)
    write_weights(made["image"], made["truth"], made["weights"], sample="s", dimensions=dimensions)
    return made
