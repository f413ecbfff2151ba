"""Regions that somebody drew decide where there is anything to see."""

import gzip
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from scenes import SIDES, write_pairs
from test_config import project

from unetpipe.ingest import ingest
from unetpipe.manifest import read_json
from unetpipe.mask import write_mask
from unetpipe.regions import inside, read_regions
from unetpipe.store import open_array

SQUARE = [[10, 20], [50, 20], [50, 40], [10, 40], [10, 20]]
HOLE = [[20, 25], [30, 25], [30, 35], [20, 35], [20, 25]]
POLYGON = {"type": "Polygon", "coordinates": [SQUARE, HOLE]}
MULTI = {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE], [[[0, 0], [5, 0], [5, 5], [0, 0]]]]}


def feature(geometry):
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation"}}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("content", "count"),
    [
        ({"type": "FeatureCollection", "features": [feature(POLYGON), feature(MULTI)]}, 3),
        ([feature(POLYGON)], 1),
        (feature(MULTI), 2),
        (POLYGON, 1),
        ({"type": "GeometryCollection", "geometries": [POLYGON, {"type": "Point", "coordinates": [1, 2]}]}, 1),
    ],
)
def test_exports_of_every_shape_are_read(tmp_path, content, count, packed):
    text = json.dumps(content).encode()
    (tmp_path / "a.geojson").write_bytes(gzip.compress(text) if packed else text)
    found = read_regions(tmp_path / "a.geojson")
    assert len(found) == count
    np.testing.assert_array_equal(found[0][0], SQUARE)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"type": "Feature"}', b"\x1f\x8bxx", b'{"type": "Polygon", "coordinates": [[1]]}']
)
def test_something_else_is_refused(tmp_path, content):
    (tmp_path / "a.geojson").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.geojson: (not whole GeoJSON|no polygon)"):
        read_regions(tmp_path / "a.geojson")


def test_a_file_without_polygons_is_refused(tmp_path):
    (tmp_path / "a.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(ValueError, match="no polygon in it; draw the region as one"):
        read_regions(tmp_path / "a.geojson")


points = st.lists(st.tuples(st.integers(-50, 350), st.integers(-50, 250)), min_size=3, max_size=8)


@given(points=points, step=st.sampled_from([1.0, 2.0, 3.7]))
def test_pixels_are_inside_where_their_centres_are(points, step):
    ring = np.array(points) / 10 + np.sqrt((2, 3)) / 100  # no centre on an outline, where everybody decides otherwise
    shape = (20, 30)
    y, x = (np.indices(shape) + 0.5) * step
    closed = np.vstack([ring, ring[:1]])
    crossings = np.zeros(shape, int)
    for (x0, y0), (x1, y1) in pairwise(closed):
        if y0 != y1:
            spans = (y >= min(y0, y1)) & (y < max(y0, y1))
            crossings += spans & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    np.testing.assert_array_equal(inside([[ring]], shape, (step, step)), crossings % 2 == 1)


def test_holes_are_left_out_and_regions_add_up():
    found = inside([[np.array(SQUARE), np.array(HOLE)], [np.array(SQUARE) + 100]], (150, 170))
    centres = np.stack(np.indices((150, 170))[::-1] + 0.5, axis=-1).reshape(-1, 2)
    outer, hole, other = (
        Outline(np.array(ring) + shift).contains_points(centres).reshape(150, 170)
        for ring, shift in ((SQUARE, 0), (HOLE, 0), (SQUARE, 100))
    )
    np.testing.assert_array_equal(found, (outer & ~hole) | other)


@pytest.fixture
def image(tmp_path):
    images, _ = write_pairs(tmp_path, [(150, 203)])
    ingest(images, str(tmp_path / "s.ome.zarr" / "zarr.json"), sample="s", **SIDES)
    (tmp_path / "a.geojson").write_text(json.dumps(feature(POLYGON)))
    return tmp_path


def mask(folder, **options):
    write_mask(str(folder / "s.ome.zarr" / "zarr.json"), str(folder / "t.json"), sample="s", contrast=0, **options)
    return open_array(folder / "s.ome.zarr" / "0" / "labels" / "tissue" / "0")[0, 0], read_json(folder / "t.json")


def test_only_what_was_drawn_is_tissue(image):
    drawn = [str(image / "a.geojson")]
    found, manifest = mask(image, roi=drawn)
    expected = inside(read_regions(drawn[0]), found.shape)
    np.testing.assert_array_equal(found, expected)
    (series,) = manifest["series"]
    assert series["fraction"] == pytest.approx(expected.mean())
    whole, _ = mask(image)
    assert whole.all()
    (image / "a.geojson").write_text(json.dumps(feature({**POLYGON, "coordinates": [SQUARE]})))
    again, _ = mask(image, roi=drawn)
    assert again.sum() == 40 * 20


def test_each_series_needs_a_file_of_its_own(image):
    with pytest.raises(ValueError, match=r'sample "s": 2 files of regions for 1 images'):
        mask(image, roi=[str(image / "a.geojson")] * 2)


def test_the_sheet_pairs_regions_with_images(tmp_path):
    (tmp_path / "a.geojson").touch()
    rows = "sample\tpath\tlabels\tsplit\troi\nt\ta.tif\ta-truth.tif\ttrain\t\ns\ta.tif\t\tpredict\t{}\n"
    samples, problems = project(tmp_path, rows.format("a.geojson"))
    assert not problems
    assert [sample.roi for sample in samples] == [(), (str(tmp_path / "a.geojson"),)]
    _, problems = project(tmp_path, rows.format("b.geojson"))
    assert "b.geojson names no file; mend roi or the key data" in str(problems)
