"""Everything wrong with config and sheet is found at once, and each sentence says what to do."""

import math
import os
import re
from pathlib import Path

import pytest
import yaml

from unetpipe.config import load_project, read_changes
from unetpipe.network import UNet
from unetpipe.patterns import find
from unetpipe.saved import save_network

DEFAULTS = yaml.safe_load((Path(__file__).parents[1] / "config" / "config.yaml").read_text())


def project(folder, sheet, **changes):
    config = yaml.safe_load(yaml.safe_dump(DEFAULTS))
    for path, value in changes.items():
        *sections, key = path.split("__")
        place = config
        for section in sections:
            place = place[section]
        place[key] = value
    (folder / "samples.tsv").write_text(sheet)
    for name in ("a", "b", "a-truth", "b-truth"):
        (folder / f"{name}.tif").touch()
    return load_project(config, folder)


GOOD = "sample\tpath\tlabels\tsplit\ntrain\ta.tif\ta-truth.tif\ttrain\nslide\tb.tif\t\tpredict\n"


def test_a_right_project_has_no_problems(tmp_path):
    samples, problems = project(tmp_path, GOOD)
    assert not problems
    assert samples[0].files == [str(tmp_path / "a.tif")]
    assert samples[0].labels == [str(tmp_path / "a-truth.tif")]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"weights__sgima": 3}, "unknown key weights.sgima; did you mean sigma?"),
        ({"wieghts": {}}, "unknown key wieghts; did you mean weights?"),
        ({"train__augment__elastc": 3}, "unknown key train.augment.elastc; did you mean elastic?"),
        ({"train__tile": 3}, "train.tile: 3 is neither an integer of at least 4 nor auto"),
        ({"train__folds": 1}, "train.folds: 1 is neither 0 nor an integer of at least 2"),
        ({"train__folds": 3}, "train.folds 3 is more than the 1 groups of the training images"),
        ({"train__learning_rate": math.inf}, "train.learning_rate: inf is not of type 'number'"),
        ({"weights__sigma": 10**400}, "is not of type 'number'"),
        ({"weights__sigma": math.nan}, "weights.sigma: nan is not of type 'number'"),
        ({"ingest__pixel_size": math.inf}, "ingest.pixel_size: inf is not of type"),
        ({"train__steps": -3}, "train.steps: -3 is less than the minimum of 1"),
        ({"samples": "nowhere.tsv"}, "nowhere.tsv, which does not exist"),
        ({"network": "nowhere.json"}, "nowhere.json, which does not exist"),
        ({"predict__block": 500}, "predict.block 500 is not a multiple of 256, which the network's stride 16"),
        ({"predict__block": 528}, "or write one chunk with others; set it to 768, or to auto"),
        ({"dimensions": 3, "predict__planes": 24}, "predict.planes 24 is not a multiple of the network's stride 16"),
        ({"dimensions": 4}, "dimensions: 4 is not one of [2, 3]"),
        ({"dimensions": 3, "train__backbone": "resnet34"}, "train.backbone resnet34 sees planes only"),
        ({"train__pretrained": "cache"}, "train.pretrained cache are weights of a timm model"),
        (
            {"train__backbone": "resnet34", "train__pretrained": "no.safetensors"},
            "no.safetensors, which does not exist",
        ),
        ({"ingest__shard": 1000}, "ingest.shard 1000 is not a multiple of ingest.chunk 256; set it to 1024"),
        ({"mask__percentiles": [99, 1]}, "mask.percentiles 99, 1 do not rise"),
        ({"train__steps": 60.0}, "train.steps: 60.0 is not of type 'integer'"),
        ({"train__deterministic": True, "dimensions": 3}, "train.deterministic cannot be had on a GPU"),
        ({"train__learning_rate": "1e-3"}, "train.learning_rate: '1e-3' is not of type 'number'; write 0.001"),
        ({"label": {0: 5}}, "unknown key label.0; allowed are"),
        ({"truth__kind": "classes", "truth__ignore": 255}, "truth.ignore 255 is one of truth.classes [0, 255]"),
        ({"samples": "."}, "which is a folder; write the sheet"),
        ({"network": "."}, "which is a folder; name the network.json in it"),
        ({"label__threshold": 0.6, "label__core": 0.6}, "label.core 0.6 is not above label.threshold 0.6"),
    ],
)
def test_config_problems(tmp_path, change, sentence):
    _, problems = project(tmp_path, GOOD, **change)
    assert sentence in str(problems)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("x\tc.tif\t\tpredict", "c.tif names no file"),
        ("x\ta.tif\t\ttrain", 'sample "x" is in split train but has no labels'),
        ("x\ta.tif\tc.tif\ttrain", "c.tif names no file; mend labels"),
        ("../x\ta.tif\t\tpredict", "'../x' may have letters, digits"),
        ("x y\ta.tif\t\tpredict", "'x y' may have letters, digits"),
        ("x\ta.tif\t\tpredcit", "'predcit' is not one of"),
        ("x\ta.tif\t\tpredict\nx\tb.tif\t\tpredict", 'sample "x" stands in 2 rows'),
        ("x\t[ab].tif\ta-truth.tif\ttrain", "no labels for"),
        ("x\ta.tif\t\tpredict", "no sample is in split train"),
        ("x\ta.tif\ta-truth.tif\ttrain\ny\ta.tif\ta-truth.tif\ttest", "a.tif is in the splits test, train (1 such"),
    ],
)
def test_sheet_problems(tmp_path, rows, sentence):
    _, problems = project(tmp_path, f"sample\tpath\tlabels\tsplit\n{rows}\n")
    assert sentence in str(problems)


def test_weights_in_the_place_of_a_network_are_named(tmp_path):
    (tmp_path / "network.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0\xff\xfe{}")
    _, problems = project(tmp_path, GOOD, network="network.safetensors")
    assert "network.safetensors is no network, or is damaged; name the network.json that a training wrote" in str(
        problems
    )


@pytest.mark.parametrize(("name", "reason"), [("a{b}.tif", "braces"), (os.fsdecode(b"caf\xe9.tif"), "no UTF-8")])
def test_files_that_snakemake_cannot_name_are_refused(tmp_path, name, reason):
    (tmp_path / name).touch()
    _, problems = project(tmp_path, GOOD + "more\t*.tif\t\tpredict\n")
    assert f"{str(tmp_path / name)!r} has {reason}" in str(problems)
    assert "rename it" in str(problems)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_sheet_of_another_encoding_is_named(tmp_path, encoding):
    sheet = GOOD.replace("slide", "sl\u00fcde").encode(encoding)
    (tmp_path / "other.tsv").write_bytes(sheet)
    _, problems = project(tmp_path, GOOD, samples="other.tsv")
    assert f"{tmp_path / 'other.tsv'}: " in str(problems)
    assert "save it as text in UTF-8, with tabs between the columns" in str(problems)


def test_rows_without_anything_are_no_rows(tmp_path):
    samples, problems = project(tmp_path, GOOD + "\t\t\t\n\n")
    assert not problems
    assert len(samples) == 2
    _, problems = project(tmp_path, GOOD.replace("slide", "\n\nsl ide"))
    assert "samples.tsv, line 5: sample: 'sl ide'" in str(problems)


def test_a_column_stands_once(tmp_path):
    _, problems = project(tmp_path, GOOD.replace("labels", "path"))
    assert "several columns path; keep one" in str(problems)


def test_a_cell_may_name_thousands_of_files(tmp_path):
    names = [f"{number:064x}" for number in range(3000)]
    for name in names:
        (tmp_path / f"{name}.tif").touch()
    _, problems = project(tmp_path, GOOD + f"many\t{{{','.join(names)}}}.tif\t\tpredict\n")
    assert not problems


def test_channels_may_have_spaces_between_them(tmp_path):
    samples, problems = project(tmp_path, "sample\tpath\tsplit\tchannels\nx\ta.tif\tpredict\tDAPI, 2\n", network=None)
    assert samples[0].channels == ["DAPI", "2"]
    assert "no sample is in split train" in str(problems)


def test_what_a_shell_does_not_show_is_no_image(tmp_path):
    for name in ("a.tif", "._a.tif", "b [1].tif"):
        (tmp_path / name).touch()
    assert [path.name for path in find("*.tif", tmp_path).values()] == ["a.tif", "b [1].tif"]
    assert find("b [1].tif", tmp_path) == {(): tmp_path / "b [1].tif"}


@pytest.mark.parametrize("pattern", ["{a (1),b}.tif", "{here/a (1),b}.tif", "*.tif", "[ab]*.tif"])
def test_files_of_any_name_are_found(tmp_path, pattern):
    (tmp_path / "here").mkdir()
    for name in ("a (1)", "b", "here/a (1)"):
        (tmp_path / f"{name}.tif").touch()
    expected = sorted(path for path in tmp_path.rglob("*.tif") if shell_like(path.relative_to(tmp_path), pattern))
    assert expected
    assert sorted(find(pattern, tmp_path).values()) == expected


def shell_like(path, pattern):
    """Whether one of the patterns without braces that it stands for matches, folder by folder."""
    first, braces, last = re.fullmatch(r"([^{]*)(?:\{(.*)\})?(.*)", pattern).groups()
    plain = [Path(f"{first}{word}{last}") for word in (braces or "").split(",")]
    return any(len(one.parts) == len(path.parts) and path.match(str(one)) for one in plain)


def test_only_folders_that_a_pattern_names_are_looked_into(tmp_path, monkeypatch):
    for name in ("a", "b", "c/deep"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "1.tif").touch()
    seen, iterdir = [], Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: seen.append(path) or iterdir(path))
    assert list(find("{a,b}/*.tif", tmp_path).values()) == [tmp_path / "a" / "1.tif"]
    assert set(seen) == {tmp_path, tmp_path / "a", tmp_path / "b"}


def test_a_link_that_leads_nowhere_is_no_file(tmp_path):
    (tmp_path / "lost.tif").symlink_to(tmp_path / "gone.tif")
    assert find("lost.tif", tmp_path) == {}


def test_a_word_that_stands_for_no_file_is_named(tmp_path):
    _, problems = project(tmp_path, GOOD + "x\t{a,bb}.tif\t\tpredict\n")
    assert 'samples.tsv, line 4, sample "x": no file for bb (1 in all) in path' in str(problems)


def test_brackets_that_are_no_choice_are_named(tmp_path):
    _, problems = project(tmp_path, GOOD + "x\ta[z-a].tif\t\tpredict\n")
    assert 'sample "x": path: a[z-a].tif is no pattern: bad character range z-a' in str(problems)


def test_a_linked_project_is_the_same_one(tmp_path):
    (tmp_path / "here" / "project").mkdir(parents=True)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "project").symlink_to(tmp_path / "here" / "project")
    (tmp_path / "here" / "data").mkdir()
    for name in ("a", "b", "a-truth"):
        (tmp_path / "here" / "data" / f"{name}.tif").touch()
    (tmp_path / "here" / "project" / "samples.tsv").write_text(GOOD)
    found = [load_project({**DEFAULTS, "data": "../data"}, tmp_path / way / "project") for way in ("here", "links")]
    assert found[0] == found[1]
    assert not found[0][1]


def test_a_group_may_not_straddle_two_splits(tmp_path):
    rows = "t\ta.tif\ta-truth.tif\ttrain\tm1\nx\tb.tif\tb-truth.tif\ttest\tm1"
    sheet = f"sample\tpath\tlabels\tsplit\tgroup\n{rows}\n"
    _, problems = project(tmp_path, sheet)
    assert 'group "m1" straddles the splits test, train' in str(problems)
    assert not project(tmp_path, sheet.replace("\ttest", "\tpredict"))[1]  # what nobody scores may be of any group


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("0,25", "pixel_size: '0,25' is not of type"),
        ("2,1", "'2,1' is not of"),
        ("2,0,1", "pixel_size.1: 0 is less"),
        ("inf", "pixel_size: inf is not of type"),
        ("2,nan,1", "pixel_size.1: nan is not of type"),
    ],
)
def test_a_pixel_size_is_one_number_or_three(tmp_path, cell, sentence):
    _, problems = project(tmp_path, f"sample\tpath\tlabels\tsplit\tpixel_size\nt\ta.tif\ta-truth.tif\ttrain\t{cell}\n")
    assert sentence in str(problems)


def test_an_unknown_column_is_named(tmp_path):
    _, problems = project(tmp_path, "sample\tpath\tsplit\tlables\nx\ta.tif\tpredict\t\n")
    assert "unknown key lables; did you mean labels?" in str(problems)


def test_all_problems_come_at_once(tmp_path):
    sheet = "sample\tpath\tlabels\tsplit\nx\tc.tif\t\tpredict\ny\ta.tif\t\ttrain\n"
    _, problems = project(tmp_path, sheet, ingest__shard=1000)
    assert len(problems) == 3


def test_wildcards_pair_labels_with_images(tmp_path):
    for name in ("i/1-x.png", "i/2-x.png", "i/2-y.png", "l/1-x.tif", "l/2-y.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    images, labels = find("i/{1,2}-*.png", tmp_path), find("l/{1,2}-*.tif", tmp_path)
    assert [images[key].name for key in labels] == ["1-x.png", "2-y.png"]
    assert list(find("i/2-?.png", tmp_path)) == [("x",), ("y",)]
    assert list(find("*/[!1]-x.*", tmp_path)) == [("i", "2", "png")]


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("train:\n  steps: 10\nmask: {contrast: 0}\ntrain:\n  features: 8\n")
    with pytest.raises(ValueError, match=r"config.yaml, line 4: train stands in line 1 already"):
        read_changes(path)
    path.write_text("train:\n  steps: 10\n  features: 8\n  steps: 20\n")
    with pytest.raises(ValueError, match=r"line 4: steps stands in line 2"):
        read_changes(path)
    path.write_text("train: {steps: 10}\nmask: {contrast: 0}\n")
    assert read_changes(path) == {"train": {"steps": 10}, "mask": {"contrast": 0}}


def test_a_trained_network_says_how_it_saw_grey_values(tmp_path):
    for name, percentiles in (("a", [1, 99.8]), ("b", [1, 99])):
        note = {"channels": ["0"], "percentiles": percentiles, "precision": "float32"}
        save_network(UNet(depth=2, features=4), tmp_path / f"{name}.json", note)
    _, problems = project(tmp_path, GOOD, network="a.json")
    assert "config: mask.percentiles are [1, 99], network" in str(problems)
    assert "a.json learnt with [1, 99.8] and would see other grey values" in str(problems)
    assert not project(tmp_path, GOOD, network="a.json", mask__percentiles=[1, 99.8])[1]
    assert not project(tmp_path, GOOD, network="b.json")[1]


def test_networks_of_two_kinds_are_named_before_anything_starts(tmp_path):
    note = {"channels": ["0"], "percentiles": [1, 99], "precision": "float32"}
    for channels in (1, 3):
        save_network(UNet(channels=channels, depth=2, features=4), tmp_path / f"{channels}.json", note)
    _, problems = project(tmp_path, GOOD, network=["1.json", "3.json"])
    assert "3.json has channels 3" in str(problems)
    (tmp_path / "none.json").write_text("{}")
    assert "none.json is no network" in str(project(tmp_path, GOOD, network="none.json")[1])
    (tmp_path / "3.safetensors").unlink()
    problems = project(tmp_path, GOOD, network="3.json")[1]
    assert "3.json has no 3.safetensors beside it; copy both files" in str(problems)
