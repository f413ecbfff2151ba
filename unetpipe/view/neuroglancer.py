"""The state in which Neuroglancer shows a series: its layers, at their physical scale, with contrast."""

from typing import Any

from unetpipe.view.scene import Scene

RGB = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}
MIXED = ((0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1))  # of channels that are no colours
WHITE, ORANGE = (1, 1, 1), (1, 0.4, 0)
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32")  # of pixels that it can show
SHOWN = 3  # channels that are seen at first
CENTRED = [[float(row == column) for column in range(5)] + [-0.5] for row in range(5)]  # pixel 0 around 0, as in OME
SCREEN = 900  # pixels of a window that an image should fill at first


def state(scene: Scene, data: str) -> dict[str, Any]:
    """The JSON state of a series.

    Each channel is a layer of its own, since Neuroglancer mixes within one only what lies in one chunk; there are none
    of pixels that it cannot show.

    Parameters
    ----------
    data : str
        Address of the results folder.
    """
    t, _, z, y, x = scene.shape
    image = f"{data}/images/{scene.sample}.ome.zarr/{scene.path}/"
    layers = [_channel(scene, k, image) for k in range(len(scene.channels))] if scene.dtype in TYPES else []
    source = f"{data}/probabilities/{scene.sample}.zarr/{scene.path}/"
    layers += [_probability(scene, k, source) for k in range(scene.classes)]
    layers += [_labels(name, f"{image}labels/{name}/", scene.labels[0]) for name in scene.labels]
    scales = _scales(scene)
    return {
        "dimensions": {axis: scales[axis] for axis in "xyzt"},
        "position": [(size - 1) / 2 for size in (x, y, z, t)],
        "crossSectionScale": max(y, x) / (SCREEN / 2 if z > 1 else SCREEN),  # of four panels each has half
        "projectionScale": max(z, y, x),
        "layers": layers,
        "layout": "4panel" if z > 1 else "xy",
        "showAxisLines": False,
    }


def _scales(scene: Scene) -> dict[str, list]:
    """Size and unit of a step along each axis."""
    space = [[1e-6 * size, "m"] for size in scene.pixel_size] if scene.pixel_size else [[1, ""]] * 3
    return dict(zip(("t", "c'", "z", "y", "x"), ([1, ""], [1, ""], *space), strict=True))


def _channel(scene: Scene, number: int, source: str) -> dict[str, Any]:
    """Of an image, in its colour, within the range of grey values in the tissue."""
    alone, name = len(scene.channels) == 1, scene.channels[number]
    colours = set(scene.channels) == RGB.keys()
    colour = WHITE if alone else RGB[name] if colours else MIXED[number % len(MIXED)]
    limits = "range=[{:g}, {:g}]".format(*scene.ranges[number]) if scene.ranges else ""
    code = f"#uicontrol invlerp grey({limits})\nvoid main() {{ emitRGB(grey() * {_vector(colour)}); }}\n"
    layer = _plane("image" if alone else f"image {name}", source, scene, number) | {"shader": code}
    return layer | {"blend": "additive" if number else "default", "visible": number < SHOWN}


def _probability(scene: Scene, number: int, source: str) -> dict[str, Any]:
    """Of a class, in a colour of its own."""
    colour = (ORANGE, *MIXED)[number % (1 + len(MIXED))]
    code = f"#uicontrol invlerp p(range=[0, 255])\nvoid main() {{ emitRGBA(vec4({_vector(colour)}, 0.7 * p())); }}\n"
    steps = {axis.removesuffix("'"): scale for axis, scale in _scales(scene).items()}
    name = "probability" if scene.classes == 1 else f"probability {number + 1}"
    layer = _plane(name, source, scene, number, inputDimensions=steps, matrix=CENTRED)
    return layer | {"shader": code, "visible": False}


def _vector(colour: tuple[float, ...]) -> str:
    return "vec3({:.1f}, {:.1f}, {:.1f})".format(*colour)


def _plane(name: str, source: str, scene: Scene, channel: int, **placing) -> dict[str, Any]:
    """One channel of an array (t, c, z, y, x)."""
    placed = {"url": f"{source}|zarr3:", "transform": {"outputDimensions": _scales(scene), **placing}}
    local = {"localDimensions": {"c'": [1, ""]}, "localPosition": [channel]}
    return {"type": "image", "name": name, "source": placed, "opacity": 1, **local}


def _labels(name: str, source: str, seen: str) -> dict[str, Any]:
    shown = {"selectedAlpha": 0.35, "visible": name == seen}
    return {"type": "segmentation", "name": name, "source": f"{source}|zarr3:", **shown}
