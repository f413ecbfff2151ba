"""Objects that somebody drew or corrected are truth: the pixels within their outlines, where all were drawn."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import SIDES
from scipy import ndimage
from skimage.draw import polygon2mask
from skimage.measure import label
from test_measure import blobs

from unetpipe.doctor.project import _files
from unetpipe.ingest import ingest
from unetpipe.outlines import outline
from unetpipe.readers import open_series
from unetpipe.sheet import Sample
from unetpipe.start.annotations import describe, look
from unetpipe.store import label_path, open_array
from unetpipe.truth import write_truth

NOBODY = 2**32 - 1
WHOLE = [[0, 0], [90, 0], [90, 70], [0, 70], [0, 0]]


def feature(geometry, kind="", name="", **plane):
    """As QuPath writes an annotation."""
    named = {"name": name} if name else {}
    classified = {"classification": {"name": kind, "color": [1, 2, 3]}} if kind else {}
    placed = geometry | ({"plane": {"c": -1, "t": 0, **plane}} if plane else {})
    properties = {"objectType": "annotation", **named, **classified}
    return {"type": "Feature", "id": "b3c0", "geometry": placed, "properties": properties}


def square(low, high, **of):
    ring = [[low, low], [high, low], [high, high], [low, high], [low, low]]
    return feature({"type": "Polygon", "coordinates": [ring]}, **of)


def write(path, features):
    text = json.dumps({"type": "FeatureCollection", "features": features}).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def outlined(labels, **of):
    """A feature for each number of a plane, in their order."""
    boxes = ndimage.find_objects(labels)
    return [
        feature(outline(labels[box] == k, box[0].start, box[1].start), **of)
        for k, box in enumerate(boxes, start=1)
        if box
    ]


def read(path, y=(0, 70), x=(0, 90), z=(0, 1)):
    (series,) = open_series(path, palette=False)
    return series.read((slice(0, 1), slice(0, 1), slice(*z), slice(*y), slice(*x)))[0, 0]


@given(seed=st.integers(0, 10**6), y=st.integers(0, 60), x=st.integers(0, 80), packed=st.booleans())
def test_outlines_around_pixels_give_them_back(tmp_path_factory, seed, y, x, packed):
    labels = blobs((70, 90), seed)
    path = tmp_path_factory.mktemp("drawn") / f"a.geojson{'.gz' * packed}"
    write(path, outlined(labels))
    np.testing.assert_array_equal(read(path)[0], labels)
    window = np.pad(labels, 40)[y + 40 : y + 73, x + 40 : x + 61]  # may reach beyond the image
    np.testing.assert_array_equal(read(path, (y, y + 33), (x, x + 21))[0], window)


@given(points=st.lists(st.tuples(st.integers(0, 890), st.integers(0, 690)), min_size=3, max_size=8))
def test_a_hand_drawn_outline_holds_the_pixels_whose_centres_it_holds(tmp_path_factory, points):
    ring = np.array([*points, points[0]]) / 10 + np.sqrt((2, 3)) / 100  # no centre on it, where all decide otherwise
    path = tmp_path_factory.mktemp("drawn") / "a.geojson"
    write(path, [feature({"type": "Polygon", "coordinates": [ring.tolist()]})])
    found = np.block([[read(path, (p, p + 35), (q, q + 30))[0] for q in (0, 30, 60)] for p in (0, 35)])
    np.testing.assert_array_equal(found, polygon2mask((70, 90), ring[:, ::-1] - 0.5))


def test_outside_of_regions_nobody_looked(tmp_path):
    drawn = [square(10, 20), square(5, 40, kind="Region*"), square(30, 50), square(15, 18, kind="Ignore*")]
    found = read(write(tmp_path / "a.geojson", drawn))[0]
    expected = np.full((70, 90), NOBODY)
    expected[5:40, 5:40] = 0
    expected[10:20, 10:20] = 1
    expected[30:40, 30:40] = 2
    expected[15:18, 15:18] = NOBODY
    np.testing.assert_array_equal(found, expected)


def test_the_later_outline_lies_on_top(tmp_path):
    found = read(write(tmp_path / "a.geojson", [square(10, 30), square(20, 40)]))[0]
    assert (found[15, 15], found[25, 25], found[35, 35]) == (1, 2, 2)


def test_in_a_volume_outlines_of_one_name_are_one_object(tmp_path):
    drawn = [square(10, 20, name="a", z=1), square(10, 30, name="a", z=2), square(50, 60, z=2), square(50, 60, z=1)]
    found = read(write(tmp_path / "a.geojson", drawn), z=(0, 4))
    assert found[:, 15, 15].tolist() == [0, 1, 1, 0]
    assert found[:, 55, 55].tolist() == [0, 3, 2, 0]
    found = read(write(tmp_path / "a.geojson", [square(10, 20, name="cell"), square(30, 40, name="cell")]))
    assert (found[0, 15, 15], found[0, 35, 35]) == (1, 2)  # of one plane they are two


def truth(folder, features, shape=(70, 90), *, resample=None, pixel_size=None, **options):
    """`truth` and `classes` of an image whose annotation is drawn."""
    np.save(folder / "a.npy", np.zeros(shape, np.uint8))
    image = folder / "s.ome.zarr" / "zarr.json"
    ingest([str(folder / "a.npy")], str(image), sample="s", resample=resample, pixel_size=pixel_size, **SIDES)
    write(folder / "a.geojson", features)
    write_truth([str(folder / "a.geojson")], str(image), str(folder / "s.json"), sample="s", **options)
    paths = (label_path(folder / "s.ome.zarr", "0", name) / "0" for name in ("truth", "classes"))
    return [open_array(path)[0, 0] for path in paths]


def test_truth_has_the_objects_and_leaves_the_rest_out(tmp_path):
    labels = blobs((70, 90), 3)
    region = feature({"type": "Polygon", "coordinates": [[[0, 0], [90, 0], [90, 35], [0, 35], [0, 0]]]}, "Region*")
    ids, classes = truth(tmp_path, [*outlined(labels), region])
    known = np.arange(70)[:, None] < 35
    np.testing.assert_array_equal(ids, np.where(known, labels, 0))
    np.testing.assert_array_equal(classes, np.where(known, labels > 0, 255))


def test_an_annotated_region_may_be_empty(tmp_path):
    ids, classes = truth(tmp_path, [square(10, 30, kind="Region*")])
    assert not ids.any()
    assert (classes[10:30, 10:30] == 0).all()
    assert (classes == 0).sum() == 20 * 20


def test_outlines_of_a_slide_fit_its_coarser_image(tmp_path):
    ids, _ = truth(tmp_path, [square(20, 40), square(60, 66)], pixel_size=0.25, resample=0.5)
    expected = np.zeros((35, 45), int)
    expected[10:20, 10:20], expected[30:33, 30:33] = 1, 2
    np.testing.assert_array_equal(ids, expected)


def test_outlines_name_their_classes(tmp_path):
    drawn = [square(10, 20, kind="class 2"), square(20, 30, kind="1"), square(40, 60, kind="class 2")]
    ids, classes = truth(tmp_path, drawn, kind="classes", classes=(0, 1, 2))
    assert [(ids[at, at], classes[at, at]) for at in (15, 25, 50)] == [(1, 2), (2, 1), (3, 2)]
    with pytest.raises(RuntimeError, match=r'class "Tumor"; with 3 truth.classes theirs are class 1, class 2'):
        truth(tmp_path, [square(10, 20, kind="Tumor")], kind="classes", classes=(0, 1, 2))


def test_outlines_of_another_image_are_refused(tmp_path):
    with pytest.raises(RuntimeError, match=r"reach to \(.*\) \(1, 1, 71, 71\), their image to \(1, 1, 70, 90\)"):
        truth(tmp_path, [square(10, 71)])


def test_outlines_are_no_image(tmp_path):
    write(tmp_path / "a.geojson", [square(1, 2)])
    with pytest.raises(ValueError, match=r"a\.geojson: outlines are labels, no image"):
        open_series(tmp_path / "a.geojson")


def test_files_of_outlines_are_examined_as_labels(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((70, 90), np.uint8))
    labels = [str(tmp_path / "a.geojson")]
    sample = Sample("s", "train", [str(tmp_path / "a.npy")], labels, "", None, None, parts=1)
    write(tmp_path / "a.geojson", [square(1, 20)])
    assert list(_files(sample)) == []
    (tmp_path / "a.geojson").write_text("{")
    (finding,) = _files(sample)
    assert "not whole GeoJSON" in str(finding)


def test_a_project_may_begin_with_outlines(tmp_path):
    labels = label(blobs((70, 90), 5))
    found = [look(open_series(write(tmp_path / "a.geojson", outlined(labels)), palette=False)[0])]
    annotations = describe(found, drawn=True)
    assert annotations.kind == "instances"
    assert annotations.sizes[2] <= np.bincount(labels.ravel())[1:].max()
    alone = describe([look(open_series(write(tmp_path / "a.geojson", [square(1, 20)]), palette=False)[0])], drawn=True)
    assert (alone.kind, alone.sizes) == ("instances", (361, 361, 361))
