"""The demo data are what their users rely on: repeatable, whole, crowded, and too hard for a threshold."""

import json

import numpy as np
import pytest
import tifffile
from skimage.measure import label

from unetpipe import demo


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return demo.write_demo(tmp_path_factory.mktemp("demo"), seed=1, slide_shape=(1024, 1024))


@pytest.fixture(scope="module")
def pairs(folder):
    """Image and labels of every file, by name."""
    found = {
        f"{group}/{file.name}": (file, folder / group / "labels" / file.name)
        for group in ("train", "test")
        for file in sorted((folder / group / "images").iterdir())
    }
    found["slide"] = folder / "slide/slide.tif", folder / "slide/labels.tif"
    return {name: tuple(map(tifffile.imread, files)) for name, files in found.items()}


def f1(truth, found):
    """F1 of objects that match where their IoU is at least a half, written as it is defined."""
    matches = 0
    for number in np.unique(truth[truth > 0]):
        mine = truth == number
        overlapping = found[mine]
        for other in np.unique(overlapping[overlapping > 0]):
            theirs = found == other
            matches += (mine & theirs).sum() > 0.5 * (mine | theirs).sum()
    return 2 * matches / (len(np.unique(truth[truth > 0])) + len(np.unique(found[found > 0])))


def touching_naive(labels):
    touching = set()
    padded = np.pad(labels, 1)
    for y, x in np.argwhere(padded):
        for neighbour in (padded[y + 1, x], padded[y - 1, x], padded[y, x + 1], padded[y, x - 1]):
            if neighbour not in (0, padded[y, x]):
                touching.add(padded[y, x])
    return len(touching) / len(np.unique(labels[labels > 0]))


def contents(folder):
    return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_the_folder_holds_what_it_promises(pairs):
    names = [f"train/{n:02d}.tif" for n in range(8)] + [f"test/{n:02d}.tif" for n in range(4)]
    assert list(pairs) == [*names, "slide"]
    for name, (image, labels) in pairs.items():
        assert image.shape == labels.shape == ((1024, 1024) if name == "slide" else (512, 512))
        assert image.dtype == np.uint8
        assert labels.dtype == np.uint16


def test_labels_are_consecutive_whole_and_not_tiny(pairs):
    for _, labels in pairs.values():
        count = labels.max()
        assert set(np.unique(labels)) == set(range(count + 1))
        assert label(labels, connectivity=1).max() == count
        assert np.bincount(labels.ravel())[1:].min() >= demo.SMALLEST


def test_most_cells_touch_another(pairs):
    assert all(demo.touching_fraction(labels) >= 0.7 for _, labels in pairs.values())


def test_cells_are_of_the_size_of_cells(pairs):
    for _, labels in pairs.values():
        diameters = 2 * np.sqrt(np.bincount(labels.ravel())[1:] / np.pi)
        assert 22 < np.median(diameters) < 50
        assert np.percentile(diameters, 99) < 55


@pytest.mark.parametrize("group", ["train", "test", "slide"])
def test_a_global_threshold_fails(pairs, group):
    scores = [f1(labels, demo.otsu_objects(image)) for name, (image, labels) in pairs.items() if name.startswith(group)]
    assert np.mean(scores) <= 0.4


def test_threshold_takes_the_better_polarity(pairs):
    image, labels = pairs["test/00.tif"]
    dark = demo.otsu_objects(image)
    assert f1(labels, dark) > 0.1
    assert abs(f1(labels, demo.otsu_objects(255 - image)) - f1(labels, dark)) < 0.05


def test_threshold_finds_separate_discs():
    y, x = np.mgrid[:200, :200] % 50 - 25
    discs = y**2 + x**2 < 15**2
    for image in (np.where(discs, 40, 200), np.where(discs, 200, 40)):
        found = demo.otsu_objects(image.astype(np.uint8))
        assert np.array_equal(found, label(discs, connectivity=1))


def test_neighbours_differ_from_their_seam(pairs):
    """What touches is told apart by eye: contacts are brighter than the cells on either side."""
    for image, labels in pairs.values():
        a, b = labels[:, 3:-4], labels[:, 4:-3]
        contact = (a != b) & (a > 0) & (b > 0) & (labels[:, :-7] == a) & (labels[:, 7:] == b)
        light = image.astype(int)
        seam = (light[:, 3:-4] + light[:, 4:-3])[contact] / 2
        sides = (light[:, :-7] + light[:, 7:])[contact] / 2
        assert np.mean(seam > sides + 3) > 0.75


def test_glass_is_flat(pairs):
    image, labels = pairs["slide"]
    assert 0.15 < np.mean(labels > 0) < 0.3
    corner = image[:64, :64]
    assert not labels[:64, :64].any()
    assert corner.std() < 3


def test_touching_fraction_equals_the_definition():
    labels = np.random.default_rng(0).choice(6, (5, 7), p=[0.75, *[0.05] * 5])
    assert demo.touching_fraction(labels) == touching_naive(labels)
    assert demo.touching_fraction(np.array([[1, 0], [0, 2]])) == 0
    assert demo.touching_fraction(np.array([[1, 2], [0, 7]])) == 1
    assert demo.touching_fraction(np.zeros((3, 3), int)) == 0


def test_touching_fraction_of_drawn_cells_equals_the_definition():
    _, labels = demo.draw_cells((160, 200), seed=3)
    assert demo.touching_fraction(labels) == touching_naive(labels)


def test_same_seed_same_cells_other_seed_other_cells():
    first, again, other = (demo.draw_cells((128, 96), seed=seed) for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[1], other[1])


def test_cells_lie_where_they_may():
    occupied = np.array([[False, True], [False, False]])
    _, labels = demo.draw_cells((400, 400), seed=0, occupied=occupied)
    assert labels[:200, 200:].any()
    assert not labels[250:].any()
    assert not labels[:, :150].any()


def test_glass_alone():
    image, labels = demo.draw_cells((100, 120), seed=0, occupied=np.zeros((1, 1), bool))
    assert not labels.any()
    assert image.std() < 3


def test_same_seed_same_bytes(folder, tmp_path):
    again = demo.write_demo(tmp_path, seed=1, slide_shape=(1024, 1024))
    assert contents(again) == contents(folder)


def test_other_seed_other_bytes(tmp_path):
    one, two = ([*demo._write_slide(tmp_path / str(n), n, (512, 512))] for n in (1, 2))
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(one, two, strict=True))


def test_slide_is_a_tiled_pyramid_with_a_pixel_size(folder):
    with tifffile.TiffFile(folder / "slide/slide.tif") as tiff:
        series, page = tiff.series[0], tiff.pages[0]
        assert [level.shape for level in series.levels] == [(1024, 1024), (512, 512)]
        assert page.tile == (256, 256)
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert 'PhysicalSizeX="0.5"' in tiff.ome_metadata
        fine, coarse = (level.asarray().astype(float) for level in series.levels)
    assert page.get_resolution("MICROMETER") == (2, 2)
    assert abs(fine.reshape(512, 2, 512, 2).mean((1, 3)) - coarse).max() <= 0.5


def test_every_file_has_a_pixel_size_and_no_date(folder):
    for file in folder.rglob("*.tif"):
        with tifffile.TiffFile(file) as tiff:
            assert tiff.pages[0].get_resolution("MICROMETER") == (2, 2)
            assert "DateTime" not in tiff.pages[0].tags


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A demo of two tiny files, and the list of the files drawn so far."""
    drawn = []

    def write(folder, *_):
        drawn.append(folder)
        yield demo._write_tiff(folder / f"{len(drawn)}.tif", [np.zeros((8, 8), np.uint8)])

    monkeypatch.setattr(demo, "_write_fields", write)
    monkeypatch.setattr(demo, "_write_slide", write)
    return demo.write_demo(tmp_path, seed=1), drawn


def test_second_call_draws_nothing(small):
    folder, drawn = small
    before = contents(folder)
    assert demo.write_demo(str(folder), seed=1) == folder
    assert len(drawn) == 2
    assert contents(folder) == before


@pytest.mark.parametrize("harm", ["missing", "cut", "unfinished", "seed", "shape", "revision"])
def test_what_is_not_complete_is_drawn_again(small, harm, monkeypatch):
    folder, drawn = small
    file, done = folder / "1.tif", folder / "demo.json"
    match harm:
        case "missing":
            file.unlink()
        case "cut":
            file.write_bytes(file.read_bytes()[:-1])
        case "unfinished":
            done.unlink()
        case "revision":
            monkeypatch.setattr(demo, "REVISION", demo.REVISION + 1)
    shape = (512, 512) if harm == "shape" else (4096, 4096)
    demo.write_demo(folder, seed=2 if harm == "seed" else 1, slide_shape=shape)
    assert len(drawn) == 4


def test_a_folder_is_not_called_complete_while_it_is_redrawn(small, monkeypatch):
    folder, _ = small

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(demo, "_write_slide", fail)
    with pytest.raises(OSError, match="disk full"):
        demo.write_demo(folder, seed=2)
    assert not (folder / "demo.json").exists()


def test_stamp_tells_seed_and_revision(folder):
    stamp = json.loads((folder / "demo.json").read_text())
    assert (stamp["seed"], stamp["revision"]) == (1, demo.REVISION)
    assert len(stamp["bytes"]) == 26
