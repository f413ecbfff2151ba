"""Whether a TIFF file holds all that it says it does."""

import math
from pathlib import Path


def check_whole(path: Path, file, series) -> None:
    """Refuse a file that ends before its pixels do: tifffile would give zeros there.

    Raises
    ------
    ValueError
        If planes lie in files that are not there, segments beyond the end of the file, or planes of an ImageJ stack.
    """
    size = path.stat().st_size
    absent = sum(page is None for page in series.levels[0].pages)
    if absent:
        raise ValueError(
            f"{path}: {absent} of {len(series.levels[0].pages)} planes are missing, they lie in other files; keep all "
            "files of the series in one folder, under the names that its OME-XML gives them"
        )
    _check_imagej(path, file, series, size)
    for page in series.levels[0].pages:
        if page.parent.filehandle.path != file.filehandle.path:
            continue
        expected = math.prod(page.chunked)
        if len(page.dataoffsets) < expected:
            raise ValueError(
                f"{path}: page {page.index} has {len(page.dataoffsets)} of {expected} segments; copy or export it again"
            )
        for number, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
            if offset + count > size:
                raise ValueError(
                    f"{path}: cut short: segment {number} of page {page.index} ends at byte {offset + count}, "
                    f"the file at {size}; copy it again"
                )


def _check_imagej(path: Path, file, series, size: int) -> None:
    """Refuse a stack of ImageJ's that has one page, its planes one after the other behind it, and is cut short."""
    images, page = (file.imagej_metadata or {}).get("images", 1), series.keyframe
    if series.kind == "imagej" or images == 1 or len(series.levels[0].pages) > 1:
        return
    if page.offset < page.dataoffsets[0] and page.dataoffsets[-1] + page.databytecounts[-1] < size:
        raise ValueError(f"{path}: cut short: ImageJ wrote {images} planes, they do not end in it; copy it again")
