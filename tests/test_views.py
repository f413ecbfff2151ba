"""Files that say how they are to be seen are seen so."""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from scenes import SIDES

from unetpipe.ingest import ingest
from unetpipe.readers import open_series
from unetpipe.store import open_array
from unetpipe.truth import write_truth

PIXELS = np.random.default_rng(0).integers(0, 8, (40, 50)).astype(np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint8)


def whole(path, **options):
    (series,) = open_series(path, **options)
    found = series.read(tuple(slice(0, size) for size in series.shape))
    assert found.shape == series.shape
    assert found.dtype == series.dtype
    part = tuple(slice(size // 3, max(size // 3 + 1, size - size // 4)) for size in series.shape)
    np.testing.assert_array_equal(series.read(part), found[part])
    return series, found[0, :, 0]


@pytest.mark.parametrize("tag", range(1, 9))
def test_every_orientation_is_what_pillow_makes_of_it(tmp_path, tag):
    sizes = {"resolution": (5000, 10000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, extratags=[(274, "H", 1, tag, True)], **sizes)
    exif = Image.Exif()
    exif[274] = tag
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    series, found = whole(tmp_path / "a.tif")
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(whole(tmp_path / "a.png")[1][0], expected)
    assert series.pixel_size == ((1.0, 1.0, 2.0) if tag < 5 else (1.0, 2.0, 1.0))


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_pictures_of_16_bits_keep_them(tmp_path, channels):
    pixels = np.random.default_rng(2).integers(0, 2**16, (30, 40, channels), np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    series, found = whole(tmp_path / "a.png")
    assert series.dtype == np.uint16
    expected = pixels[..., :1] if channels == 2 else pixels[..., :3]
    np.testing.assert_array_equal(np.moveaxis(found, 0, -1), expected)


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_are_spread_for_images_and_kept_for_annotations(tmp_path, bits):
    values = PIXELS % 2**bits
    packed = np.zeros((40, -(-50 * bits // 8)), np.uint8)
    for column in range(50):
        place = column * bits
        packed[:, place // 8] |= values[:, column] << (8 - bits - place % 8)
    content = zlib.compress(np.pad(packed, ((0, 0), (1, 0))).tobytes())
    chunks = (b"IHDR", struct.pack(">IIBBBBB", 50, 40, bits, 0, 0, 0, 0)), (b"IDAT", content), (b"IEND", b"")
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    np.testing.assert_array_equal(whole(tmp_path / "a.png", palette=False)[1][0], values)
    np.testing.assert_array_equal(whole(tmp_path / "a.png")[1][0], values * (255 // (2**bits - 1)))


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_one_of_several_pictures_is_not_taken_for_all(tmp_path, suffix):
    first, *others = [Image.fromarray(np.full((20, 20), 50 * k, np.uint8)) for k in range(3)]
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=others)
    with pytest.raises(ValueError, match="3 pictures in it; save them as one TIFF"):
        open_series(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("dtype", [np.complex64, np.longdouble, "datetime64[s]"])
def test_other_kinds_of_numbers_are_refused(tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.zeros((20, 30), dtype))
    with pytest.raises(ValueError, match=r"a.*: pixels of type .*; save it as integers or floating-point numbers"):
        open_series(tmp_path / "a.npy")


@pytest.mark.parametrize(("suffix", "dtype"), [(".npy", np.float16), (".npy", np.float64), (".tif", np.float64)])
def test_other_precision_is_read_as_single(tmp_path, suffix, dtype):
    pixels = np.random.default_rng(0).random((20, 30)).astype(dtype)
    write = np.save if suffix == ".npy" else tifffile.imwrite
    write(tmp_path / f"a{suffix}", pixels)
    series, found = whole(tmp_path / f"a{suffix}")
    assert series.dtype == np.float32
    np.testing.assert_array_equal(found[0], pixels.astype(np.float32))


def test_numbers_beyond_single_precision_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.full((20, 30), 1e300))
    with pytest.raises(RuntimeError, match=r"pixel \(0, 0, 0, 0, 0\).* is inf"):
        ingest([str(tmp_path / "a.npy")], str(tmp_path / "s.ome.zarr/zarr.json"), sample="s", **SIDES)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_palettes_are_colours_of_images_and_numbers_of_annotations(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".png":
        image = Image.fromarray(PIXELS)
        image.putpalette(COLOURS.T.ravel().tolist())
        image.save(path)
    else:
        tifffile.imwrite(path, PIXELS, photometric="palette", colormap=COLOURS.astype(np.uint16) * 257)
    series, found = whole(path)
    np.testing.assert_array_equal(found, COLOURS[:, PIXELS])
    assert series.channels == ("red", "green", "blue")
    np.testing.assert_array_equal(whole(path, palette=False)[1][0], PIXELS)
    root = tmp_path / "s.ome.zarr" / "zarr.json"
    ingest([str(path)], str(root), sample="s", **SIDES)
    write_truth([str(path)], str(root), str(tmp_path / "t.json"), sample="s")
    np.testing.assert_array_equal(open_array(root.parent / "0" / "labels" / "truth" / "0")[0, 0], PIXELS)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_may_be_0(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS.astype(dtype), photometric="miniswhite")
    np.testing.assert_array_equal(whole(tmp_path / "a.tif")[1][0], np.iinfo(dtype).max - PIXELS.astype(np.int64))
    np.testing.assert_array_equal(whole(tmp_path / "a.tif", palette=False)[1][0], PIXELS)


def test_transparency_is_dropped(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 4)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for name in ("a.tif", "a.png"):
        np.testing.assert_array_equal(whole(tmp_path / name)[1], np.moveaxis(pixels[..., :3], -1, 0))


def test_one_bit_is_0_and_1(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS > 3)
    Image.fromarray(PIXELS > 3).save(tmp_path / "a.png")
    for name in ("a.tif", "a.png"):
        series, found = whole(tmp_path / name)
        assert series.dtype == np.uint8
        np.testing.assert_array_equal(found[0], PIXELS > 3)


def test_complex_pixels_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS.astype(np.complex64))
    with pytest.raises(ValueError, match="pixels of type complex64; save it as integers"):
        open_series(tmp_path / "a.tif")
