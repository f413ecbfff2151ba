"""Images of several magnifications become those of one, block by block as at once."""

from itertools import pairwise, product

import cloudpickle
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from scenes import SIDES, discs

from unetpipe.ingest import ingest
from unetpipe.label import write_objects
from unetpipe.mask import write_mask
from unetpipe.network import UNet
from unetpipe.notes import Expected, check_image, read_notes
from unetpipe.outlines import outline
from unetpipe.predict.part import predict_part
from unetpipe.predict.publish import publish_probabilities
from unetpipe.readers import open_series
from unetpipe.readers.chosen import chosen
from unetpipe.readers.rescaled import nearest, rescaled
from unetpipe.readers.series import Plane, Region, Series, lazy
from unetpipe.saved import save_network
from unetpipe.store import create_array, image_metadata, open_array, read_attributes, write_group
from unetpipe.trained import predict_file
from unetpipe.truth import write_truth


def series(pixels, size):
    """A series of one plane (y, x)."""
    whole = pixels[None, None, None]

    def read(region: Region) -> np.ndarray:
        return whole[region]

    return Series("a", whole.shape, pixels.dtype, (1.0, size, size), ("0",), read)


def everything(one):
    return one.read(tuple(slice(0, size) for size in one.shape))[0, 0, 0]


def area_mean(pixels, step, side):
    """Along the first axis, by the definition: the integral over a new pixel, as a sum over fine samples."""
    fine = 1000
    samples = np.repeat(pixels.astype(float), fine, axis=0)
    edges = [min(round(k * step * fine), len(samples)) for k in range(side + 1)]
    return np.stack([samples[low:high].mean(axis=0) for low, high in pairwise(edges)])


@given(
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    step=st.sampled_from([0.31, 0.5, 0.9, 1.25, 1.5, 2.0, 3.7]),
    cut=st.tuples(st.integers(1, 39), st.integers(1, 39)),
    seed=st.integers(0, 1000),
)
def test_blocks_are_those_of_the_whole(sides, step, cut, seed):
    pixels = np.random.default_rng(seed).integers(0, 255, sides, np.uint8)
    one = rescaled(series(pixels, 1.0), step)
    whole, ids = everything(one), nearest(lambda region: pixels[region], one.origin)
    labels = ids(tuple(slice(0, size) for size in whole.shape))
    halves = [[slice(0, min(c, n)), slice(min(c, n), n)] for c, n in zip(cut, whole.shape, strict=True)]
    for rows, columns in product(*halves):
        if rows.stop > rows.start and columns.stop > columns.start:
            part = one.read((*[slice(0, 1)] * 3, rows, columns))[0, 0, 0]
            np.testing.assert_array_equal(part, whole[rows, columns])
            np.testing.assert_array_equal(ids((rows, columns)), labels[rows, columns])


@pytest.mark.parametrize("step", [1.25, 2.0, 3.7])
def test_coarser_pixels_are_means_over_their_areas(step):
    pixels = np.random.default_rng(1).integers(0, 60000, (30, 41), np.uint16)
    found = everything(rescaled(series(pixels, 1.0), step))
    rows = area_mean(pixels, step, found.shape[0])
    expected = area_mean(rows.T, step, found.shape[1]).T
    assert np.abs(found - expected).max() <= 0.51


@given(
    sides=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    step=st.sampled_from([2, 4, 8]),
    seed=st.integers(0, 99),
)
def test_a_pyramid_gives_what_its_finest_level_gives(sides, step, seed):
    """Levels are means of 2 x 2 and 4 x 4, whose last pixels may be cut off: there alone the finest knows more."""
    pixels = np.random.default_rng(seed).random(sides).astype(np.float32)
    levels = [pixels]
    for _ in range(2):
        y, x = (side // 2 for side in levels[-1].shape)
        levels.append(levels[-1][: 2 * y, : 2 * x].reshape(y, 2, x, 2).mean(axis=(1, 3)))
    whole = series(pixels, 1.0)
    found = everything(rescaled(whole._replace(coarser=tuple(series(level, 1.0) for level in levels[1:])), step))
    expected = everything(rescaled(whole, step))
    assert found.shape == expected.shape
    inner = tuple(slice(0, (side - 4) // step) for side in sides)
    np.testing.assert_allclose(found[inner], expected[inner], rtol=1e-5)  # float32 sums in another order


def test_finer_pixels_lie_on_the_line_between():
    ramp = np.tile(np.arange(0, 200, 10, dtype=np.float32), (20, 1))
    found = everything(rescaled(series(ramp, 1.0), 0.5))
    assert found.shape == (40, 40)
    np.testing.assert_allclose(
        found[:, 1:-1],
        np.tile(10 * ((np.arange(1, 39) + 0.5) / 2 - 0.5), (40, 1)),
        rtol=1e-6,  # float32
    )  # float32


def test_labels_are_those_under_the_centres():
    ids = np.kron(np.arange(30).reshape(5, 6), np.ones((2, 2), int))
    found = nearest(lambda region: ids[region], Plane(ids.shape, (2.0, 2.0)))((slice(0, 5), slice(0, 6)))
    np.testing.assert_array_equal(found, np.arange(30).reshape(5, 6))


def write(path, pixels, size):
    tifffile.imwrite(path, pixels, metadata={"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": size})
    return str(path)


def test_nearly_the_same_pixel_size_is_the_same(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (50, 60), np.uint8)
    output = tmp_path / "s.ome.zarr" / "zarr.json"
    ingest([write(tmp_path / "a.ome.tif", pixels, 0.499)], str(output), sample="s", resample=0.5, **SIDES)
    np.testing.assert_array_equal(open_array(output.parent / "0" / "0")[0, 0, 0], pixels)


def test_an_unknown_pixel_size_cannot_be_resampled(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((40, 50), np.uint8))
    with pytest.raises(RuntimeError, match=r"a: unknown pixel size, so it cannot be brought to 0.5 µm; give it in"):
        ingest([str(tmp_path / "a.npy")], str(tmp_path / "s" / "zarr.json"), sample="s", resample=0.5)


def test_a_given_pixel_size_must_not_contradict_the_file(tmp_path):
    path, output = write(tmp_path / "a.ome.tif", np.zeros((40, 50), np.uint8), 0.25), tmp_path / "s" / "zarr.json"
    with pytest.raises(
        RuntimeError, match=r"is 1 x 0.5 x 0.5 µm along z, y, x, the file says 1 x 0.25 x 0.25 µm; .*override"
    ):
        ingest([path], str(output), sample="s", pixel_size=0.5)
    ingest([path], str(output), sample="s", pixel_size=0.254)
    ingest([path], str(output), sample="s", pixel_size=0.5, override=True)
    assert read_attributes(output)["series"][0]["pixel_size"] == [1.0, 0.5, 0.5]


@pytest.mark.parametrize("own", [2.0, 1.0])
def test_a_given_distance_of_planes_contradicts_only_what_a_file_says(own):
    """A distance of 1 µm is what files say that know none."""
    one = lazy("a", np.zeros((3, 40, 50), np.uint8), "zyx", (own, 0.25, 0.25))
    assert chosen(one, pixel_size=[2.01, 0.25, 0.25]).pixel_size == (2.01, 0.25, 0.25)
    assert chosen(one, pixel_size=[3.0, 0.25, 0.25], override=True).pixel_size == (3.0, 0.25, 0.25)
    if own != 1.0:
        with pytest.raises(ValueError, match=r"a: pixel_size is 3 x 0.25 x 0.25 µm along z, y, x, the file says 2 x"):
            chosen(one, pixel_size=[3.0, 0.25, 0.25])
    plane = lazy("a", np.zeros((1, 40, 50), np.uint8), "zyx", (own, 0.25, 0.25))
    assert chosen(plane, pixel_size=[3.0, 0.25, 0.25]).pixel_size == (3.0, 0.25, 0.25)


def pyramid(folder, kind, levels):
    """A file whose levels hold what they are given, whatever that is."""
    path = folder / f"a.{kind}"
    if kind == "ome.zarr":
        ome = image_metadata("a", len(levels), (1.0, 0.25, 0.25), [{"label": "0"}])
        for number, level in enumerate(levels):
            shape = (1, 1, 1, *level.shape)
            create_array(path / str(number), shape, level.dtype, chunk=32, shard=64)[...] = level.reshape(shape)
        write_group(path, {"ome": ome})
        return path
    with tifffile.TiffWriter(path) as file:
        if kind == "svs":
            for number, level in enumerate(levels):
                colours, told = np.repeat(level[..., None], 3, axis=2), "Aperio Image Library v11\n|MPP = 0.25"
                jpeg = {"compression": "jpeg", "photometric": "rgb", "subfiletype": int(number > 0)}
                file.write(colours, tile=(64, 64), description=told, metadata=None, **jpeg)
            return path
        size = {"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}
        file.write(levels[0], subifds=len(levels) - 1, tile=(64, 64), **size)
        for level in levels[1:]:
            file.write(level, subfiletype=1, tile=(64, 64))
    return path


@pytest.mark.parametrize("kind", ["tif", "ome.zarr", "svs"])
@pytest.mark.parametrize(("pixel_size", "level"), [(0.4, 0), (0.5, 1), (0.99, 2), (1.5, 2)])
def test_the_coarsest_level_that_is_fine_enough_is_read(tmp_path, kind, pixel_size, level):
    sides = [(256, 192), (128, 96), (64, 48)]
    path = pyramid(tmp_path, kind, [np.full(side, 10 * (k + 1), np.uint8) for k, side in enumerate(sides)])
    (one,) = open_series(path)
    found = rescaled(one, pixel_size)
    np.testing.assert_array_equal(everything(found), 10 * (level + 1))
    assert found.shape[3:] == tuple(round(side * 0.25 / pixel_size) for side in sides[0])
    assert found.origin.sides == sides[0]
    again = cloudpickle.loads(cloudpickle.dumps(found.read))  # as another process reads it
    np.testing.assert_array_equal(again((slice(0, 1),) * 3 + (slice(3, 9), slice(5, 9))), 10 * (level + 1))


def test_a_level_that_is_cut_short_is_not_read(tmp_path):
    path = pyramid(tmp_path, "tif", [np.full(side, 7, np.uint8) for side in ((256, 192), (128, 96))])
    path.write_bytes(path.read_bytes()[:-99])
    (one,) = open_series(path)
    np.testing.assert_array_equal(everything(rescaled(one, 0.5)), 7)
    assert one.coarser == ()


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """A slide at 40 x, its copy at 20 x, annotations of both, and a network for 20 x that was never trained."""
    folder = tmp_path_factory.mktemp("slides")
    pixels, ids = discs((400, 360), seed=3, count=30, radius=16)
    coarse = np.rint(pixels.reshape(200, 2, 180, 2).mean(axis=(1, 3))).astype(np.uint8)
    images = {"40": write(folder / "40.ome.tif", pixels, 0.25), "20": write(folder / "20.ome.tif", coarse, 0.5)}
    labels = {"40": write(folder / "40.ids.tif", ids, 0.25), "20": write(folder / "20.ids.tif", ids[1::2, 1::2], 0.5)}
    note = {"precision": "float32", "percentiles": [1, 99], "pixel_size": [1.0, 0.5, 0.5]}
    save_network(UNet(features=4, depth=2, dropout=0.0), folder / "network.json", note)
    return folder, images, labels


def chain(folder, image, label):
    store, truth, tissue = folder / "i.ome.zarr" / "zarr.json", folder / "truth.json", folder / "tissue.json"
    ingest([image], str(store), sample="s", resample=0.5, **SIDES)
    write_truth([label], str(store), str(truth), sample="s")
    write_mask(str(store), str(tissue), sample="s", contrast=0)
    return store, tissue


def test_two_magnifications_give_the_same_objects(slides, tmp_path):
    folder, images, labels = slides
    found, truths = {}, {}
    for name in images:
        store, tissue = chain(tmp_path / name, images[name], labels[name])
        probabilities = str(tmp_path / name / "p.zarr" / "zarr.json")
        paths = [str(store), str(tissue), [str(folder / "network.json")]]
        predict_part(*paths, str(tmp_path / name / "0.json"), store=probabilities, sample="s", block=64)
        publish_probabilities(*paths, probabilities, sample="s", block=64)
        objects = {"threshold": 0.5, "min_size": 20, "holes": 0, "expand": 0}
        write_objects(str(store), probabilities, str(tmp_path / name / "o.json"), sample="s", **objects)
        found[name], truths[name] = (
            open_array(store.parent / "0" / "labels" / n / "0")[0, 0] for n in ("objects", "truth")
        )
    np.testing.assert_array_equal(found["20"], found["40"])
    assert (truths["20"] == truths["40"]).mean() > 0.98  # centres of coarse pixels lie on corners of fine ones


def test_a_network_refuses_another_magnification(slides, tmp_path):
    folder, images, _ = slides
    store, tissue = tmp_path / "s.ome.zarr" / "zarr.json", tmp_path / "tissue.json"
    ingest([images["40"]], str(store), sample="s", **SIDES)
    write_mask(str(store), str(tissue), sample="s", contrast=0)
    networks = [str(folder / "network.json")]
    said = pytest.raises(
        ValueError, match=r"has pixels of 0.25 µm, network .* trained on 0.5 µm; set ingest.resample to 0.5"
    )
    with said:
        predict_part(str(store), str(tissue), networks, "0.json", store="p/zarr.json", sample="s")
    with said:  # before a GPU is asked for
        write_mask(str(store), str(tissue), sample="s", contrast=0, networks=networks)


def test_a_predicted_image_has_the_channels_of_the_training_images(slides, tmp_path):
    _, images, _ = slides
    colours, grey = (str(tmp_path / f"{name}.ome.zarr" / "zarr.json") for name in ("colours", "grey"))
    np.save(tmp_path / "colours.npy", np.zeros((50, 60, 3), np.uint8))
    ingest([str(tmp_path / "colours.npy")], colours, sample="colours", **SIDES)
    ingest([images["40"]], grey, sample="grey", **SIDES)
    with pytest.raises(ValueError, match=r'sample "grey": image 40 has 1 channels, training image colours has 3'):
        write_mask(grey, str(tmp_path / "t.json"), sample="grey", like=[colours])
    write_mask(grey, str(tmp_path / "t.json"), sample="grey", like=[grey])


def test_one_file_is_brought_to_the_pixel_size_of_the_network(slides, tmp_path):
    folder, images, _ = slides
    found = [open_array(predict_file([folder / "network.json"], images[n], tmp_path / n) / "0")[...] for n in images]
    np.testing.assert_array_equal(*found)


def test_outlines_are_in_pixels_of_the_file():
    mask = np.ones((2, 3), bool)
    ring = np.array(outline(mask, 4, 5, (2.0, 2.0))["coordinates"][0])
    assert (ring.min(axis=0).tolist(), ring.max(axis=0).tolist()) == ([10, 8], [16, 12])


def test_channels_of_the_same_names_in_another_order_are_refused():
    image = {"name": "i", "shape": (1, 2, 1, 8, 8), "pixel_size": None, "channels": ["GFP", "DAPI"]}
    check_image(image, "s", Expected(2, ["a", "b"], None, "network n was trained on"))
    check_image(image, "s", Expected(2, ["GFP", "DAPI"], None, "network n was trained on"))
    with pytest.raises(ValueError, match="channels GFP, DAPI in this order, network n was trained on DAPI, GFP; write"):
        check_image(image, "s", Expected(2, ["DAPI", "GFP"], None, "network n was trained on"))


@pytest.mark.parametrize(("key", "value"), [("percentiles", [20, 60]), ("pixel_size", [1.0, 0.5, 0.5])])
def test_networks_that_see_other_grey_values_or_sizes_are_not_averaged(tmp_path, key, value):
    note = {"precision": "float32", "percentiles": [1, 99], "pixel_size": [1.0, 0.25, 0.25]}
    for name, more in (("a", {}), ("near", {"pixel_size": [3.0, 0.26, 0.26]}), ("far", {key: value})):
        save_network(UNet(depth=1, features=2), tmp_path / f"{name}.json", note | more)
    a, near, far = (str(tmp_path / f"{name}.json") for name in ("a", "near", "far"))
    assert len(read_notes([a, near])) == 2
    for pair in ([a, far], [far, a]):
        with pytest.raises(ValueError, match=f"has {key} .*; only networks of one kind can be averaged"):
            read_notes(pair)
