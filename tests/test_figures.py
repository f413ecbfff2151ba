"""The figures show what training uses: its weights, and one field for image and labels."""

import numpy as np
import pytest
from PIL import Image

from unetpipe import figures
from unetpipe.cli import main
from unetpipe.loss import class_weights
from unetpipe.weights import border_weight, open_gaps


@pytest.fixture
def files(tmp_path):
    """An image and its labels, three squares of which two touch, as files."""
    labels = np.zeros((96, 120), np.uint16)
    labels[10:50, 10:40], labels[10:50, 40:80], labels[60:90, 20:50] = 300, 7, 41
    image = (80 + 100 * (labels > 0) + np.random.default_rng(1).normal(0, 5, labels.shape)).astype(np.uint8)
    for name, pixels in (("image", image), ("labels", labels)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path / "image.png", tmp_path / "labels.png"


def drawn(folder):
    """Width and height of both pictures, which must be whole and below 1 MB."""
    sizes = []
    for path in (folder / "weights.png", folder / "deformation.png"):
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            picture.load()
            sizes.append(picture.size)
        assert 20_000 < path.stat().st_size < 1_000_000
    return sizes


def test_the_command_draws_cells_of_its_own(tmp_path, capsys):
    main(["figures", str(tmp_path / "new")])
    (wide, low), (width, height) = drawn(tmp_path / "new")
    assert 1900 < wide < 2300
    assert 3 < wide / low < 4.5
    assert 700 < width < 900
    assert 0.8 < width / height < 1.2
    assert capsys.readouterr().out.split() == [str(tmp_path / "new" / f"{n}.png") for n in ("weights", "deformation")]


def test_files_are_drawn_in_their_proportions(files, tmp_path):
    image, labels = files
    figures.write_figures(tmp_path, image=image, labels=labels)
    _, (width, height) = drawn(tmp_path)
    assert width / height == pytest.approx(120 / 96, rel=0.1)


def test_pictures_of_noise_are_below_a_megabyte(tmp_path):
    labels = np.zeros((512, 512), np.uint8)
    labels[100:200, 100:300] = 255
    noise = np.random.default_rng(1).integers(0, 256, (512, 512, 3)).astype(np.uint8)
    for name, pixels in (("image", noise), ("labels", labels)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    figures.write_figures(tmp_path, image=tmp_path / "image.png", labels=tmp_path / "labels.png")
    drawn(tmp_path)


def test_the_same_seed_draws_the_same_bytes(files, tmp_path):
    image, labels = files
    first, second = (figures.write_figures(tmp_path / name, image=image, labels=labels) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_weights_are_class_weights_and_border_term():
    _, labels = figures.demo_pair()
    target, weight = figures.weight_map(labels)
    opened = open_gaps(labels, gap=2)
    background, foreground = class_weights(np.array([(opened == 0).sum(), (opened > 0).sum()]), 1.0)
    expected = np.where(opened > 0, foreground, background) + border_weight(opened, border=10.0, sigma=5.0)
    assert (target == (opened > 0)).all()
    np.testing.assert_allclose(weight, expected, rtol=1e-6)  # float32


def test_touching_objects_are_parted_by_a_ridge():
    labels = np.zeros((40, 60), np.uint16)
    labels[5:35, 5:30], labels[5:35, 30:55] = 1, 2
    target, weight = figures.weight_map(labels)
    assert not target[5:35, 29:31].any()
    assert weight[20, 29] > 8 + weight[20, 10]


def test_neighbours_differ_in_colour():
    _, labels = figures.demo_pair()
    colours = figures.colour_numbers(labels)
    assert ((colours == 0) == (labels == 0)).all()
    for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        meet = (labels[a] != labels[b]) & (labels[a] > 0) & (labels[b] > 0)
        assert meet.any()
        assert (colours[a][meet] != colours[b][meet]).all()


def test_of_a_large_image_the_middle_is_read(tmp_path):
    pixels = np.arange(600 * 520).reshape(600, 520)
    for name, dtype in (("image", np.float32), ("labels", np.int32)):
        np.save(tmp_path / f"{name}.npy", pixels.astype(dtype))
    image, labels = figures.read_pair(tmp_path / "image.npy", tmp_path / "labels.npy")
    assert (labels == pixels[44:556, 4:516]).all()
    assert (image[0] == labels).all()


def test_a_file_that_is_missing_is_named(files, tmp_path):
    image, labels = files
    with pytest.raises(SystemExit, match=r"--labels .*none\.png: no such file; give --image and --labels"):
        main(["figures", str(tmp_path), "--image", str(image), "--labels", str(tmp_path / "none.png")])
    with pytest.raises(FileNotFoundError, match=r"--image \(not given\): no such file; give"):
        figures.write_figures(tmp_path, labels=labels)


def test_labels_of_another_shape_are_refused(files, tmp_path):
    image, _ = files
    other = tmp_path / "other.png"
    Image.new("L", (30, 20)).save(other)
    with pytest.raises(
        SystemExit, match=r"image\.png has shape \(96, 120\), --labels .*other\.png has \(20, 30\); give"
    ):
        main(["figures", str(tmp_path), "--image", str(image), "--labels", str(other)])


def test_labels_that_are_no_ids_are_refused(files, tmp_path):
    image, _ = files
    Image.new("RGB", (120, 96)).save(tmp_path / "colours.png")
    with pytest.raises(ValueError, match=r"colours\.png: 3 channels of uint8; save ids as integers in one"):
        figures.write_figures(tmp_path, image=image, labels=tmp_path / "colours.png")


@pytest.mark.parametrize(("number", "share"), [(0, "0%"), (1, "100%")])
def test_labels_without_an_edge_are_refused(number, share):
    with pytest.raises(
        ValueError,
        match=f"objects cover {share} of the first plane.* once gaps are opened; are the labels instance ids",
    ):
        figures.weight_map(np.full((20, 20), number))
