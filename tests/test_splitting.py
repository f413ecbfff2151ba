"""Fused objects are parted at their waists, the same whatever the blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import watershed

from unetpipe import flooding, splitting
from unetpipe.components import Components, space_structure
from unetpipe.label import Objects, Settings
from unetpipe.splitting import Pieces, grown, parted
from unetpipe.store import create_array

AROUND = [(1, 1), (1, 1)]


def discs(shape, centres, radius):
    grid = np.indices(shape)
    return np.any([((grid - np.reshape(c, (-1, 1, 1))) ** 2).sum(axis=0) <= radius**2 for c in centres], axis=0)


def test_two_discs_that_overlap_are_two():
    mask = discs((40, 60), [(20, 18), (20, 38)], 12)
    pieces = parted(mask, 1.0, AROUND, (1.0, 1.0))
    assert pieces.max() == 2
    np.testing.assert_array_equal(pieces > 0, mask)
    np.testing.assert_array_equal(pieces[:, :28] == pieces[20, 18], mask[:, :28])  # parted at the waist, x = 28
    assert parted(mask, 8.0, AROUND, (1.0, 1.0)).max() == 1


@pytest.mark.parametrize("axes", [(12, 12), (8, 20)])
def test_one_ellipse_is_one(axes):
    y, x = np.indices((50, 60))
    mask = ((y - 25) / axes[0]) ** 2 + ((x - 30) / axes[1]) ** 2 <= 1
    assert parted(mask, 0.5, AROUND, (1.0, 1.0)).max() == 1


def test_the_edge_of_the_image_is_no_background():
    mask = discs((40, 60), [(0, 18), (0, 38)], 12)[:13]
    middle = parted(mask, 1.0, [(0, 1), (1, 1)], (1.0, 1.0))
    assert middle.max() == 2
    assert parted(np.ones((9, 9), bool), 0.5, [(0, 0), (0, 0)], (1.0, 1.0)).max() == 1


def test_slices_that_are_far_apart_count_as_far():
    ball = np.zeros((5, 30, 50), bool)
    ball[1:4] = discs((30, 50), [(15, 16), (15, 33)], 10)
    around = [(1, 1)] * 3
    assert parted(ball, 1.0, around, (5.0, 1.0, 1.0)).max() == 2
    assert parted(ball, 1.0, around, (1.0, 1.0, 1.0)).max() == 1  # a flat plate: the nearest background is above it


def scene(seed, shape):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.5)
    return field > np.quantile(field, 0.55)


def rebuilt(seed, mask):
    """Reconstruction by dilation, by its definition."""
    while True:
        grown = np.minimum(ndimage.grey_dilation(seed, size=(3, 3)), mask)
        if (grown == seed).all():
            return seed
        seed = grown


def summits(height, drop):
    """Maxima between which it falls by more than so much, equal ones as one."""
    levelled = rebuilt(height - drop, height)
    return levelled - rebuilt(levelled - 1e-9, levelled) > 1e-10


def numbered(pieces, shape, min_size):
    """Ids of the large ones among masks in boxes, by their first pixels."""
    out, whole = np.zeros(shape, int), []
    for box, mask in pieces:
        where = np.zeros(shape, bool)
        where[box] = mask
        whole += [where] if where.sum() >= min_size else []
    for number, where in enumerate(sorted(whole, key=lambda one: np.flatnonzero(one)[0]), start=1):
        out[where] = number
    return out


def on_the_whole(mask, height, min_size):
    """By the definition, component by component of the whole image."""
    parts, pieces = label(mask, connectivity=1), []
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        one = parts[box] == number
        if one.sum() < min_size:
            continue
        pad = [(int(p.start > 0), int(p.stop < n)) for p, n in zip(box, mask.shape, strict=True)]
        padded = np.pad(one, pad)
        inner = tuple(slice(low, low + size) for (low, _), size in zip(pad, one.shape, strict=True))
        distance = ndimage.distance_transform_edt(padded)[inner]
        smooth = ndimage.gaussian_filter(distance, 1.0) * one
        seeds, count = ndimage.label(summits(smooth, height) & one, np.ones((3, 3)))
        found = watershed(-smooth, seeds, mask=one) if count > 1 and not padded.all() else one.astype(int)
        pieces += [(box, found == piece) for piece in range(1, found.max() + 1)]
    return numbered(pieces, mask.shape, min_size)


@pytest.mark.parametrize("block", [16, 37, 200])
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), height=st.sampled_from([0.3, 0.75, 2.0]), reach=st.sampled_from([0, 8, 256]))
def test_blocks_give_the_pieces_of_the_whole(block, seed, height, reach):
    mask = scene(seed, (70, 90))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "REACH", reach)
        structure, sides = space_structure(1), (1, 1, block, block)
        parts = Components(lambda r: mask[None, None][r], (1, 1, 70, 90), sides, structure, boxes=True, workers=2)
        pieces = Pieces(parts, height=height, min_size=12, spacing=(1.0, 1.0, 1.0), workers=2)
    expected = on_the_whole(mask, height, 12)
    assert pieces.count == expected.max()
    for region in ((slice(0, 70), slice(0, 90)), (slice(30, 61), slice(13, 88))):
        found = pieces.paint((slice(0, 1), slice(0, 1), *region))[0, 0]
        np.testing.assert_array_equal(found, expected[region])


def test_volumes_and_times_are_parted_apart():
    mask = np.stack([scene(seed, (6, 40, 50)) for seed in (1, 2)])
    structure = space_structure(1)
    one, many = (
        Pieces(
            Components(lambda r: mask[r], mask.shape, sides, structure, boxes=True),
            height=0.5,
            min_size=5,
            spacing=(2.0, 1.0, 1.0),
            workers=1,
        )
        for sides in ((2, 6, 40, 50), (1, 4, 16, 16))
    )
    everything = tuple(slice(0, size) for size in mask.shape)
    assert one.count == many.count > len(one.split) > 0
    np.testing.assert_array_equal(one.paint(everything), many.paint(everything))


def bridged():
    """Two discs, a bridge between them that is less probable, and a bright spot on it."""
    grid = np.indices((40, 60))
    levels = np.zeros((40, 60), int)
    for x in (15, 45):
        levels = np.maximum(levels, np.clip(250 - 12 * np.hypot(grid[0] - 20, grid[1] - x), 0, 250).astype(int))
    levels[17:24, 15:46] = np.maximum(levels[17:24, 15:46], 140)
    levels[20, 30] = 230
    return levels


def test_cores_are_parted_and_grow_back_to_the_bridge():
    levels = bridged()
    mask = levels > 127
    how = {"pad": AROUND, "spacing": (1.0, 1.0)}
    pieces = grown(mask, levels, 200, min_size=5, height=0.0, **how)
    assert pieces.max() == 2  # the spot of one pixel is no core
    np.testing.assert_array_equal(pieces > 0, mask)
    assert set(np.unique(pieces[:, :25])) == {0, 1}
    assert set(np.unique(pieces[:, 36:])) == {0, 2}
    assert grown(mask, levels, 200, min_size=1, height=0.0, **how).max() == 3
    assert (grown(mask, levels, 249, min_size=5, height=0.0, **how) == mask).all()  # no core is large enough
    assert (grown(mask, levels, 130, min_size=5, height=0.0, **how) == mask).all()  # one core


def test_cores_are_parted_at_their_waists_too():
    mask = discs((40, 90), [(20, 18), (20, 38), (20, 70)], 12) | (np.indices((40, 90))[0] == 20)
    levels = np.where(discs((40, 90), [(20, 18), (20, 38), (20, 70)], 12), 250, 150)
    for height, count in ((0.0, 2), (1.0, 3)):
        pieces = grown(mask, levels, 200, min_size=5, height=height, pad=AROUND, spacing=(1.0, 1.0))
        assert pieces.max() == count
        assert len(set(pieces[20, [18, 38, 70]])) == count
        np.testing.assert_array_equal(pieces > 0, mask)


def flooded(levels, threshold, core, min_size):
    """By the definition, component by component of the whole image."""
    parts, pieces = label(levels > threshold, connectivity=1), []
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        one = parts[box] == number
        seeds = label(one & (levels[box] > core), connectivity=1)
        seeds[np.bincount(seeds.ravel())[seeds] < min_size] = 0
        found = watershed(-levels[box], seeds, mask=one) if seeds.any() else one.astype(int)
        pieces += [(box, found == piece) for piece in np.unique(found[one])]
    return numbered(pieces, levels.shape, min_size)


@pytest.mark.parametrize("block", [16, 37, 200])
@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6), core=st.sampled_from([130, 160, 210]), shape=st.sampled_from([(70, 90), (9, 30, 40)])
)
def test_blocks_give_the_watershed_of_each_component(block, seed, core, shape):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.0)
    levels = (255 * (field - field.min()) / np.ptp(field)).astype(int)
    sides = (1, 1, *shape)[-4:]
    expected = flooded(levels, 120, core, 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "REACH", seed % 3 * 8)
        patch.setattr(splitting, "DEPTH", 3 + seed % 2 * 13)
        cut = (1, min(block, 4), block, block)
        parts = Components(
            lambda r: levels.reshape(sides)[r] > 120, sides, cut, space_structure(1), boxes=True, workers=2
        )
        pieces = Pieces(
            parts,
            height=0.0,
            min_size=12,
            spacing=(1.0, 1.0, 1.0),
            core=core,
            levels=lambda r: levels.reshape(sides)[r],
            workers=2,
        )
    assert pieces.count == expected.max()
    whole = tuple(slice(0, side) for side in sides)
    np.testing.assert_array_equal(pieces.paint(whole).reshape(shape), expected)


def parted_into_cores(levels, cut, core, workers=1):
    """Of 12 pixels or more, above 120."""
    sides = (1, 1, *levels.shape)[-4:]
    read = levels.reshape(sides)
    parts = Components(lambda r: read[r] > 120, sides, cut, space_structure(1), boxes=True, workers=workers)
    how = {"height": 0.0, "min_size": 12, "spacing": (1.0, 1.0, 1.0), "core": core, "levels": lambda r: read[r]}
    pieces = Pieces(parts, **how, workers=workers)
    return pieces.count, pieces.paint(tuple(slice(0, side) for side in sides)).reshape(levels.shape)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    core=st.sampled_from([130, 160, 210]),
    shape=st.sampled_from([(70, 90), (9, 30, 40)]),
    margin=st.sampled_from([12, 90]),
    largest=st.sampled_from([0, 300]),
)
def test_cores_of_components_too_large_to_be_held_grow_in_tiles(seed, core, shape, margin, largest):
    """Whatever the blocks; as in the whole where the margin holds it, else but for pixels far from their core."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.0)
    levels = (255 * (field - field.min()) / np.ptp(field)).astype(int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "LARGEST", largest)
        patch.setattr(flooding, "PLANE", flooding.Grid((1, 1, 16, 16), (0, 0, margin, margin)))
        patch.setattr(flooding, "VOLUME", flooding.Grid((1, 4, 16, 16), (0, margin, margin, margin)))
        count, found = parted_into_cores(levels, (1, 4, 16, 16), core)
        again, same = parted_into_cores(levels, (1, 9, 37, 200), core, workers=2)
    expected = flooded(levels, 120, core, 12)
    assert count == again == expected.max()
    np.testing.assert_array_equal(found, same)
    if margin == 90:
        np.testing.assert_array_equal(found, expected)
    else:
        seeds = label(levels > core, connectivity=1)
        seeds[np.bincount(seeds.ravel())[seeds] < 12] = 0
        pairs = np.unique(np.stack([seeds, expected, found])[:, seeds > 0], axis=1)
        assert len(np.unique(pairs[1])) == len(np.unique(pairs[2])) == len(np.unique(pairs[1:], axis=1).T)
        assert (found[expected == 0] == 0).all()


def test_a_component_that_is_too_large_stays_whole_and_is_said_to(monkeypatch, caplog):
    monkeypatch.setattr(splitting, "LARGEST", 500)
    mask = discs((40, 60), [(20, 18), (20, 38)], 12)[None, None]
    parts = Components(lambda r: mask[r], mask.shape, (1, 1, 32, 32), space_structure(1), boxes=True)
    assert Pieces(parts, height=1.0, min_size=1, spacing=(1.0, 1.0, 1.0), workers=1).count == 1
    assert "too large to be parted" in caplog.text


def test_the_stage_parts_fused_objects(tmp_path):
    mask = discs((40, 60), [(20, 18), (20, 38)], 12)
    create_array(tmp_path / "0", (1, 1, 1, 40, 60), np.uint8, chunk=32, shard=64)[...] = 255 * mask[None, None, None]
    halves = np.repeat(bridged()[None, None, None] // 2, 2, axis=1)  # of two classes
    create_array(tmp_path / "1", halves.shape, np.uint8, chunk=32, shard=64)[...] = halves
    for name, split, core, count in (("0", 0.0, 0.0, 1), ("0", 1.0, 0.0, 2), ("1", 0.0, 0.0, 1), ("1", 0.0, 0.8, 2)):
        assert Objects(tmp_path / name, 32, Settings(0.5, 20, 10, 0, split, core), workers=2).count() == count
