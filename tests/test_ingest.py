"""A store holds the pixels of its files, in OME-Zarr that others read, and exists only when it is whole."""

import gc
import json
import subprocess
import sys
import time
from pathlib import Path

import h5py
import imageio.v3 as imageio
import numpy as np
import psutil
import pytest
import tifffile
import zarr
from PIL import Image
from scenes import SIDES, prepare, write_pairs, write_several
from skimage.measure import block_reduce

from unetpipe import ingest as ingestion
from unetpipe import readers
from unetpipe.ingest import ingest
from unetpipe.readers import FILES, open_series
from unetpipe.readers.tiff import Planes, as_zarr
from unetpipe.store import read_attributes

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the real images are not on this machine")


def store(tmp_path, paths, **options):
    output = tmp_path / "s.ome.zarr" / "zarr.json"
    ingest([str(path) for path in paths], str(output), sample="s", **{**SIDES, **options})
    return output.parent


def level(folder, number=0, series=0):
    return zarr.open_array(folder / str(series) / str(number), mode="r")


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("YX", (50, 70), (1, 1, 1, 50, 70)),
        ("YXS", (50, 70, 3), (1, 3, 1, 50, 70)),
        ("ZYX", (5, 50, 70), (1, 1, 5, 50, 70)),
        ("CZYX", (2, 5, 50, 70), (1, 2, 5, 50, 70)),
        ("TZCYX", (2, 3, 4, 50, 70), (2, 4, 3, 50, 70)),
    ],
)
def test_axes_become_tczyx(tmp_path, axes, shape, expected):
    pixels = np.random.default_rng(0).integers(0, 60000, shape, dtype=np.uint16)
    tifffile.imwrite(
        tmp_path / "a.ome.tif", pixels, metadata={"axes": axes}, photometric="minisblack" if axes != "YXS" else "rgb"
    )
    found = level(store(tmp_path, [tmp_path / "a.ome.tif"]))
    whole = (
        pixels[tuple(slice(None) if a in axes.replace("S", "C") else None for a in "TCZYX")]
        if axes
        not in (
            "YXS",
            "TZCYX",
        )
        else (np.moveaxis(pixels, -1, 0)[None, :, None] if axes == "YXS" else pixels.swapaxes(1, 2))
    )
    assert found.shape == expected
    np.testing.assert_array_equal(found[...], whole)


@pytest.mark.parametrize("kind", ["tiled", "strips", "png", "npy"])
def test_pixels_are_those_of_the_file(tmp_path, kind):
    pixels = np.random.default_rng(0).integers(0, 255, (150, 210), dtype=np.uint8)
    path = tmp_path / {"png": "a.png", "npy": "a.npy"}.get(kind, "a.tif")
    if kind == "png":
        Image.fromarray(pixels).save(path)
    elif kind == "npy":
        np.save(path, pixels)
    else:
        tifffile.imwrite(
            path, pixels, compression="zlib", **({"tile": (64, 64)} if kind == "tiled" else {"rowsperstrip": 7})
        )
    np.testing.assert_array_equal(level(store(tmp_path, [path], workers=3))[0, 0, 0], pixels)


def test_levels_are_means(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (130, 201), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    folder = store(tmp_path, [tmp_path / "a.npy"])
    expected = pixels
    for number in range(4):
        np.testing.assert_array_equal(level(folder, number)[0, 0, 0], expected)
        padded = np.pad(expected, [(0, size % 2) for size in expected.shape], mode="edge")
        expected = np.rint(block_reduce(padded, (2, 2), np.mean)).astype(np.uint8)
    assert not (folder / "0" / "4").exists()


def test_metadata_is_ome_zarr(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        np.zeros((50, 70), np.uint8),
        metadata={"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5},
    )
    folder = store(tmp_path, [tmp_path / "a.ome.tif"])
    root = json.loads((folder / "zarr.json").read_text())["attributes"]["ome"]
    image = json.loads((folder / "0" / "zarr.json").read_text())["attributes"]["ome"]
    assert root == {"version": "0.5", "bioformats2raw.layout": 3}
    assert [axis["name"] for axis in image["multiscales"][0]["axes"]] == list("tczyx")
    scale = image["multiscales"][0]["datasets"][1]["coordinateTransformations"][0]["scale"]
    assert scale == [1.0, 1.0, 1.0, 1.0, 0.5]
    array = zarr.open_group(folder, mode="r")["0/0"]
    assert array.shape == (1, 1, 1, 50, 70)
    assert array.metadata.dimension_names == tuple("tczyx")  # the OME-Zarr models ask for them


def test_channels_are_chosen_by_name_or_number(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = level(store(tmp_path, [tmp_path / "a.png"], channels=["blue", 0]))
    np.testing.assert_array_equal(found[0, :, 0], np.moveaxis(pixels[..., [2, 0]], -1, 0))


@pytest.mark.parametrize(("given", "expected"), [(0.3, [1.0, 0.3, 0.3]), ([2.0, 0.3, 0.4], [2.0, 0.3, 0.4])])
def test_a_pixel_size_where_the_file_does_not_say(tmp_path, given, expected):
    np.save(tmp_path / "a.npy", np.zeros((40, 50), np.uint8))
    folder = store(tmp_path, [tmp_path / "a.npy"], pixel_size=given)
    assert read_attributes(folder / "zarr.json")["series"][0]["pixel_size"] == expected


def test_a_truncated_file_fails_alone_and_leaves_no_store(tmp_path):
    images, _ = write_pairs(tmp_path, [(60, 80), (60, 80), (60, 80)])
    whole = Path(images[1]).read_bytes()
    Path(images[1]).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeError, match=r'sample "s": 1 series(.|\n)*01\.tif.*cut short'):
        store(tmp_path, images)
    folder = tmp_path / "s.ome.zarr"
    assert not (folder / "zarr.json").exists()
    Path(images[1]).write_bytes(whole)
    for number in (0, 2):
        np.testing.assert_array_equal(
            level(store(tmp_path, images), series=number)[0, 0, 0], tifffile.imread(images[number])
        )


def test_a_repaired_file_is_read_alone(tmp_path):
    images, _ = write_pairs(tmp_path, [(60, 80), (60, 80), (60, 80)])
    whole = Path(images[1]).read_bytes()
    Path(images[1]).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeError):
        store(tmp_path, images[:1] + images[2:] + images[1:2])
    shards = [p for p in (tmp_path / "s.ome.zarr").rglob("*") if p.is_file() and "c" in p.parts]
    before = {path: path.stat().st_mtime_ns for path in shards}
    Path(images[1]).write_bytes(whole)
    folder = store(tmp_path, images[:1] + images[2:] + images[1:2])
    assert before
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    np.testing.assert_array_equal(level(folder, series=2)[0, 0, 0], tifffile.imread(images[1]))


def test_a_file_that_fails_once_leaves_no_other_in_its_place(tmp_path, monkeypatch):
    images, _ = write_pairs(tmp_path, [(60, 80), (60, 80), (60, 80)])

    def fail_first(path, inside):
        if path == images[0]:
            raise OSError("the file system was away")
        return open_series(path, inside)

    monkeypatch.setattr("unetpipe.ingest.open_series", fail_first)
    with pytest.raises(RuntimeError, match="the file system was away"):
        store(tmp_path, images)
    monkeypatch.undo()
    folder = store(tmp_path, images)
    for number, path in enumerate(images):
        np.testing.assert_array_equal(level(folder, series=number)[0, 0, 0], tifffile.imread(path))


def test_republishing_leaves_labels_alone(tmp_path):
    made = prepare(tmp_path, [(100, 130)])
    labels = {p: p.read_bytes() for p in (tmp_path / "images").rglob("labels/**/*") if p.is_file()}
    ingest([str(tmp_path / "data/images/00.tif")], made["image"], sample="s", **SIDES)
    assert labels
    assert {p: p.read_bytes() for p in (tmp_path / "images").rglob("labels/**/*") if p.is_file()} == labels


def test_another_image_removes_labels(tmp_path):
    made = prepare(tmp_path, [(100, 130)])
    tifffile.imwrite(tmp_path / "data/images/00.tif", np.zeros((100, 130), np.uint8))
    ingest([str(tmp_path / "data/images/00.tif")], made["image"], sample="s", **SIDES)
    assert not (tmp_path / "images/s.ome.zarr/0/labels").exists()


def test_a_smaller_set_of_smaller_images_leaves_nothing_behind(tmp_path):
    images, _ = write_pairs(tmp_path, [(200, 180), (60, 80)])
    store(tmp_path, images)
    tifffile.imwrite(images[0], np.ones((50, 40), np.uint8))
    again, fresh = store(tmp_path, images[:1]), store(tmp_path / "fresh", images[:1])
    trees = [
        {p.relative_to(f) for p in f.rglob("*") if p.is_file() and ".ledger" not in p.parts} for f in (again, fresh)
    ]
    assert trees[0] == trees[1]


def test_the_same_input_gives_the_same_bytes(tmp_path):
    images, _ = write_pairs(tmp_path, [(100, 130)])
    folders = [store(tmp_path / name, images, workers=workers) for name, workers in (("a", 1), ("b", 4))]
    trees = [
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file() and ".ledger" not in p.parts}
        for f in folders
    ]
    assert trees[0] == trees[1]


DRIVER = """
import json, sys, time
import unetpipe.pyramid as pyramid
from unetpipe.ingest import ingest
paths, output, options, counter, pause = json.loads(sys.argv[1])
write = pyramid._write

def counted(*given):
    done = write(*given)
    with open(counter, "ab") as file:
        file.write(b".")
    time.sleep(pause)
    return done

pyramid._write = counted
ingest(paths, output, sample="s", **options)
"""


def start(folder, images, *, pause):
    folder.mkdir(exist_ok=True)
    options = {**SIDES, "workers": 2}
    message = json.dumps([images, str(folder / "s.ome.zarr" / "zarr.json"), options, str(folder / "calls"), pause])
    return subprocess.Popen([sys.executable, "-c", DRIVER, message])


def content(folder):
    files = (folder / "s.ome.zarr").rglob("*")
    return {p.relative_to(folder): p.read_bytes() for p in files if p.is_file() and ".ledger" not in p.parts}


def test_killed_it_ends_with_the_same_bytes_and_repeats_only_what_was_in_flight(tmp_path):
    images, _ = write_pairs(tmp_path, [(290, 270), (60, 80)])
    random, calls = np.random.default_rng(3), tmp_path / "killed" / "calls"
    with start(tmp_path / "whole", images, pause=0) as process:
        assert process.wait() == 0
    (tmp_path / "killed").mkdir()
    calls.touch()
    for _ in range(5):
        with start(tmp_path / "killed", images, pause=0.05) as process:
            before = calls.stat().st_size
            while calls.stat().st_size < before + 2 and process.poll() is None:
                time.sleep(0.005)
            time.sleep(random.uniform(0, 0.1))
            process.kill()
        assert process.returncode == -9  # it had not ended before
        assert not (tmp_path / "killed" / "s.ome.zarr" / "zarr.json").exists()
    with start(tmp_path / "killed", images, pause=0) as process:
        assert process.wait() == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    blocks = (tmp_path / "whole" / "calls").stat().st_size
    assert blocks <= calls.stat().st_size <= blocks + 5 * 2


def test_unknown_formats_are_named(tmp_path):
    (tmp_path / "a.xyz").touch()
    with pytest.raises(ValueError, match=r"a\.xyz: unknown image format; known suffixes are \.tif"):
        open_series(tmp_path / "a.xyz")


@needs_data
def test_a_real_slide(tmp_path):
    import openslide

    path = DATA / "slides" / "CMU-1-Small-Region.svs"
    folder = store(tmp_path, [path], chunk=256, shard=1024)
    slide = openslide.OpenSlide(path)
    expected = np.asarray(slide.read_region((700, 900), 0, (300, 200)))[..., :3]
    np.testing.assert_array_equal(np.moveaxis(level(folder)[0, :, 0, 900:1100, 700:1000], 0, -1), expected)
    assert read_attributes(folder / "zarr.json")["series"][0]["pixel_size"] == [1.0, 0.499, 0.499]


@needs_data
def test_an_unreadable_slide_names_the_place(tmp_path):
    with pytest.raises(RuntimeError, match="no pixels at x 0, y 0"):
        store(tmp_path, [DATA / "slides" / "unreadable.svs"])
    assert not (tmp_path / "s.ome.zarr" / "zarr.json").exists()


@pytest.mark.parametrize(
    ("dtype", "compression"),
    [(np.uint8, "jpeg"), *((dtype, kind) for dtype in (np.uint8, np.int16, bool) for kind in (None, "zlib"))],
)
@pytest.mark.parametrize("layout", [{"tile": (64, 48)}, {"rowsperstrip": 7}, {}])
def test_reading_a_tiff_directly_equals_reading_it_through_its_store(tmp_path, dtype, layout, compression):
    fits = 0
    for shape in [(70, 90), (70, 90, 3), (3, 70, 90), (2, 4, 70, 90), (5, 70, 90, 3)]:
        pixels = np.random.default_rng(0).integers(0, 2 if dtype is bool else 100, shape).astype(dtype)
        kind = {"photometric": "rgb" if 3 in (shape[0], shape[-1]) else "minisblack"}
        kind |= {"planarconfig": "separate"} if shape[0] == 3 else {}
        tifffile.imwrite(tmp_path / "a.tif", pixels, compression=compression, **layout, **kind)
        file = tifffile.TiffFile(tmp_path / "a.tif")
        series = file.series[0]
        if Planes.fits(series, file):
            fits += 1
            for low, high in ((0.0, 1.0), (0.3, 0.7)):
                window = tuple(slice(int(low * n), max(int(low * n) + 1, int(high * n))) for n in series.shape)
                np.testing.assert_array_equal(Planes(series)[window], as_zarr(series)[window])
    assert fits >= 3


def test_a_series_over_several_files_is_read_once(tmp_path):
    volume = np.random.default_rng(0).integers(0, 255, (3, 40, 50)).astype(np.uint8)
    files = write_several(tmp_path, volume)
    folder = store(tmp_path, files)
    assert len(read_attributes(folder / "zarr.json")["series"]) == 1
    np.testing.assert_array_equal(level(folder)[0, 0], volume)
    volume[1] = 7
    write_several(tmp_path, volume)
    np.testing.assert_array_equal(
        level(store(tmp_path, files[:1]))[0, 0], volume
    )  # another file than the named one changed
    files[1].rename(tmp_path / "gone.tif")
    with pytest.raises(RuntimeError, match=r"z0\.ome\.tif: 1 of 3 planes are missing, they lie in other files"):
        store(tmp_path / "again", files[:1])


@needs_data
def test_a_part_of_a_series_whose_description_is_away_is_said_to_be_one(caplog):
    (series,) = open_series(DATA / "ome-tiff" / "multifile-Z2.ome.tiff")
    assert series.shape == (1, 1, 1, 24, 18)
    assert "a part of a series that another file describes" in caplog.text


@pytest.mark.parametrize("suffix", [".tif", ".png", ".h5", ".npy"])
def test_a_sample_of_many_files_keeps_few_open(tmp_path, suffix):
    write = {
        ".tif": tifffile.imwrite,
        ".png": imageio.imwrite,
        ".h5": lambda path, pixels: h5py.File(path, "w").create_dataset("a", data=pixels),
        ".npy": np.save,
    }[suffix]
    everything = (slice(0, 1),) * 3 + (slice(0, 9), slice(0, 7))
    for number in range(3 * FILES):
        write(tmp_path / f"{number}{suffix}", np.full((9, 7), number, np.uint8))
    gc.collect()
    gc.disable()
    try:
        before, most = psutil.Process().num_fds(), 0
        series = [one for number in range(3 * FILES) for one in open_series(tmp_path / f"{number}{suffix}")]
        for number in [*range(3 * FILES), 5, 0]:
            np.testing.assert_array_equal(series[number].read(everything), np.full((1, 1, 1, 9, 7), number))
            most = max(most, psutil.Process().num_fds() - before)
    finally:
        gc.enable()
    assert most <= FILES + 1
    assert len(readers._open_files) <= FILES


def test_no_more_decoded_pictures_are_kept_than_their_bytes_allow(tmp_path, monkeypatch):
    """A PNG is decoded as a whole: sixteen large ones would fill a machine."""
    monkeypatch.setattr(readers, "DECODED", 9000)
    monkeypatch.setattr(readers, "_open_files", type(readers._open_files)())
    pixels = [np.full((50, 80), number, np.uint8) for number in range(4)]
    for number, plane in enumerate(pixels):
        Image.fromarray(plane).save(tmp_path / f"{number}.png")
    series = [open_series(tmp_path / f"{number}.png")[0] for number in range(4)]
    assert len(readers._open_files) == 2
    for number in (0, 3, 1, 2):
        assert (series[number].read(np.s_[0:1, 0:1, 0:1, 3:9, 4:8]) == number).all()
    monkeypatch.setattr(readers, "DECODED", 100)
    assert (series[3].read(np.s_[0:1, 0:1, 0:1, 3:9, 4:8]) == 3).all()
    assert len(readers._open_files) == 1


def test_files_of_one_name_become_series_of_different_names(tmp_path):
    paths = [tmp_path / folder / file for folder in ("a", "b", "c/a") for file in ("cells.tif", "cells.png", "own.tif")]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True, parents=True)
        {".tif": tifffile.imwrite, ".png": imageio.imwrite}[path.suffix](path, np.full((9, 7), number, np.uint8))
    folder = store(tmp_path, [*paths, *paths[:1]])
    names = [series["name"] for series in read_attributes(folder / "zarr.json")["series"]]
    assert names[5] == "b-own"
    assert all(name.startswith("a-cells-") for name in names[:2])
    assert len(set(names)) == 10
    assert [level(folder, series=number)[0, 0, 0, 0, 0] for number in range(10)] == [*range(9), 0]


@pytest.mark.parametrize(("moment", "first"), [("source_digest", True), ("write_pyramids", False)])
def test_a_file_that_is_written_while_it_is_read_is_not_taken_for_a_whole_one(tmp_path, monkeypatch, moment, first):
    """The part of it that was opened is not recorded as the new one either: it is read again."""
    path, aside = tmp_path / "a.tif", tmp_path / "aside.tif"
    tifffile.imwrite(path, np.full((9, 7), 1, np.uint8))
    tifffile.imwrite(aside, np.full((9, 7), 200, np.uint8))
    real = getattr(ingestion, moment)

    def meanwhile(*args, **kwargs):
        result = None if first else real(*args, **kwargs)
        aside.rename(path)
        return real(*args, **kwargs) if first else result

    monkeypatch.setattr(ingestion, moment, meanwhile)
    with pytest.raises(RuntimeError, match=r"a\.tif: written, or taken away, while it was read; run again"):
        store(tmp_path, [path])
    assert not (tmp_path / "s.ome.zarr" / "zarr.json").exists()
    monkeypatch.undo()
    assert (level(store(tmp_path, [path]))[:] == 200).all()


def test_damaged_files_of_one_name_are_all_named(tmp_path):
    paths = [tmp_path / folder / "cells.tif" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(b"II")
    with pytest.raises(RuntimeError, match=rf'"s": 2 series (.|\n)*{paths[0]}(.|\n)*{paths[1]}'):
        store(tmp_path, paths)
