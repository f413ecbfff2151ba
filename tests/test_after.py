"""Commands that look at what a run made: the summary says what was counted, a picture shows where objects are."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scenes import SIDES

from unetpipe.cli import main
from unetpipe.ingest import ingest
from unetpipe.report.planes import fullest_plane
from unetpipe.store import create_array, label_path, write_group
from unetpipe.totals import tidy

SHAPE = (2, 1, 5, 40, 50)  # t, c, z, y, x
OBJECTS = [(1, 2, 5), (1, 3, 4), (0, 0, 1)]  # t, front, back: time 1, plane 3 has two


@pytest.fixture
def store(tmp_path):
    """A volume at two times in which each plane has a grey value of its own below a bright corner."""
    image = np.zeros(SHAPE, np.uint8)
    image += np.arange(10, dtype=np.uint8).reshape(2, 1, 5, 1, 1)
    image[..., :20, :25] = 200
    np.save(tmp_path / "a.npy", image)
    root = tmp_path / "results/images/a.ome.zarr"
    ingest([str(tmp_path / "a.npy")], str(root / "zarr.json"), sample="a", **SIDES)
    return root


def write_table(store, series="a"):
    path = store.parents[1] / "objects/a.parquet"
    path.parent.mkdir()
    columns = dict(zip(("t", "front", "back"), zip(*OBJECTS, strict=True), strict=True))
    pd.DataFrame({"series": series, **columns}).to_parquet(path)
    return path


def test_the_summary_names_the_least_intersection_over_union(tmp_path, capsys):
    counts = {"truths": 4, "objects": 5, "covered": 3.0, "matched 0.7": 3, "overlap 0.7": 2.5}
    counts |= {"matched 0.5": 4, "overlap 0.5": 3.0, "pixel_error": 0.1, "rand": 0.9, "information": 0.9}
    (tmp_path / "results/images/s.ome.zarr").mkdir(parents=True)
    (tmp_path / "results/objects").mkdir()
    pd.DataFrame({"id": range(12)}).to_parquet(tmp_path / "results/objects/s.parquet")
    images = pd.DataFrame([{"sample": "s", "split": "test", "series": "x", **counts}])
    tidy(images).to_csv(tmp_path / "results/scores.tsv", sep="\t", index=False)
    main(["summary", str(tmp_path)])
    said = capsys.readouterr().out
    assert "scores (objects at IoU 0.7)" in said
    assert f"{2 * 3 / 9:.3f}" in said
    assert f"  s{' ' * 11}      12   {tmp_path}" in said


def test_the_plane_is_the_one_with_most_objects(store, tmp_path):
    entry = {"shape": SHAPE, "name": "a"}
    path = write_table(store)
    assert fullest_plane(path, entry) == (1, 3)
    assert fullest_plane(path, {**entry, "name": "b"}) == fullest_plane(None, entry) == (1, 2)
    assert fullest_plane(path, {"shape": (1, 1, 1, 40, 50), "name": "a"}) == (0, 0)
    one = tmp_path / "one.parquet"
    pd.DataFrame({"series": ["a"], "t": [0], "front": [1], "back": [4]}).to_parquet(one)
    assert fullest_plane(one, entry) == (0, 2)  # through its middle


def grey_of(path):
    return np.asarray(Image.open(path))


def coloured(drawn):
    """Where the right half is not grey."""
    return np.ptp(drawn[:, 50:], axis=2) > 0


def test_a_picture_shows_the_plane_with_most_objects_or_another(store, tmp_path, capsys):
    objects = label_path(store, "0", "objects")
    array = create_array(objects / "0", (2, 5, 40, 50), np.uint32, chunk=32, shard=64, kind="label")
    array[1, 3, 25:35, 5:15] = 7
    write_group(objects, {})
    write_table(store)
    output = tmp_path / "p.png"
    main(["picture", str(store), str(output)])
    assert capsys.readouterr().out == f"{output}, t 1, z 3\n"
    drawn = grey_of(output)
    assert drawn.shape == (40, 100, 3)
    apart = coloured(drawn)
    assert apart[25:35, 5:15].all()
    assert apart.sum() == 100
    main(["picture", str(store), str(output), "--plane", "0", "1"])
    assert capsys.readouterr().out == f"{output}, t 0, z 1\n"
    assert not coloured(grey_of(output)).any()


def test_a_picture_of_what_has_no_objects_is_the_image(store, tmp_path):
    main(["picture", str(store), str(tmp_path / "p.png")])
    assert grey_of(tmp_path / "p.png").shape == (40, 50, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--plane", "0", "5"], "--plane 0 5: the image has times 0 to 1 and planes 0 to 4"),
        (["--at", "40", "0"], "--at 40 0 lies outside the image"),
        (["--series", "1"], r"--series 1: .*a\.ome\.zarr has images 0 to 0"),
    ],
)
def test_what_a_picture_cannot_show_is_said(store, tmp_path, given, said):
    with pytest.raises(SystemExit, match=said):
        main(["picture", str(store), str(tmp_path / "p.png"), *given])
