"""HDF5 files and Zarr stores of other writers: the right pixels, axes and sizes, or a refusal that says why."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from numcodecs import LZ4, Blosc, Zlib

from unetpipe.config import load_project, read_config
from unetpipe.ingest import ingest
from unetpipe.mask import write_mask
from unetpipe.readers import open_series
from unetpipe.store import create_array, image_metadata, open_array, read_attributes, write_group
from unetpipe.truth import write_truth

SHARED = Path(__file__).parents[2] / "shared" / "data"
real = pytest.mark.skipif(not SHARED.exists(), reason=f"real images are not at {SHARED}")


def whole(series):
    return series.read(tuple(slice(0, size) for size in series.shape))


@real
@pytest.mark.parametrize("axes", ["yx", "zyx", "cyx", "czyx", "tyx", "tcyx", "tzyx", "tczyx"])
def test_every_set_of_axes_of_another_writer(axes):
    path = SHARED / "ome-zarr" / "ngio_0.4" / f"test_image_{axes}.zarr"
    (series,) = open_series(path)
    expected = zarr.open_array(str(path / "0"), mode="r")[...]
    for place, axis in enumerate("tczyx"):
        if axis not in axes:
            expected = np.expand_dims(expected, place)
    np.testing.assert_array_equal(whole(series), expected)
    np.testing.assert_array_equal(
        series.read((*[slice(0, 1)] * 3, slice(5, 40), slice(60, 64))), expected[:1, :1, :1, 5:40, 60:64]
    )
    assert series.pixel_size == (2.0 if "z" in axes else 1.0, 0.5, 0.5)
    assert series.channels == (("channel1", "channel2") if "c" in axes else ("channel_0",))


@real
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_units_become_micrometres(version):
    (series,) = open_series(SHARED / "ome-zarr" / f"simple_{version}.zarr")
    assert series.pixel_size == pytest.approx((1.0, 0.004, 0.03))  # nanometres in the file
    assert (series.name, series.shape) == (f"simple_{version}", (1, 1, 1, 10, 10))


@pytest.mark.parametrize(
    "kind",
    [
        {"zarr_format": 2, "compressors": Zlib(3)},
        {"zarr_format": 2, "compressors": LZ4(), "order": "F"},
        {"zarr_format": 2, "compressors": Blosc("lz4"), "filters": None, "dtype": ">u2"},
        {"zarr_format": 3},
        {"zarr_format": 3, "shards": (32, 32), "dtype": "bool"},
    ],
)
def test_plain_arrays_of_any_codec(tmp_path, kind):
    pixels = np.random.default_rng(1).integers(0, 2 if kind.get("dtype") == "bool" else 60000, (50, 70))
    options = {"dtype": "uint16", "chunks": (16, 16), **kind}
    zarr.create_array(str(tmp_path / "a.zarr"), shape=pixels.shape, **options)[...] = pixels.astype(options["dtype"])
    (series,) = open_series(tmp_path / "a.zarr")
    assert series.dtype.isnative
    np.testing.assert_array_equal(whole(series)[0, 0, 0], pixels)


def test_own_stores_can_be_read_again(tmp_path):
    random = np.random.default_rng(1)
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", random.integers(0, 255, (60, 80, 3), np.uint8))
    first, second = (str(tmp_path / name / "s.ome.zarr" / "zarr.json") for name in ("one", "two"))
    ingest([str(tmp_path / "a.npy"), str(tmp_path / "b.npy")], first, sample="s", pixel_size=0.5)
    series = open_series(Path(first).parent)
    assert [one.name for one in series] == ["s-0", "s-1"]
    assert [one.pixel_size for one in series] == [(1.0, 0.5, 0.5)] * 2
    ingest([str(Path(first).parent)], second, sample="s")
    for number in "01":
        arrays = [open_array(Path(path).parent / number / "0")[...] for path in (first, second)]
        np.testing.assert_array_equal(*arrays)
    assert read_attributes(second)["series"][0]["channels"] == ["red", "green", "blue"]
    (alone,) = open_series(Path(first).parent, "1")
    np.testing.assert_array_equal(whole(alone), whole(series[1]))


def test_what_is_no_image_is_refused_with_what_to_write(tmp_path):
    group = zarr.open_group(str(tmp_path / "p.zarr"), mode="w")
    group.create_group("A")
    with pytest.raises(ValueError, match=r"no OME-Zarr image, it holds A; name one of them after a colon, p.zarr:/"):
        open_series(tmp_path / "p.zarr")
    group.attrs["plate"] = {}
    with pytest.raises(ValueError, match=r"a plate; name one image of it after a colon, e.g. p.zarr:/A/1/0"):
        open_series(tmp_path / "p.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(ValueError, match="not a Zarr array or group"):
        open_series(tmp_path / "empty.zarr")
    group.attrs.clear()
    group.attrs["multiscales"] = [{"axes": [{"name": "q"}, {"name": "x"}], "datasets": [{"path": "0"}]}]
    with pytest.raises(ValueError, match="axes qx do not fit t, c, z, y, x"):
        open_series(tmp_path / "p.zarr")
    group.attrs["multiscales"] = [{"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": "0"}]}]
    with pytest.raises(ValueError, match="its first level 0 cannot be opened"):
        open_series(tmp_path / "p.zarr")


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "v.h5"
    random = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        for name in ("raw", "deep/label"):
            file[name] = random.integers(0, 9, (5, 40, 50)).astype(np.uint16)
            file[name].attrs["element_size_um"] = (0.3, 0.1, 0.1)
        file["numbers"] = np.arange(4)
    return path


def test_an_array_of_an_hdf5_file_is_named(volume):
    (series,) = open_series(volume, "deep/label")
    with h5py.File(volume) as file:
        np.testing.assert_array_equal(whole(series)[0, 0], file["deep/label"][...])
    assert series.pixel_size == (0.3, 0.1, 0.1)
    with pytest.raises(ValueError, match=r"2 arrays in it; write v.h5:/ and one of deep/label, raw"):
        open_series(volume)
    with pytest.raises(ValueError, match=r"no array 'rwa' in it; write v.h5:/ and one of deep/label, raw"):
        open_series(volume, "rwa")


@pytest.mark.parametrize("length", [0, 1, 100, 3000])
def test_a_truncated_hdf5_file_is_refused(volume, length):
    volume.write_bytes(volume.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"v\.h5: not a whole HDF5 file"):
        open_series(volume, "raw")


def test_a_name_inside_is_for_files_that_hold_several(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"only HDF5 and Zarr hold arrays by name; leave :/raw away"):
        open_series(tmp_path / "a.npy", "raw")


def test_a_sheet_names_arrays_inside_of_files(volume):
    folder = volume.parent
    (folder / "samples.tsv").write_text("sample\tpath\tlabels\tsplit\nv\t*.h5:/raw\t*.h5:/deep/label\ttrain\n")
    (folder / "config.yaml").write_text("samples: samples.tsv\n")
    (sample,), problems = load_project(read_config(folder / "config.yaml"), folder)
    assert not problems
    assert (sample.files, sample.inside) == ([str(volume)], "raw")
    assert (sample.labels, sample.labels_inside) == ([str(volume)], "deep/label")
    image, truth = str(folder / "s.ome.zarr" / "zarr.json"), str(folder / "truth.json")
    ingest(sample.files, image, sample="v", inside=sample.inside)
    write_truth(sample.labels, image, truth, sample="v", inside=sample.labels_inside)
    with h5py.File(volume) as file:
        ids = open_array(Path(image).parent / "0" / "labels" / "truth" / "0")[0]
        np.testing.assert_array_equal(ids > 0, file["deep/label"][...] > 0)


@real
def test_real_volumes(tmp_path):
    path = SHARED / "confocal3d" / "sample_ovule.h5"
    image = str(tmp_path / "s.ome.zarr" / "zarr.json")
    ingest([str(path)], image, sample="s", inside="raw")
    with h5py.File(path) as file:
        np.testing.assert_array_equal(open_array(Path(image).parent / "0" / "0")[0, 0], file["raw"][...])
        expected = list(map(float, file["raw"].attrs["element_size_um"]))
    assert read_attributes(image)["series"][0]["pixel_size"] == pytest.approx(expected)


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def foreign(tmp_path):
    """A store that is used in place, as it was before."""
    np.save(tmp_path / "a.npy", np.random.default_rng(2).integers(0, 255, (150, 130, 3), np.uint8))
    root = tmp_path / "foreign.ome.zarr" / "zarr.json"
    ingest([str(tmp_path / "a.npy")], str(root), sample="s", chunk=32, shard=64)
    return root.parent, tree(root.parent)


def test_a_store_is_used_in_place(foreign, tmp_path):
    (source, before), own = foreign, tmp_path / "s.ome.zarr" / "zarr.json"
    ingest([str(source)], str(own), sample="s", chunk=16, shard=64)  # more levels than the source has
    for _ in range(2):
        ingest([str(source)], str(own), sample="s", chunk=32, shard=64, copy=False)
        assert {path.name for path in (own.parent / "0").glob("[0-9]")} == {"0", "1", "2", "3"}
        assert (own.parent / "0" / "1").is_symlink()
        write_mask(str(own), str(tmp_path / "t.json"), sample="s", contrast=0)
    np.testing.assert_array_equal(open_array(own.parent / "0" / "0")[...], open_array(source / "0" / "0")[...])
    assert open_array(own.parent / "0" / "labels" / "tissue" / "0")[...].all()
    linked = read_attributes(own)["series"]
    ingest([str(source)], str(own), sample="s", chunk=16, shard=64)
    assert not (own.parent / "0" / "1").is_symlink()
    assert [one["shape"] for one in read_attributes(own)["series"]] == [one["shape"] for one in linked]
    ingest([str(source)], str(own), sample="s", chunk=32, shard=64, copy=False)
    assert tree(source) == before


def test_the_type_of_what_is_used_in_place_is_its_own(tmp_path):
    source = tmp_path / "foreign.ome.zarr"
    create_array(source / "0", (1, 1, 1, 40, 50), np.float64, chunk=64, shard=64)
    write_group(source, {"ome": image_metadata("foreign", 1, None, [])})
    own = tmp_path / "s.ome.zarr" / "zarr.json"
    ingest([str(source)], str(own), sample="s", chunk=64, shard=64, copy=False)
    assert read_attributes(own)["series"][0]["dtype"] == "float64"
    assert 'Type="double"' in (own.parent / "OME" / "METADATA.ome.xml").read_text()


def test_another_source_in_place_removes_labels(foreign, tmp_path):
    source, own = foreign[0], tmp_path / "s.ome.zarr" / "zarr.json"
    ingest([str(source)], str(own), sample="s", chunk=32, shard=64, copy=False)
    write_mask(str(own), str(tmp_path / "t.json"), sample="s", contrast=0)
    open_array(source / "0" / "0", mode="r+")[0, 0, 0, :64, :64] = 7
    ingest([str(source)], str(own), sample="s", chunk=32, shard=64, copy=False)
    assert not (own.parent / "0" / "labels").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"chunk": 16},
            r"its levels have y, x \[\(150, 130\).*until ingest.chunk 16 holds one\); set ingest.copy to true",
        ),
        ({"channels": ["red"]}, "all its channels, as it is; set ingest.copy to true"),
    ],
)
def test_what_cannot_be_used_in_place_is_refused(foreign, tmp_path, change, says):
    with pytest.raises(RuntimeError, match=says):
        ingest(
            [str(foreign[0])],
            str(tmp_path / "s" / "zarr.json"),
            **{"sample": "s", "chunk": 32, "shard": 64, "copy": False, **change},
        )


def test_a_file_cannot_be_used_in_place(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((40, 50), np.uint8))
    with pytest.raises(RuntimeError, match=r"only OME-Zarr 0\.5 with axes t, c, z, y, x can be used in place"):
        ingest([str(tmp_path / "a.npy")], str(tmp_path / "s" / "zarr.json"), sample="s", copy=False)
