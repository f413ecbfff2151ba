"""Whatever is wrong with a file is a clear error or a right result, in little time, and never half a store."""

import io
import json
import struct
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unetpipe.cli import main
from unetpipe.ingest import ingest
from unetpipe.inspection import inspect
from unetpipe.readers import SUFFIXES
from unetpipe.store import open_array

PIXELS = np.random.default_rng(5).integers(0, 255, (90, 100), np.uint8)
SECONDS = 10


def write_tiles(path):
    tifffile.imwrite(path, PIXELS, tile=(32, 32), compression="zlib")


def write_strips(path):
    tifffile.imwrite(path, PIXELS, rowsperstrip=8)


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        file["raw"] = PIXELS


def write_slide(path):
    tifffile.imwrite(path, np.stack([PIXELS] * 3, axis=-1), tile=(32, 32), photometric="rgb")


WRITERS = {
    "tiles.tif": write_tiles,
    "strips.tif": write_strips,
    "a.png": lambda path: Image.fromarray(PIXELS).save(path),
    "a.npy": lambda path: np.save(path, PIXELS),
    "a.h5": write_hdf5,
    "a.svs": write_slide,  # OpenSlide takes any tiled TIFF
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Small valid files of every kind."""
    folder = tmp_path_factory.mktemp("whole")
    for name, write in WRITERS.items():
        write(folder / name)
    return folder


def take(path, folder):
    """Ingest a file: its pixels, or None where it is refused; a refusal leaves no store and says which file."""
    root, begun, refused = folder / "s.ome.zarr" / "zarr.json", time.monotonic(), ""
    try:
        ingest([str(path)], str(root), sample="s")
    except RuntimeError as error:
        refused = str(error)
    assert time.monotonic() - begun < SECONDS
    if refused:
        assert path.name in refused
        assert not root.exists()
        return None
    return open_array(root.parent / "0" / "0")[0, 0, 0]


def check(path, folder):
    """What inspecting says is what ingesting does, unless the damage lies in pixels that it does not look at."""
    begun, rows = time.monotonic(), inspect(path)
    assert time.monotonic() - begun < SECONDS
    found = take(path, folder)
    if any(row["problem"] for row in rows):
        assert found is None
    return found


@pytest.mark.parametrize("name", WRITERS)
def test_truncated_anywhere(whole, tmp_path, name):
    content = (whole / name).read_bytes()
    for number, length in enumerate(np.random.default_rng(1).integers(0, len(content) - 1, 50)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(content[:length])
        found = check(folder / name, folder)
        if found is not None:
            np.testing.assert_array_equal(found, PIXELS)


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=60)
@given(data=st.data())
def test_changed_bytes(whole, tmp_path_factory, name, data):
    """Other pixels are possible, since most formats carry no checksum; a crash, a hang or half a store are not."""
    content = bytearray((whole / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        head = data.draw(st.booleans())  # most of what matters stands at the beginning
        place = data.draw(st.integers(0, min(200, len(content) - 1) if head else len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("changed")
    (folder / name).write_bytes(content)
    check(folder / name, folder)


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".zarr"])
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"this is a text", bytes(range(256)) * 40])
def test_something_else_under_a_known_suffix(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    assert check(path, tmp_path) is None


def tiff(width, height, next_at=0, offset=8):
    """A TIFF of one strip with the tags that a reader needs, the strip at `offset`."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, offset)]
    tags += [(277, 3, 1), (278, 4, height), (279, 4, min(width * height, 2**32 - 1))]
    entries = b"".join(struct.pack("<HHIi" if kind == 3 else "<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", next_at)


def test_a_header_that_claims_a_quintillion_pixels(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(10**9, 10**9))
    assert check(path, tmp_path) is None


def test_directories_that_lead_to_themselves(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(10, 10, next_at=8) + bytes(100))
    check(path, tmp_path)


def test_a_picture_that_unpacks_to_gigabytes(tmp_path):
    path = tmp_path / "a.png"
    Image.new("1", (30000, 30000)).save(path)
    assert path.stat().st_size < 10**6
    assert check(path, tmp_path) is None


def test_a_store_that_claims_a_quintillion_pixels(tmp_path):
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(10**9, 10**9), chunks=(10**8, 10**8), dtype="uint8")
    begun = time.monotonic()
    (row,) = inspect(tmp_path / "a.zarr")
    assert time.monotonic() - begun < SECONDS
    assert f"claims {10**18} bytes" in row["problem"]


def test_symbolic_links_in_a_circle(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images" / "a.npy", PIXELS)
    (tmp_path / "images" / "again").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "b.npy").symlink_to(tmp_path / "images" / "b.npy")
    with pytest.raises(SystemExit):
        main(["inspect", str(tmp_path / "images")])
    said = capsys.readouterr().out
    assert "a.npy" in said
    assert "refused" in said
    assert "b.npy" in said.split("refused")[1]


@pytest.mark.parametrize("name", ["two words.png", "Zelle-µm-Ä.png", 'it\'s "quoted" $HOME.png', "<b>&.png", "-n.png"])
def test_names_of_all_kinds(tmp_path, name, capsys):
    Image.fromarray(PIXELS).save(tmp_path / name)
    np.testing.assert_array_equal(take(tmp_path / name, tmp_path), PIXELS)
    main(["inspect", str(tmp_path / name), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["file"], row["shape"], row["problem"]) == (str(tmp_path / name), [1, 1, 1, 90, 100], "")


def test_a_table_tells_good_from_refused(tmp_path, capsys):
    np.save(tmp_path / "good.npy", PIXELS)
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(SystemExit) as end:
        main(["inspect", str(tmp_path)])
    assert end.value.code == 1
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.split()[:4] == ["file", "series", "x", "y"]
    assert second.split()[:4] == ["good.npy", "good", "100", "90"]
    assert last.startswith("refused: ")
    assert "bad.npy" in last
    with pytest.raises(SystemExit):
        main(["inspect", str(tmp_path / "nowhere.tif")])
    assert "no such file" in capsys.readouterr().out


def test_a_table_shows_how_far_apart_planes_are(tmp_path, capsys):
    size = {f"PhysicalSize{axis}": side for axis, side in zip("ZYX", (3.0, 0.5, 0.5), strict=True)}
    for planes in (1, 4):
        volume = np.stack([PIXELS] * planes)
        tifffile.imwrite(tmp_path / f"{planes}.ome.tif", volume, metadata={"axes": "ZYX", **size})
    main(["inspect", str(tmp_path)])
    _, flat, volume = capsys.readouterr().out.splitlines()
    assert "z 3" not in flat
    assert " 0.5, z 3 " in volume


def test_a_thousand_files_take_seconds(tmp_path, capsys):
    content = io.BytesIO()
    tifffile.imwrite(content, PIXELS)
    for number in range(1000):
        (tmp_path / f"{number}.tif").write_bytes(content.getvalue())
    begun = time.monotonic()
    main(["inspect", str(tmp_path)])
    assert len(capsys.readouterr().out.splitlines()) == 1001
    assert time.monotonic() - begun < 3 * SECONDS


def test_damage_leaves_no_store_and_no_stray(tmp_path):
    """A second ingest of the mended file is that of a fresh one."""
    path = tmp_path / "tiles.tif"
    write_tiles(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert take(path, tmp_path) is None
    path.write_bytes(content)
    np.testing.assert_array_equal(take(path, tmp_path), PIXELS)
    assert Path(tmp_path / "s.ome.zarr" / "zarr.json").exists()
