"""Shows a series in napari, where that is installed."""

from pathlib import Path

from dask.array import Array, from_array

from unetpipe.store import label_path, open_array
from unetpipe.view.scene import Scene, find_scenes, image_store


def show_in_napari(results: Path, sample: str) -> None:
    """Open all series of a sample in one window, which this waits for.

    Raises
    ------
    FileNotFoundError
        If there is no such sample.
    RuntimeError
        If napari is not installed.
    """
    try:
        import napari  # noqa: PLC0415 - few have it
    except ModuleNotFoundError as error:
        raise RuntimeError("napari is not installed: pip install 'napari[all]', or look without --napari") from error

    viewer = napari.Viewer()
    for scene in find_scenes(results, [sample]):
        _add(viewer, results, scene)
    napari.run()


def _add(viewer, results: Path, scene: Scene) -> None:
    store, scale = image_store(results, scene.sample), (1.0, *(scene.pixel_size or (1.0, 1.0, 1.0)))
    levels = [_lazy(store / scene.path / str(k)) for k in range(scene.levels)]
    names = [f"{scene.name} {channel}" for channel in scene.channels]
    limits = {"contrast_limits": list(scene.ranges)} if scene.ranges else {}
    viewer.add_image(levels, channel_axis=1, name=names, scale=scale, blending="additive", **limits)
    if scene.classes:
        found = _lazy(results / "probabilities" / f"{scene.sample}.zarr" / scene.path)
        viewer.add_image(found, channel_axis=1, scale=scale, visible=False, blending="additive", colormap="inferno")
    for name in scene.labels:
        folder = label_path(store, scene.path, name)
        labels = [_lazy(folder / str(k)) for k in range(scene.levels)]
        viewer.add_labels(labels, name=f"{scene.name} {name}", scale=scale, visible=name == "objects")


def _lazy(path: Path) -> Array:
    """An array in pieces that are read when they are seen: of one that it does not know napari reads the whole."""
    array = open_array(path)
    return from_array(array, chunks=array.shards or array.chunks)
