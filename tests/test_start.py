"""From images and labels to a project that runs: pairs, splits, guesses, and errors before anything is written."""

import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image
from scenes import discs, write_pairs, write_several
from test_drawn import square
from test_drawn import write as write_features

from unetpipe.cli import main
from unetpipe.config import load_project, read_config
from unetpipe.doctor.project import examine_project
from unetpipe.manifest import write_json
from unetpipe.network import UNet
from unetpipe.readers.series import Series
from unetpipe.saved import save_network
from unetpipe.start.annotations import describe, pieces
from unetpipe.start.pairing import find_pairs
from unetpipe.start.sequence import neighbours_alike


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    """Paths are relative, as people write them."""
    monkeypatch.chdir(tmp_path)


def write(path, pixels):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels)


def init(*arguments):
    """Begin the project `my`; returns its samples by name, and its config without the defaults."""
    main(["init", "my", *arguments])
    config = Path("my/config.yaml")
    found, problems = load_project(read_config(config), config.parent)
    assert not problems, problems
    return {sample.name: sample for sample in found}, yaml.safe_load(config.read_text())


def refused(*arguments):
    """What is said when a project cannot begin; nothing is left behind."""
    with pytest.raises(SystemExit) as stopped:
        main(["init", "my", *arguments])
    assert not Path("my").exists()
    return str(stopped.value)


def write_outlines(path, features):
    Path(path).parent.mkdir(exist_ok=True)
    write_features(Path(path), features)


def names(files):
    return [Path(path).name for path in files]


class TestProject:
    """What is written runs."""

    def test_it_is_planned_by_snakemake(self):
        write_pairs(Path("data"), [(96, 110)] * 6)
        samples, config = init("--images", "data/images/*.tif", "--labels", "data/labels/*.tif")
        assert {name: len(sample.files) for name, sample in samples.items()} == {"train": 4, "val": 1, "test": 1}
        assert config["data"] == "../data"
        assert config["truth"] == {"kind": "instances"}
        command = [sys.executable, "-c", "from unetpipe.cli import main; main()", "run", "my", "--dry-run"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert re.search(r"^train +1$", done.stdout + done.stderr, flags=re.MULTILINE)

    def test_a_project_behind_a_link(self):
        """It is read from where the link leads."""
        write_pairs(Path("data"), [(60, 60)] * 6)
        Path("disk/far").mkdir(parents=True)
        Path("my").symlink_to("disk/far")
        samples, _ = init("--images", "data/images", "--labels", "data/labels")
        assert sorted(names(file for sample in samples.values() for file in sample.files)) == [
            f"{number:02d}.tif" for number in range(6)
        ]

    def test_edits_are_kept(self, capsys):
        write_pairs(Path("data"), [(60, 60)] * 2)
        arguments = ("--images", "data/images", "--labels", "data/labels")
        init(*arguments)
        first = {path: path.read_text() for path in Path("my").iterdir()}
        edited = first[Path("my/samples.tsv")].replace("\ttest", "\tval")
        Path("my/samples.tsv").write_text(edited)
        Path("my/config.yaml").unlink()
        capsys.readouterr()
        init(*arguments)
        assert Path("my/samples.tsv").read_text() == edited
        assert Path("my/config.yaml").read_text() == first[Path("my/config.yaml")]
        said = capsys.readouterr().out
        assert "kept my/samples.tsv, which is not as it would be written:" in said
        assert re.search(r"^-.*\tval\t?$\n^\+.*\ttest\t?$", said, flags=re.MULTILINE)
        assert "wrote my/config.yaml" in said

    def test_a_kept_sheet_may_be_of_another_program(self, capsys):
        write_pairs(Path("data"), [(60, 60)] * 2)
        arguments = ["init", "my", "--images", "data/images", "--labels", "data/labels"]
        main(arguments)
        sheet = Path("my/samples.tsv")
        text = sheet.read_text()
        sheet.write_text(text, "utf-8-sig")  # as Excel does
        main(arguments)
        assert "kept my/samples.tsv, which is as it would be written\n" in capsys.readouterr().out
        sheet.write_text(text, "utf-16")
        main(arguments)
        said = capsys.readouterr().out
        assert "kept my/samples.tsv, which is not as it would be written:" in said
        assert re.search(r"before it runs, mend\n.*my/samples\.tsv.*save it as text in UTF-8", said)

    def test_slides_without_labels_wait_for_a_network(self, capsys):
        for name in "ab":
            write(f"slides/{name}.tif", np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8))
        main(["init", "my", "--images", "slides"])
        assert "set network to the network.json of a trained network" in capsys.readouterr().out
        assert (Path("my/samples.tsv").read_text().splitlines()[1:]) == ["predict\t*.tif\t\tpredict\t"]
        assert yaml.safe_load(Path("my/config.yaml").read_text())["network"] is None


class TestTrained:
    """A project that predicts with a network of another one."""

    def train(self, **changes):
        """A network that was never trained, as `train` writes it, in a project beside `my`."""
        path = Path("old/results/network/all/network.json")
        note = {
            "channels": ["red", "green", "blue"],
            "pixel_size": [1.0, 0.5, 0.5],
            "percentiles": [1, 99.8],
            "precision": "float32",
            "kept": {"value": 0.9, "threshold": 0.4},
        }
        save_network(UNet(channels=3, depth=2, features=4), path, note | changes)
        return str(path)

    def write_slides(self, pixel_size, channels=3):
        for name in "ab":
            pixels = np.random.default_rng(0).integers(0, 255, (50, 60, channels), np.uint8)
            size = {"resolution": (1e4 / pixel_size, 1e4 / pixel_size), "resolutionunit": "CENTIMETER"}
            Path("slides").mkdir(exist_ok=True)
            tifffile.imwrite(f"slides/{name}.tif", pixels, photometric="rgb", **size)

    def test_it_sees_what_it_learnt(self):
        self.write_slides(0.25)
        samples, config = init("--images", "slides", "--network", self.train())
        assert config["network"] == "../old/results/network/all/network.json"
        assert config["ingest"] == {"resample": 0.5}
        assert config["mask"] == {"contrast": 0, "percentiles": [1, 99.8]}
        assert config["label"] == {"threshold": 0.4}
        assert [(sample.split, len(sample.files)) for sample in samples.values()] == [("predict", 2)]

    def test_what_fits_is_left_as_it_is(self):
        self.write_slides(0.5)
        _, config = init("--images", "slides", "--network", self.train(percentiles=[1, 99], kept=None))
        assert "ingest" not in config
        assert "label" not in config

    def test_annotated_images_are_for_test(self):
        self.write_slides(0.5)
        for name in "ab":
            write(f"truth/{name}.tif", discs((50, 60), seed=1)[1])
        samples, config = init("--images", "slides", "--labels", "truth", "--network", self.train())
        assert [(sample.split, len(sample.files)) for sample in samples.values()] == [("test", 2)]
        assert "weights" not in config

    def test_objects_are_made_as_in_the_run_that_trained_it(self):
        self.write_slides(0.5)
        network, settings = self.train(), {"threshold": 0.3, "min_size": 20, "holes": 64, "expand": 1.0, "split": 1.0}
        for name in "ab":
            write_json(f"old/results/objects/{name}.json", {"settings": settings})
        _, config = init("--images", "slides", "--network", network)
        assert config["label"] == {"threshold": 0.3, "min_size": 20, "split": 1.0}

    def test_channels_are_chosen_by_name(self):
        names = ["DAPI", "red", "green", "blue"]
        pixels = np.zeros((4, 50, 60), np.uint16)
        Path("slides").mkdir()
        tifffile.imwrite("slides/a.ome.tif", pixels, metadata={"axes": "CYX", "Channel": {"Name": names}})
        _, config = init("--images", "slides", "--network", self.train())
        assert config["ingest"] == {"channels": ["red", "green", "blue"]}

    def test_what_it_cannot_see_is_refused(self):
        write("slides/a.tif", np.zeros((50, 60), np.uint8))
        said = refused("--images", "slides", "--network", self.train())
        assert "a.tif has 1 channels, the network was trained on 3: red, green, blue" in said
        assert "nowhere.json" in refused("--images", "slides", "--network", "nowhere.json")


class TestRows:
    """How images become samples."""

    def test_the_others_are_predicted(self):
        for number in range(1, 8):
            image, labels = discs((50, 60), seed=number)
            write(f"data/im {number}.tif", image)
            if number in (2, 4):
                write(f"data/im {number}_mask.tif", labels)
        samples, _ = init("--images", "data", "--labels", "data/*_mask.tif")
        assert sorted(sample.split for sample in samples.values()) == ["predict", "test", "train"]
        assert names(samples["predict"].files) == [f"im {number}.tif" for number in (1, 3, 5, 6, 7)]
        for split in ("train", "test"):
            (image,), (label,) = samples[split].files, samples[split].labels
            assert label == image.replace(".tif", "_mask.tif")

    def test_names_with_wildcards_mean_themselves(self):
        tiles = [f"images/slide{n} [x={n},y=*].tif" for n in range(8)]  # QuPath names tiles much like this
        truth = [path.replace(".tif", "-labelled.tif") for path in tiles]
        for path in [*tiles, *truth, "images/slide1 [x=1,y=77].tif"]:
            write(path, discs((50, 60), seed=1)["labelled" in path])
        samples, _ = init("--images", *tiles, "--labels", *truth)
        files = [path for sample in samples.values() for path in sample.files]
        assert sorted(names(files)) == names(tiles)
        labels = [path for sample in samples.values() for path in sample.labels]
        assert labels == [path.replace(".tif", "-labelled.tif") for path in files]

    @pytest.mark.parametrize("labels", ["truth", "truth/*.geojson"])
    def test_labels_may_be_outlines(self, labels):
        images, _ = write_pairs(Path("data"), [(70, 90)] * 3)
        for number, path in enumerate(images):
            write_outlines(f"truth/{Path(path).stem}.geojson", [square(5, 20 + number), square(30, 50)])
        samples, config = init("--images", "data/images", "--labels", labels)
        files = [path for sample in samples.values() for path in sample.labels]
        assert sorted(names(files)) == ["00.geojson", "01.geojson", "02.geojson"]
        assert config["truth"] == {"kind": "instances"}
        findings = examine_project(read_config("my/config.yaml"), Path("my"), Path("my/results"))
        assert not [finding for finding in findings if finding.mark == "✗"]

    @pytest.mark.parametrize("spelling", ["{here}/same/*_mask.tif", "same/../same/*_mask.tif"])
    def test_labels_are_no_images_however_their_folder_is_spelt(self, spelling):
        for number in range(3):
            for name, pixels in zip((f"{number}.tif", f"{number}_mask.tif"), discs((50, 60), seed=1), strict=True):
                write(f"same/{name}", pixels)
        samples, _ = init("--images", "same", "--labels", spelling.format(here=Path.cwd()))
        assert sorted(name for sample in samples.values() for name in names(sample.files)) == [
            "0.tif",
            "1.tif",
            "2.tif",
        ]
        assert "predict" not in samples

    def test_a_large_image_is_a_sample_of_its_own(self):
        write_pairs(Path("data"), [(60, 60)] * 3)
        tifffile.imwrite("data/slide.tif", np.zeros((4096, 4096), np.uint8), tile=(256, 256), compression="zlib")
        samples, _ = init("--images", "data/images", "data/slide.tif", "--labels", "data/labels")
        assert names(samples["slide"].files) == ["slide.tif"]
        assert {"train", "test"} < set(samples)
        assert len(samples["train"].files) == 2

    def test_files_that_are_one_image_are_one(self):
        Path("data").mkdir()
        write_several(Path("data"), np.random.default_rng(0).integers(0, 255, (3, 40, 50)).astype(np.uint8))
        main(["init", "my", "--images", "data"])
        assert Path("my/samples.tsv").read_text().splitlines()[1:] == ["z0\tz0.ome.tif\t\tpredict\t"]

    def test_groups_never_straddle_splits(self):
        for number in range(12):
            image, labels = discs((50, 60), seed=number)
            write(f"data/mouse{number // 3}_{number}.tif", image)
            write(f"truth/mouse{number // 3}_{number}.tif", labels)
        samples, _ = init("--images", "data/*.tif", "--labels", "truth/*.tif", "--group", "mouse[0-9]")
        split_of = {}
        for sample in samples.values():
            for name in names(sample.files):
                assert split_of.setdefault(name[:6], sample.split) == sample.split
        assert set(split_of.values()) == {"train", "test"}
        assert all(sample.group in name for sample in samples.values() for name in names(sample.files))
        assert sum(bool(sample.group) for sample in samples.values()) == 3

    def test_a_seed_draws_them(self):
        write_pairs(Path("data"), [(40, 40)] * 6)
        drawn = []
        for seed in "1123":
            samples, _ = init("--images", "data/images", "--labels", "data/labels", "--seed", seed)
            drawn.append(names(samples["train"].files))
            Path("my/samples.tsv").unlink()
        assert drawn[0] == drawn[1]
        assert len({*map(tuple, drawn)}) > 1

    def test_of_a_time_lapse_the_last_are_for_test(self, capsys):
        scene, labels = discs((200, 80), seed=3, count=40)
        for frame in range(1, 11):  # moves by 12 of 80 pixels: names out of order, t10 before t2, would look less alike
            write(f"t/t{frame}.tif", scene[12 * frame : 12 * frame + 80])
            write(f"l/t{frame}.tif", labels[12 * frame : 12 * frame + 80])
        samples, _ = init("--images", "t", "--labels", "l")
        assert sorted(names(samples["test"].files)) == ["t10.tif", "t9.tif"]
        assert names(samples["val"].files) == ["t8.tif"]
        assert "images that follow one another look alike" in capsys.readouterr().out

    def test_images_that_are_hardly_alike_are_no_time_lapse(self, capsys):
        write_pairs(Path("data"), [(40, 40)] * 12)
        init("--images", "data/images", "--labels", "data/labels")
        assert "follow one another" not in capsys.readouterr().out

    def test_pixel_size_only_where_the_file_does_not_say(self):
        image, labels = discs((50, 60), seed=1)
        write("data/plain.tif", image)
        tifffile.imwrite("data/sized.tif", image, resolution=(20000, 20000), resolutionunit="CENTIMETER")
        for name in ("plain", "sized"):
            write(f"truth/{name}.tif", labels)
        samples, _ = init("--images", "data", "--labels", "truth", "--pixel-size", "0.25")
        found = {names(sample.files)[0]: sample.pixel_size for sample in samples.values()}
        assert found == {"plain.tif": 0.25, "sized.tif": None}

    def test_size_of_voxels_as_far_as_a_file_does_not_say_it(self, capsys):
        pixels, labels = discs((20, 40, 50), seed=1)
        plane = {"imagej": True, "resolution": (4, 4)}
        tifffile.imwrite("plain.tif", pixels)
        tifffile.imwrite("plane.tif", pixels, **plane, metadata={"unit": "um", "axes": "ZYX"})
        tifffile.imwrite("voxel.tif", pixels, **plane, metadata={"unit": "um", "axes": "ZYX", "spacing": 3.0})
        for name in ("plain", "plane", "voxel"):
            write(f"truth/{name}.tif", labels)
        arguments = ["--images", "*.tif", "--labels", "truth"]
        init(*arguments, "--pixel-size", "0.25")
        assert "how far apart the planes of 2 volumes are is unknown" in capsys.readouterr().out
        Path("my/samples.tsv").unlink()
        samples, _ = init(*arguments, "--pixel-size", "2,0.25,0.25")
        found = {name: sample.pixel_size for sample in samples.values() for name in names(sample.files)}
        assert found == {"plain.tif": [2, 0.25, 0.25], "plane.tif": [2, 0.25, 0.25], "voxel.tif": None}
        assert "how far apart" not in capsys.readouterr().out

    @pytest.mark.parametrize("wrong", ["0,25", "2,0,0.25", "inf", "nan,1,1", "small"])
    def test_size_that_is_none(self, wrong, capsys):
        with pytest.raises(SystemExit):
            main(["init", "my", "--images", "data", "--pixel-size", wrong])
        assert f"'{wrong}' is neither one number above 0 nor three, Z,Y,X" in capsys.readouterr().err


class TestGuesses:
    """What labels mean, and what matters for the images."""

    @pytest.mark.parametrize(
        ("values", "kind", "classes", "ignore"),
        [
            (discs((90, 90), seed=1)[1], "instances", [], None),
            (255 * (discs((90, 90), seed=1)[1] > 0), "classes", [0, 255], None),
            (1 + (discs((90, 90), seed=1)[1] > 0), "classes", [1, 2], None),
            (np.kron(np.arange(16).reshape(4, 4) % 3, np.ones((9, 9), int)), "classes", [0, 1, 2], None),
            (np.kron(np.array([[0, 1, 0, 255], [1, 0, 1, 0]]), np.ones((9, 9), int)), "classes", [0, 1], 255),
            (np.kron(np.arange(1, 17).reshape(4, 4), np.ones((9, 9), int)), "instances", [], None),
        ],
        ids=["numbers", "mask", "mask of 1 and 2", "three classes", "with ignored", "no background"],
    )
    def test_kind(self, values, kind, classes, ignore):
        found = describe([pieces(values[None])])
        assert (found.kind, found.classes, found.ignore) == (kind, classes, ignore)

    @pytest.mark.parametrize("first", [0, 1])
    def test_numbers_below_0_are_nobodys(self, first):
        """Without a 0 too."""
        values = np.kron(np.arange(first, first + 16).reshape(4, 4), np.ones((9, 9), np.int16))
        values[:20, :20] = values[24, :] = -1  # larger than any object
        found = describe([pieces(values[None])])
        assert (found.kind, found.ignore) == ("instances", -1)
        assert found.sizes[2] == 81
        assert found.cover == (values > 0).mean()
        write("a.tif", np.zeros((36, 36), np.uint8))
        write("a_mask.tif", values.astype(np.int16))
        _, config = init("--images", "a.tif", "--labels", "a_mask.tif")
        assert config["truth"] == {"kind": "instances", "ignore": -1}
        assert re.search("ignore: -1 +# guessed: pixels that nobody annotated", Path("my/config.yaml").read_text())

    def test_of_a_mask_the_rest_may_be_negative(self):
        mask = np.kron(np.array([[0, 255, 0, -1], [255, 0, 255, 0]]), np.ones((9, 9), int))
        found = describe([pieces(mask[None])])
        assert (found.kind, found.classes, found.ignore) == ("classes", [0, 255], -1)
        with pytest.raises(ValueError, match="nowhere above 0"):
            describe([pieces(np.minimum(mask, 0)[None])])

    @pytest.mark.parametrize("quality", [75, 95, 100])
    def test_labels_stored_with_loss_are_doubted(self, quality, capsys):
        image, labels = discs((256, 256), seed=1, count=60)
        write("a.tif", image)
        Image.fromarray(np.uint8(255) * (labels > 0)).save("a_mask.jpg", quality=quality)
        init("--images", "a.tif", "--labels", "a_mask.jpg")
        assert "are these labels stored with loss, as JPEG does? Save them as PNG" in capsys.readouterr().out
        assert "stored with loss" in Path("my/config.yaml").read_text()
        for sound in (
            labels,
            np.random.default_rng(0).integers(0, 2, (64, 64)),
            np.kron(labels % 4, np.ones((2, 2), int)),
        ):
            assert "loss" not in describe([pieces(sound[None])]).reason

    def test_what_the_sides_cut_is_not_measured(self):
        values = np.zeros((1, 60, 60), np.uint16)
        values[0, :2, :2], values[0, 10:20, 10:20], values[0, 30:50, 30:50] = 1, 2, 3
        assert describe([pieces(values)]).sizes == (100, 250, 400)

    def test_small_objects_are_not_dropped(self):
        """Of an image of small objects among images of large ones; what nobody would miss is."""
        for number, side in enumerate((40, 40, 6, 40)):
            labels = np.kron(np.diag(np.arange(1, 4)), np.pad(np.ones((side, side), np.uint16), 2))
            labels = np.pad(labels, 5).astype(np.uint16)
            labels[1, 1] = 99
            write(f"data/{number}.tif", (labels > 0).astype(np.uint8) * 100)
            write(f"truth/{number}.tif", labels)
        _, config = init("--images", "data", "--labels", "truth")
        assert 1 < config["label"]["min_size"] <= 36
        assert config["mask"] == {"contrast": 0}

    def test_classes_have_no_gap_between_them(self):
        image, labels = discs((90, 90), seed=1)
        write("data/a.tif", image)
        write("data/a_mask.tif", np.uint8(255) * (labels > 0))
        _, config = init("--images", "data/a.tif", "--labels", "data/a_mask.tif")
        assert config["truth"] == {"kind": "classes", "classes": [0, 255]}
        assert config["weights"] == {"gap": 0}
        assert config["label"]["expand"] == 0

    def test_volumes_in_arrays_of_files(self, capsys):
        for number in range(2):
            image, labels = discs((12, 40, 40), seed=number, radius=5)
            with h5py.File(f"v{number}.h5", "w") as file:
                file["raw"], file["label"] = image, labels
        samples, config = init("--images", "*.h5:/raw", "--labels", "*.h5:/label")
        assert config["dimensions"] == 3
        assert {(s.inside, s.labels_inside, s.split) for s in samples.values()} == {
            ("raw", "label", "train"),
            ("raw", "label", "test"),
        }
        assert "how far apart the planes of 2 volumes are is unknown" in capsys.readouterr().out

    def test_channels_are_named_to_choose_from(self):
        tifffile.imwrite(
            "a.ome.tif", np.zeros((2, 40, 40), np.uint8), metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
        )
        write("a_mask.tif", discs((40, 40), seed=1)[1])
        _, config = init("--images", "a.ome.tif", "--labels", "a_mask.tif")
        assert config["ingest"] == {"channels": ["DAPI", "GFP"]}


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (["x/a.tif", "x/b.tif"], ["y/a.tif", "y/b.tif"]),
        (["a.tif", "b.tif"], ["a_mask.tif", "b_mask.tif"]),
        (["a_img.tif", "b_img.tif"], ["a_cp_masks.png", "b_cp_masks.png"]),
        (["x/1/a.tif", "x/2/a.tif"], ["y/1/a.tif", "y/2/a.tif"]),
        (["imagesTr/a_0000.tif", "imagesTr/b_0000.tif"], ["labelsTr/a.tif", "labelsTr/b.tif"]),
        (["train/images/a.tif", "more/b.tif"], ["train/labels/a.tif", "train/labels/b.tif"]),
        (["image0.tif", "image00.tif", "image10.tif"], ["mask0.tif", "mask00.tif", "mask10.tif"]),
        (["x/a1.tif", "x/a_1.tif"], ["y/a1_mask.png", "y/a_1_mask.png"]),
        (["x/t000.tif", "x/t0000.tif"], ["y/t000_seg.tif", "y/t0000_seg.tif"]),
        (
            ["x/1e2f.tif", "x/1e02f.tif", "x/ab0000cd.tif", "x/abcd.tif"],
            ["y/1e2f.png", "y/1e02f.png", "y/ab0000cd.png", "y/abcd.png"],
        ),
    ],
)
def test_labels_pair_by_name(images, labels):
    for path in images + labels:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    pairs, problems = find_pairs(images, labels)
    assert not problems
    assert {str(image): str(label) for image, label in pairs.items()} == dict(zip(images, labels, strict=True))


def followed(count):
    """Images that follow one another, each half like the one before: coarse pixels, and what reads them."""
    noise = np.random.default_rng(0).normal(size=(count + 1, 8, 8))
    coarse = noise[1:] + noise[:-1]
    read = [lambda _, k=k: coarse[None, None, None, k].repeat(16, 3).repeat(16, 4) for k in range(count)]
    return coarse, [Series("", (1, 1, 1, 128, 128), np.dtype(float), None, ("0",), one) for one in read]


def test_of_few_images_all_are_compared():
    coarse, images = followed(40)
    likeness = np.corrcoef(coarse.reshape(40, -1))
    others = [likeness[a, b] for a in range(40) for b in range(a + 3, 40)]
    near = np.median([likeness[k, k + 1] for k in range(39)])
    assert neighbours_alike(images) == pytest.approx((near, np.percentile(others, 90)))


def test_memory_does_not_grow_with_pairs_of_images():
    _, images = followed(4000)
    tracemalloc.start()
    near, far = neighbours_alike(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000**2 * 8 / 2
    assert (near, far) == pytest.approx((0.5, 0.16), abs=0.02)  # of 64 numbers: 1.28 / 8


class TestErrors:
    """File, value, what to do; and no half project."""

    @pytest.fixture(autouse=True)
    def _data(self):
        write_pairs(Path("data"), [(50, 60)] * 3)

    def test_no_images(self):
        assert "nowhere/*.tif names no image file; mend the path" in refused("--images", "nowhere/*.tif")

    def test_labels_that_pair_with_nothing(self):
        Path("data/labels/00.tif").rename("data/labels/09.tif")
        said = refused("--images", "data/images", "--labels", "data/labels")
        assert "data/labels/09.tif (1 in all): labels of no image; images are data/images/00.tif" in said
        assert "rename these labels, or leave them out of --labels" in said
        samples, _ = init("--images", "data/images", "--labels", "data/labels/01.tif", "data/labels/02.tif")
        assert [names(sample.files) for sample in samples.values() if sample.split == "predict"] == [["00.tif"]]

    def test_labels_that_pair_with_two(self):
        write("data/images/00_raw.tif", discs((50, 60), seed=1)[0])
        said = refused("--images", "data/images", "--labels", "data/labels")
        assert "data/labels/00.tif may be the labels of data/images/00.tif, data/images/00_raw.tif; rename them" in said

    def test_other_sides(self):
        write("data/labels/01.tif", np.ones((50, 61), np.uint8))
        said = refused("--images", "data/images", "--labels", "data/labels")
        assert "data/labels/01.tif, labels of data/images/01.tif: annotation" in said
        assert "has (t, z, y, x) (1, 1, 50, 61), its image (1, 1, 50, 60); save it at that size" in said

    def test_all_unreadable_files_are_named(self):
        Path("data/images/01.tif").write_bytes(b"no image")
        Path("data/labels/02.tif").write_bytes(Path("data/labels/02.tif").read_bytes()[:300])
        said = refused("--images", "data/images", "--labels", "data/labels")
        assert re.search(r"1\. .*data/images/01\.tif.*leave it out\n +2\. .*data/labels/02\.tif", said)

    def test_labels_in_colours(self):
        Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save("data/00_mask.png")
        said = refused("--images", "data/images/00.tif", "--labels", "data/00_mask.png")
        assert "data/00_mask.png, labels of data/images/00.tif: annotation 00_mask has 3 channels of uint8" in said
        assert "labels need one channel of integers" in said

    def test_labels_without_objects(self):
        write("data/labels/00.tif", np.zeros((50, 60), np.uint8))
        said = refused("--images", "data/images/00.tif", "--labels", "data/labels/00.tif")
        assert "the labels are nowhere above 0" in said

    def test_other_channels(self):
        write("data/images/03.tif", np.zeros((50, 60, 3), np.uint8))
        said = refused("--images", "data/images")
        assert "data/images/03.tif (1 in all) have 3 channels, most images have 1" in said

    def test_labels_alone(self):
        assert "names nothing but the labels" in refused("--images", "data/labels", "--labels", "data/labels/*.tif")

    def test_outlines_of_another_image(self):
        write_outlines("truth/00.geojson", [square(10, 61)])
        said = refused("--images", "data/images/00.tif", "--labels", "truth")
        assert "truth/00.geojson, labels of data/images/00.tif: outlines of 00.geojson reach to" in said

    @pytest.mark.parametrize("name", ["a{1}.tif", "a}.tif"])
    def test_braces_in_a_name(self, name):
        Path("data/images/01.tif").rename(f"data/images/{name}")
        said = refused("--images", "data/images")
        assert f"data/images/{name}' has braces in its path, which Snakemake takes for wildcards; rename it" in said

    def test_a_name_that_is_not_in_utf8(self):
        Path("data/images/01.tif").rename(os.fsdecode(b"data/images/caf\xe9.tif"))
        said = refused("--images", "data/images")
        assert r"data/images/caf\udce9.tif' has no UTF-8 in its path; rename it" in said

    def test_groups_that_are_not_there(self):
        arguments = ("--images", "data/images", "--labels", "data/labels", "--group")
        assert "--group mouse finds nothing in data/images/00.tif; widen it" in refused(*arguments, "mouse")
        assert "--group ( is no regular expression" in refused(*arguments, "(")
