"""Where the config of a project and the results of a run lie."""

from pathlib import Path


def config_of(given: str | Path) -> Path:
    """The config file that is given, or the one in the folder of a project."""
    path = Path(given)
    return path / "config.yaml" if path.is_dir() else path


def results_of(given: Path) -> Path:
    """The results folder of a run: the one that is given, or the one within the project that is given.

    Raises
    ------
    FileNotFoundError
        If nothing was run there.
    """
    folders = given, given / "results"
    for folder in folders:
        if any((folder / "images").glob("*.ome.zarr")):
            return folder
    for folder in folders:
        if folder.name == "results" and (folder.absolute().parent / "logs").is_dir():
            return folder  # everything failed so far
    raise FileNotFoundError(f"{given} holds no results of a run; name the folder of its config, or its results")
