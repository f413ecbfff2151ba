"""What is wrong with machine, project or cluster is named before a run, with what to do."""

import json
import resource
import shutil
import subprocess

import numpy as np
import pytest
import tifffile
import torch
import yaml
from projects import ROOT, draw_data
from safetensors.torch import save_file
from scenes import write_several

from unetpipe.cli import main
from unetpipe.config import read_config
from unetpipe.doctor import examine_cluster, examine_machine, examine_project, machine
from unetpipe.doctor.cluster import Needs, _minutes
from unetpipe.network import UNet
from unetpipe.pretrained import import_timm
from unetpipe.saved import save_network

PROFILE = ROOT / "profiles" / "slurm"


def said(findings):
    return "\n".join(map(str, findings))


@pytest.fixture
def project(tmp_path):
    project = draw_data(tmp_path)
    write(project)
    return project


def write(project):
    (project.folder / "config.yaml").write_text(yaml.safe_dump(project.config))
    (project.folder / "samples.tsv").write_text("\n".join(project.rows) + "\n")


def add_column(project, *cells):
    project.rows = [f"{row}\t{cell}" for row, cell in zip(project.rows, cells, strict=True)]
    write(project)


def examined(project):
    config = read_config(project.folder / "config.yaml")
    return list(examine_project(config, project.folder, project.folder / "results"))


class TestMachine:
    """What every job relies on."""

    def test_this_one_is_fit(self):
        """These tests run in it."""
        assert not [finding for finding in examine_machine() if finding.mark == "✗"]

    def test_packages_of_other_versions(self, tmp_path, monkeypatch):
        lock = tmp_path / "requirements.lock"
        lock.write_text("numpy==0.1\nno-such-package==1.0\n")
        monkeypatch.setattr(machine, "LOCK", lock)
        text = said(examine_machine())
        assert f"numpy {np.__version__} instead of 0.1, no-such-package missing instead of 1.0; make setup" in text

    def test_no_compiler_few_files_and_gpus_that_torch_does_not_see(self, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda _: None)
        monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 4096))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        monkeypatch.setattr(machine.Path, "exists", lambda _: True)
        text = said(examine_machine())
        assert "– no C++ compiler" in text
        assert "✗ 64 files may be open at once, fewer than 256; ulimit -n 4096" in text
        assert "✗ there is a driver for GPUs, but torch" in text


class TestProject:
    """What is said of config, sheet and files."""

    def test_a_good_one_ends_with_0(self, project, capsys):
        with pytest.raises(SystemExit, match=r"^0$"):
            main(["doctor", str(project.folder)])
        text = capsys.readouterr().out
        assert "✗" not in text
        assert "✓ config and sheet: 3 samples" in text
        assert "✓ 11 files open" in text

    def test_everything_wrong_with_config_and_sheet(self, project, capsys):
        project.config["weights"] = {"sgima": 5}
        write(project)
        with pytest.raises(SystemExit, match=r"^1$"):
            main(["doctor", str(project.folder / "config.yaml")])
        assert "✗ config: unknown key weights.sgima; did you mean sigma?" in capsys.readouterr().out

    def test_a_truncated_image_and_labels_that_are_none(self, project):
        slide = project.folder / "slide.tif"
        slide.write_bytes(slide.read_bytes()[:1000])
        (project.folder / "train" / "labels" / "00.tif").write_text("")
        bad = [finding.what for finding in examined(project) if finding.mark == "✗"]
        assert len(bad) == 2
        assert bad[0].startswith('sample "train": ')
        assert "labels/00.tif" in bad[0]
        assert bad[1].startswith('sample "slide": ')
        assert "slide.tif" in bad[1]

    def test_labels_of_another_size_and_regions_that_are_none(self, project):
        tifffile.imwrite(project.folder / "test" / "labels" / "00.tif", np.ones((7, 9), np.uint8))
        (project.folder / "roi.geojson").write_text('{"type": "Feat')
        add_column(project, "roi", "", "", "roi.geojson")
        bad = [finding.what for finding in examined(project) if finding.mark == "✗"]
        assert len(bad) == 2
        assert bad[0].startswith('sample "test": annotation 00 has (t, z, y, x) (1, 1, 7, 9), its image (1, 1, ')
        assert bad[1].startswith('sample "slide": ')
        assert "roi.geojson" in bad[1]

    def test_a_volume_of_several_files_has_one_annotation(self, project):
        volume = np.random.default_rng(0).integers(1, 99, (5, 40, 50)).astype(np.uint8)
        for name in ("v", "l"):
            (project.folder / name).mkdir()
            write_several(project.folder / name, volume)
        project.rows.append("volume\tv/*.ome.tif\tl/*.ome.tif\ttest")
        write(project)
        assert [finding.what for finding in examined(project) if finding.mark == "✗"] == []

    def test_pretrained_weights_of_another_model(self, project):
        """Told before a job waits for a GPU."""
        project.config["train"] |= {"backbone": "test_resnet", "pretrained": "w.safetensors"}
        write(project)
        content = import_timm().create_model("test_resnet").state_dict()
        save_file(content, project.folder / "w.safetensors")
        assert f"✓ {project.folder / 'w.safetensors'} holds weights of test_resnet" in said(examined(project))
        save_file({"backbone." + name: tensor for name, tensor in content.items()}, project.folder / "w.safetensors")
        found = [finding for finding in examined(project) if finding.mark == "✗"]
        assert len(found) == 1
        assert "w.safetensors holds no weights of test_resnet" in found[0].what

    def test_a_lock_that_a_killed_run_left(self, project):
        locks = project.folder / ".snakemake" / "locks"
        locks.mkdir(parents=True)
        assert "is locked" not in said(examined(project))
        (locks / "0.input.lock").touch()
        assert f"{project.folder} is locked: a run goes on there, or was killed" in said(examined(project))

    def test_a_network_that_is_damaged(self, project):
        save_network(UNet(depth=2, features=4), project.folder / "n.json", {"precision": "float32"})
        project.config["network"] = "n.json"
        write(project)
        assert "is whole" in said(examined(project))
        weights = project.folder / "n.safetensors"
        weights.write_bytes(weights.read_bytes()[:-4] + b"\0\1\2\3")
        found = [finding for finding in examined(project) if finding.mark == "✗"]
        assert len(found) == 1
        assert "n.safetensors" in found[0].what

    def test_images_that_the_network_could_not_see(self, project):
        """Told before anything is trained."""
        slide = project.folder / "slide.tif"
        grey = tifffile.imread(slide)
        tifffile.imwrite(slide, np.stack([grey] * 3, axis=-1), photometric="rgb")
        assert '✗ sample "slide": image slide has 3 channels, training image 00 has 1; choose' in said(
            examined(project)
        )
        add_column(project, "channels", "", "", "green")
        assert "✗" not in said(examined(project))
        add_column(project, "pixel_size", "0.5", "0.5", "0.25")
        text = said(examined(project))
        assert '✗ sample "slide": image slide has pixels of 0.25 µm, training image 00 has 0.5 µm' in text
        assert text.count("✗") == 1
        project.config["ingest"] |= {"resample": 0.5}
        write(project)
        assert "✗" not in said(examined(project))

    def test_images_that_could_not_be_stored_as_the_sheet_says(self, project):
        add_column(project, "channels", "", "", "DAPI")
        text = said(examined(project))
        assert "✗ sample \"slide\": slide: no channel 'DAPI'; choose of 0 by name or from 0 by number" in text
        assert text.count("✗") == 1
        project.config["ingest"] |= {"resample": 0.5}
        write(project)
        text = said(examined(project))
        assert '✗ sample "train": 00: unknown pixel size, so it cannot be brought to 0.5 µm' in text
        assert text.count("✗") == 3

    def test_no_room(self, project, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
        assert "– disk: 0.0 GB at most, before compression; 0.0 GB are free; see that there is room" in said(
            examined(project)
        )

    def test_a_backbone_has_no_plan(self, project):
        project.config["train"] |= {"backbone": "resnet18", "depth": 4}
        write(project)
        assert "– how much disk the results take is not known" in said(examined(project))


class Slurm:
    """Answers of a cluster; the real one is asked in test_slurm.py."""

    def __init__(self, **settings):
        self.settings = {"SLURM_VERSION": "22.05.8", "ClusterName": "c", "MinJobAge": "300 sec"}
        self.settings |= {"AccountingStorageType": "accounting_storage/slurmdbd", "PreemptMode": "REQUEUE"}
        self.settings |= {"JobRequeue": "1", **settings}
        self.partitions, self.seen = "cpu|1-00:00:00\ngpu|infinite\n", {"gpus": 1, "shared": True}
        self.refused = ""
        self.run = subprocess.run

    def __call__(self, command, **options):
        name = str(command[0])
        if name == "scontrol":
            return self.answer("".join(f"{key} = {value}\n" for key, value in self.settings.items()))
        if name == "sinfo":
            return self.answer(self.partitions)
        if name == "sbatch":
            return self.answer("", int(bool(self.refused)), self.refused or "sbatch: Job 1 to start at noon")
        if name == "srun":
            return self.answer(json.dumps({"package": str(ROOT / "unetpipe" / "__init__.py"), **self.seen}))
        return self.run(command, **options)

    @staticmethod
    def answer(text, code=0, error=""):
        return subprocess.CompletedProcess([], code, text, error)


@pytest.fixture
def slurm(monkeypatch):
    slurm = Slurm()
    monkeypatch.setattr(subprocess, "run", slurm)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    return slurm


class TestCluster:
    """What is made of the answers of a cluster."""

    def test_another_executor_and_no_slurm_at_all(self, tmp_path, monkeypatch):
        assert "executor local; only slurm can be examined" in said(
            examine_cluster(ROOT / "profiles" / "default", None, tmp_path)
        )
        monkeypatch.setattr(shutil, "which", lambda _: None)
        assert "✗ sbatch, srun, scontrol, sinfo not found" in said(examine_cluster(PROFILE, None, tmp_path))

    def test_a_job_of_every_rule_is_tried_as_the_profile_submits_it(self, slurm, tmp_path):
        text = said(examine_cluster(PROFILE, None, tmp_path))
        assert "✗" not in text
        assert "✓ train: 8 cores, 16000 MB, 1440 min, 1 GPU: Job 1 to start at noon" in text
        assert "✓ measure: 2 cores, 4000 MB, 240 min: Job 1 to start at noon" in text
        assert text.count("a short job ran") == 2
        assert slurm.settings["SLURM_VERSION"] in text
        assert list(tmp_path.iterdir()) == [tmp_path / ".snakemake"]

    @pytest.mark.usefixtures("slurm")
    def test_images_may_lie_elsewhere(self, tmp_path):
        """As `--data` says: the folder that the config names is not there."""
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "a.tif").touch()
        (tmp_path / "config.yaml").write_text("samples: samples.tsv\ndata: nowhere\n")
        rows = ["sample\tpath\tlabels\tsplit", "a\ta.tif\ta.tif\ttrain"]
        (tmp_path / "samples.tsv").write_text("\n".join(rows))
        given = PROFILE, tmp_path / "config.yaml", tmp_path
        assert "nowhere/a.tif names no file" in said(examine_cluster(*given))
        assert "✓ train: 8 cores" in said(examine_cluster(*given, tmp_path / "elsewhere"))

    def test_what_a_site_may_have_set_otherwise(self, slurm, tmp_path):
        slurm.settings |= {"MinJobAge": "10 sec", "AccountingStorageType": "accounting_storage/none"}
        slurm.partitions = "gpu|2:00:00\n"
        slurm.seen["gpus"] = 0
        text = said(examine_cluster(PROFILE, None, tmp_path))
        assert "✗ MinJobAge is 10 s" in text
        assert "no accounting; the profile asks squeue" in text
        assert "✗ ingest: no partition cpu; there are gpu" in text
        assert "partition gpu ends jobs after 120 min; set runtime of train to at most 120 under set-resources" in text
        assert "✗ partition gpu: 1 GPU granted, torch sees 0" in text

    def test_what_slurm_refuses_and_a_folder_that_the_nodes_do_not_see(self, slurm, tmp_path):
        slurm.refused = "sbatch: error: Invalid account\nallocation failure: Unspecified error"
        slurm.seen["shared"] = False
        text = said(examine_cluster(PROFILE, None, tmp_path))
        assert "✗ label: 2 cores, 2000 MB, 240 min: error: Invalid account Unspecified error; mend the profile" in text
        assert f"✗ partition cpu: {tmp_path} is not the same there; keep the project on a file system" in text

    @pytest.mark.usefixtures("slurm")
    def test_a_profile_that_snakemake_does_not_understand(self, tmp_path):
        shutil.copytree(PROFILE, tmp_path / "profile")
        with open(tmp_path / "profile" / "config.yaml", "a") as file:
            file.write("no-such-option: 1\n")
        text = said(examine_cluster(tmp_path / "profile", None, tmp_path))
        assert "✗ snakemake --dry-run" in text
        assert "no-such-option" in text

    @pytest.mark.parametrize(
        ("limit", "minutes"), [("infinite", np.inf), ("30:00", 30), ("4:00:00", 240), ("1-12:00:00", 2160)]
    )
    def test_limits_as_slurm_writes_them(self, limit, minutes):
        assert _minutes(limit) == minutes

    def test_options_are_those_of_the_executor(self):
        """Compared with what the executor itself would say."""
        from types import SimpleNamespace

        from snakemake_executor_plugin_slurm.submit_string import get_submit_command
        from snakemake_executor_plugin_slurm.utils import set_gres_string

        class Given(dict):
            __getattr__ = dict.__getitem__

        given = Given(mem_mb=3000, runtime=60, gpu=2, gpu_model="a100", qos="long", slurm_extra="--nice=5")
        given |= {"slurm_partition": "gpu", "slurm_account": "lab"}
        job = SimpleNamespace(resources=given, threads=4)
        names = ("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir")
        theirs = get_submit_command(job, dict.fromkeys(names, "")) + set_gres_string(job)
        ours = Needs("train", 4, {key: str(value) for key, value in given.items()}).options()
        assert {"--partition=gpu", "--account=lab"} < set(ours)
        spelled = theirs.replace("--mem ", "--mem=").replace("-t ", "--time=").split()
        assert set(ours) - {"--partition=gpu", "--account=lab"} <= {*spelled}
