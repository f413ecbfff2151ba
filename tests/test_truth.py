"""Annotations lie beside their image with their own values; weights follow the definition across blocks."""

import numpy as np
import pytest
import tifffile
import zarr
from scenes import SIDES, prepare, write_several
from skimage.measure import label

from unetpipe import truth
from unetpipe.ingest import ingest
from unetpipe.mask import Tissue, look, packed, tissue
from unetpipe.store import open_array
from unetpipe.truth import classes_of, write_truth
from unetpipe.weights import border_weight, open_gaps


def stored(folder, name):
    return zarr.open_array(folder / "images" / "s.ome.zarr" / "0" / "labels" / name / "0", mode="r")[0, 0]


def test_ids_are_kept(tmp_path):
    prepare(tmp_path, [(150, 140)])
    np.testing.assert_array_equal(stored(tmp_path, "truth"), tifffile.imread(tmp_path / "data/labels/00.tif"))


def test_weights_across_blocks_are_those_of_the_whole(tmp_path):
    prepare(tmp_path, [(150, 140)])
    opened = open_gaps(tifffile.imread(tmp_path / "data/labels/00.tif").astype(int), gap=2)
    folder = tmp_path / "weights" / "s.zarr" / "0"
    target, border = (zarr.open_array(folder / name, mode="r") for name in ("target", "border"))
    np.testing.assert_array_equal(target[0, 0], opened > 0)
    step = border.attrs["unetpipe"]["scale"]
    np.testing.assert_allclose(border[0, 0] * step, border_weight(opened), atol=0.501 * step)  # uint8 holds whole steps


def annotate(tmp_path, values, **options):
    image = tmp_path / "images" / "s.ome.zarr" / "zarr.json"
    np.save(tmp_path / "a.npy", np.zeros(values.shape, np.uint8))
    tifffile.imwrite(tmp_path / "l.tif", values)
    ingest([str(tmp_path / "a.npy")], str(image), sample="s", **SIDES)
    write_truth([str(tmp_path / "l.tif")], str(image), str(tmp_path / "s.json"), sample="s", **options)


def test_objects_of_a_class_map_are_its_components(tmp_path):
    values = (np.random.default_rng(0).random((150, 140)) < 0.6).astype(np.uint8) * 255
    annotate(tmp_path, values, kind="classes")
    np.testing.assert_array_equal(stored(tmp_path, "truth"), label(values, connectivity=1))
    np.testing.assert_array_equal(stored(tmp_path, "classes"), values > 0)


def test_labels_come_back_from_napari_with_the_axes_of_the_store(tmp_path):
    """It shows them as (t, z, y, x), and saves what it shows."""
    made = prepare(tmp_path, [(150, 140)])
    corrected = stored(tmp_path, "truth")
    corrected[:20] = 0
    tifffile.imwrite(tmp_path / "l.tif", corrected[None, None])
    write_truth([str(tmp_path / "l.tif")], made["image"], made["truth"], sample="s")
    np.testing.assert_array_equal(stored(tmp_path, "truth"), corrected)


def test_an_annotation_that_is_written_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    made = prepare(tmp_path, [(150, 140)])
    edited = stored(tmp_path, "truth") * 2
    tifffile.imwrite(tmp_path / "l.tif", edited // 2)

    def meanwhile(*args, real=truth.write_pyramids, **kwargs):
        digests = real(*args, **kwargs)
        tifffile.imwrite(tmp_path / "l.tif", edited)
        return digests

    monkeypatch.setattr(truth, "write_pyramids", meanwhile)
    with pytest.raises(RuntimeError, match=r"l\.tif: written, or taken away, while it was read"):
        write_truth([str(tmp_path / "l.tif")], made["image"], made["truth"], sample="s")
    monkeypatch.undo()
    write_truth([str(tmp_path / "l.tif")], made["image"], made["truth"], sample="s")
    np.testing.assert_array_equal(stored(tmp_path, "truth"), edited)


def test_a_strange_value_is_named(tmp_path):
    values = np.full((40, 40), 7, np.uint8)
    with pytest.raises(RuntimeError, match=r'sample "s"(.|\n)*value 7, which truth.classes \[0, 255\] does not list'):
        annotate(tmp_path, values, kind="classes")


def test_sides_have_to_agree(tmp_path):
    made = prepare(tmp_path, [(150, 140)])
    tifffile.imwrite(tmp_path / "l.tif", np.zeros((150, 141), np.uint8))
    with pytest.raises(RuntimeError, match=r"\(1, 1, 150, 141\), its image \(1, 1, 150, 140\)"):
        write_truth([str(tmp_path / "l.tif")], made["image"], made["truth"], sample="s")


def test_a_mask_is_no_instance_annotation(tmp_path):
    values = np.zeros((150, 140), np.uint8)
    values[10:20, 10:20] = values[80:90, 100:110] = 255
    with pytest.raises(RuntimeError, match=r"no value but 0 and 255, in 2 pieces(.|\n)*set truth.kind to classes"):
        annotate(tmp_path, values)


def test_classes_and_ignored_pixels():
    values = np.array([0, 10, 20, 99])
    assert classes_of(values, kind="classes", classes=(0, 20, 10), ignore=99).tolist() == [0, 2, 1, 255]
    assert classes_of(values, ignore=99).tolist() == [0, 1, 1, 255]


def test_flat_glass_is_no_tissue():
    random = np.random.default_rng(0)
    plane = random.normal(200, 1, (1, 300, 300))
    plane[:, 100:200, 100:200] += random.normal(0, 40, (100, 100))
    found = tissue(plane, contrast=0.3, window=9, margin=0)
    assert found[110:190, 110:190].all()
    assert not found[:80].any()
    assert tissue(plane, contrast=0, window=9, margin=0).all()


def test_a_pixel_is_tissue_where_the_pixel_of_the_coarse_level_is():
    where = np.random.default_rng(0).random((2, 3, 7, 5)) > 0.5
    found = Tissue({place: packed(where[place]) for place in np.ndindex(2, 3)}, (7, 5), 2, {})
    whole = where.repeat(4, axis=2).repeat(4, axis=3)
    for region in (np.s_[0:2, 1:3, 0:27, 0:18], np.s_[1:2, 2:3, 5:14, 3:4]):
        np.testing.assert_array_equal(found.read(region), whole[region])


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        (np.uint8, 1e-12),  # sums in another order
        (np.int16, 1e-12),
        (np.float32, 1e-4),  # numbers are counted to one part in 16,000
    ],
)
@pytest.mark.parametrize("contrast", [0.3, 0])
def test_statistics_are_those_of_the_tissue_of_all_planes(kind, tolerance, contrast):
    random = np.random.default_rng(0)
    pixels = random.normal(100, 1, (2, 2, 3, 90, 80))
    pixels[:, 0, :, 20:60, 30:70] += random.normal(0, 9, (2, 3, 40, 40))
    pixels[:, 1] = 220 - pixels[:, 0]
    pixels = pixels.astype(kind)
    seen = look(pixels, 0, contrast=contrast, window=9, margin=2, percentiles=(2, 97))
    where = np.array([[seen.plane(t, z) for z in range(3)] for t in range(2)])
    assert where.mean() == pytest.approx(seen.numbers["fraction"])
    assert (0.1 < where.mean() < 0.5) if contrast else where.all()
    inside = [channel[where].astype(float) for channel in np.moveaxis(pixels, 1, 0)]
    expected = {
        "low": [np.percentile(values, 2) for values in inside],
        "high": [np.percentile(values, 97) for values in inside],
        "mean": [values.mean() for values in inside],
        "deviation": [values.std() for values in inside],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(seen.numbers[name], values, rtol=tolerance, err_msg=name)


def test_statistics_are_those_of_the_whole_where_nothing_is_tissue():
    pixels = np.arange(600, dtype=np.uint16).reshape(1, 1, 2, 15, 20)
    nothing = np.zeros((15, 20), bool)
    seen = look(pixels, 0, nothing, contrast=0.1, window=3, margin=0, percentiles=(0, 100))
    assert seen.numbers["fraction"] == 0
    assert (seen.numbers["low"], seen.numbers["high"], seen.numbers["mean"]) == ([0.0], [599.0], [299.5])


def test_labels_over_several_files_are_one_annotation(tmp_path):
    volume = np.random.default_rng(0).integers(1, 99, (5, 40, 50)).astype(np.uint8)
    for name in ("image", "labels"):
        (tmp_path / name).mkdir()
        write_several(tmp_path / name, volume)
    image, labels = (sorted(map(str, (tmp_path / name).iterdir())) for name in ("image", "labels"))
    root = tmp_path / "s.ome.zarr" / "zarr.json"
    ingest(image, str(root), sample="s", **SIDES)
    write_truth(labels, str(root), str(tmp_path / "t.json"), sample="s")
    np.testing.assert_array_equal(open_array(root.parent / "0" / "labels" / "truth" / "0")[0], volume)


def test_numbers_below_0_may_be_what_nobody_annotated(tmp_path):
    values = np.kron(np.array([[-1, 3], [0, 5]]), np.ones((30, 30), int)).astype(np.int16)
    with pytest.raises(
        RuntimeError, match=r"ids -1 … 5 leave 0 … \d+; number the objects anew, or set truth.ignore to -1"
    ):
        annotate(tmp_path, values)
    annotate(tmp_path, values, ignore=-1)
    np.testing.assert_array_equal(stored(tmp_path, "truth"), np.maximum(values, 0))
