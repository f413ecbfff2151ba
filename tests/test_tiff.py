"""TIFF files of several series, in one file or many, read by several threads at once."""

import math
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
import zarr

from unetpipe.ingest import ingest
from unetpipe.readers import open_series

OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def whole(series):
    return series.read(tuple(slice(0, size) for size in series.shape))


def position(number, file="", *, size=0.5, unit="µm", planes=2):
    """The OME-XML of an image whose planes lie in a file; the other ones, or none."""
    name = f'<UUID FileName="{file}">{uuid.UUID(int=number + 1).urn}</UUID>' if file else ""
    data = "".join(f'<TiffData IFD="{z}" FirstZ="{z}" PlaneCount="1">{name}</TiffData>' for z in range(planes))
    sides = f'DimensionOrder="XYZCT" Type="uint8" SizeX="40" SizeY="30" SizeZ="{max(1, planes)}" SizeC="1" SizeT="1"'
    sides += f' PhysicalSizeX="{size}" PhysicalSizeY="{size}" PhysicalSizeXUnit="{unit}" PhysicalSizeYUnit="{unit}"'
    channel = f'<Channel ID="Channel:{number}:0" Name="stain {number}"/>'
    return f'<Image ID="Image:{number}"><Pixels ID="Pixels:{number}" {sides}>{channel}{data}</Pixels></Image>'


def write_ome(path, number, images):
    """A file that holds one of the images, all of grey value number + 1, and tells of all."""
    xml = f'<OME xmlns="{OME}" UUID="{uuid.UUID(int=number + 1).urn}">{"".join(images)}</OME>'
    planes = images[number].count("<TiffData") if number < len(images) else 1
    tifffile.imwrite(path, np.full((planes, 30, 40), number + 1, np.uint8), description=xml.encode(), metadata=None)


def test_threads_read_series_of_one_file_side_by_side(tmp_path):
    with tifffile.TiffWriter(tmp_path / "several.tif") as file:
        for number in range(6):
            file.write(np.full((256 + number, 300), number, np.uint8), rowsperstrip=1, metadata=None)
    opened = open_series(tmp_path / "several.tif")
    with ThreadPoolExecutor(len(opened)) as pool:
        read = pool.map(lambda turn: (turn % 6, np.unique(whole(opened[turn % 6]))), range(60))
        assert all(values.tolist() == [number] for number, values in read)


def test_positions_in_files_of_their_own_are_series_once(tmp_path):
    """The layout of Micro-Manager: every file tells of all positions and holds one."""
    images = [position(number, f"p{number}.ome.tif") for number in range(3)]
    for number in range(3):
        write_ome(tmp_path / f"p{number}.ome.tif", number, images)
    files = [str(tmp_path / f"p{number}.ome.tif") for number in (1, 0, 2)]
    assert [np.unique(whole(series)).tolist() for series in open_series(files[0])] == [[1], [2], [3]]
    ingest(files, str(tmp_path / "s.ome.zarr" / "zarr.json"), sample="s")
    stored = [zarr.open_array(tmp_path / "s.ome.zarr" / str(number) / "0", mode="r")[...] for number in range(3)]
    assert [np.unique(pixels).tolist() for pixels in stored] == [[1], [2], [3]]
    assert not (tmp_path / "s.ome.zarr" / "3").exists()


@pytest.mark.parametrize("absent", [position(0, "absent.ome.tif", size=0.1), position(0, size=0.1, planes=0)])
def test_an_image_that_is_not_here_does_not_give_its_pixel_size(tmp_path, absent):
    write_ome(tmp_path / "b.ome.tif", 1, [absent, position(1, "b.ome.tif", planes=1)])
    (series,) = open_series(tmp_path / "b.ome.tif")
    assert series.pixel_size[1:] == (0.5, 0.5)
    assert series.channels == ("stain 1",)


def test_channels_of_one_name_are_told_apart(tmp_path):
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "DAPI"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((2, 30, 40), np.uint8), metadata=metadata)
    (series,) = open_series(tmp_path / "a.ome.tif")
    assert series.channels == ("DAPI", "DAPI-1")


def test_a_file_of_another_name_knows_its_image(tmp_path):
    write_ome(tmp_path / "renamed.ome.tif", 1, [position(0, "a.ome.tif", size=0.1), position(1, "b.ome.tif")])
    (series,) = open_series(tmp_path / "renamed.ome.tif")
    assert series.channels == ("stain 1",)


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [
        (1, "pixel", None),
        (1, "reference frame", None),
        (0, "µm", None),
        (-0.5, "µm", None),
        (math.nan, "µm", None),
        (5000, "Å", 0.5),
        (250, "nm", 0.25),
    ],
)
def test_only_lengths_are_pixel_sizes(tmp_path, size, unit, expected):
    write_ome(tmp_path / "a.ome.tif", 0, [position(0, size=size, unit=unit)])
    (series,) = open_series(tmp_path / "a.ome.tif")
    assert (series.pixel_size and series.pixel_size[1]) == (expected and pytest.approx(expected))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pixel_that_is_no_number_is_named(tmp_path, value):
    pixels = np.zeros((30, 40), np.float32)
    pixels[5, 7] = value
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    with pytest.raises(RuntimeError, match=rf"a\.tif.*\n?.*pixel \(0, 0, 0, 5, 7\) \(t, c, z, y, x\) is {value}"):
        ingest([str(tmp_path / "a.tif")], str(tmp_path / "s.ome.zarr" / "zarr.json"), sample="s")


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.float64])
def test_wide_types_are_stored_as_they_are(tmp_path, dtype):
    pixels = np.arange(1200, dtype=dtype).reshape(30, 40)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    ingest([str(tmp_path / "a.tif")], str(tmp_path / "s.ome.zarr" / "zarr.json"), sample="s")
    stored = zarr.open_array(tmp_path / "s.ome.zarr" / "0" / "0", mode="r")[0, 0, 0]
    np.testing.assert_array_equal(stored, pixels)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("rows", [None, 7])
def test_bare_strips_are_read_row_by_row(tmp_path, byteorder, rows):
    pixels = np.random.default_rng(0).integers(-9999, 9999, (2, 60, 70), np.int16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=byteorder, rowsperstrip=rows)
    (series,) = open_series(tmp_path / "a.tif")
    assert series.dtype == np.dtype(np.int16)
    found = series.read((slice(0, 1), slice(0, 1), slice(1, 2), slice(5, 33), slice(11, 50)))
    np.testing.assert_array_equal(found[0, 0, 0], pixels[1, 5:33, 11:50])


def test_a_file_that_shrinks_while_it_is_read_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((60, 70), np.int16))
    (series,) = open_series(tmp_path / "a.tif")
    with open(tmp_path / "a.tif", "r+b") as file:
        file.truncate(5000)
    with pytest.raises(ValueError, match=r"a\.tif: ends in row \d+; copy it again"):
        whole(series)


@pytest.mark.parametrize("cut", [1, 100, 2000, 9000])
def test_a_stack_of_imagej_that_is_cut_short_is_no_single_plane(tmp_path, cut):
    """It has one page; tifffile reads what is left as that alone."""
    path, volume = tmp_path / "stack.tif", np.random.default_rng(0).integers(0, 255, (9, 40, 50), np.uint8)
    tifffile.imwrite(path, volume, imagej=True, truncate=True, metadata={"axes": "ZYX"})
    np.testing.assert_array_equal(whole(open_series(path)[0])[0, 0], volume)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ValueError, match=r"stack.tif: cut short: ImageJ wrote 9 planes, they do not end in it; copy"):
        open_series(path)
