"""The command line: its examples are commands, errors are sentences, and `run` is Snakemake's own command."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from projects import ROOT

from unetpipe.cli import main, make_parser, project
from unetpipe.cli.results import results_of

COMMANDS = make_parser()._subparsers._group_actions[0].choices


def refused(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return str(stopped.value)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_commands(name):
    """Each is printed as it is written, and understood."""
    text = COMMANDS[name].epilog
    assert text in COMMANDS[name].format_help()
    examples = [re.split("   | > ", part)[0] for part in text.split("  unetpipe ")[1:] or text.split("unetpipe ")[1:]]
    for example in examples:
        make_parser().parse_args(shlex.split(example))
    assert examples
    assert all(example.startswith(name) for example in examples)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is what completes")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [(["su"], {"summary", "suggest"}), (["suggest", "--c"], {"--count"}), (["tune", "--metric", "mean"], {"mean_iou"})],
)
def test_bash_completes_commands_options_and_choices(tmp_path, capsys, typed, offered):
    main(["completion", "bash"])
    (tmp_path / "unetpipe").write_text(capsys.readouterr().out)
    words = shlex.join(["unetpipe", *typed])
    script = f"""source {tmp_path}/unetpipe; COMP_WORDS=({words}); COMP_CWORD={len(typed)}; COMP_LINE={words!r}
    $(complete -p unetpipe | sed 's/.*-F \\([^ ]*\\) .*/\\1/'); echo "${{COMPREPLY[@]}}" """
    done = subprocess.run([shutil.which("bash"), "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered, done.stderr


def test_completion_knows_files(capsys):
    main(["completion", "zsh"])
    said = capsys.readouterr().out
    assert (
        '":of a run, or the folder of its config:_files"'
        in said.split("_shtab_unetpipe_suggest_options=(")[1].split("\n)")[0]
    )


class TestErrors:
    """One sentence, and the place in the code for those who ask."""

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("train:\n\tsteps: 5\n", "is no YAML"),
            ("- samples\n", "holds no sections but a list; it begins like samples:"),
        ],
    )
    def test_what_can_be_mended_is_said(self, tmp_path, text, said):
        (tmp_path / "config.yaml").write_text(text)
        assert f"{tmp_path}/config.yaml {said}" in refused("doctor", tmp_path / "config.yaml")

    def test_what_nobody_foresaw_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr("unetpipe.config.read_config", lambda path: path.no_such_thing)
        said = refused("plan", tmp_path / "config.yaml")
        assert said.startswith("unetpipe: AttributeError: ")
        assert said.endswith("--debug shows where")

    @pytest.mark.parametrize("place", [0, 1])
    def test_debug_shows_where(self, tmp_path, place):
        arguments = ["plan", str(tmp_path / "config.yaml")]
        arguments.insert(place, "--debug")
        with pytest.raises(FileNotFoundError):
            main(arguments)


def test_a_reader_that_has_seen_enough_is_no_error():
    """As `unetpipe completion bash | head -1`."""
    command = [sys.executable, "-c", "from unetpipe.cli import main; main()", "completion", "bash"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (0, "")


class TestRun:
    """It says what it starts, and takes its place."""

    @pytest.fixture
    def started(self, monkeypatch):
        """What would have been executed."""
        commands = []
        monkeypatch.setattr(os, "execv", lambda _, command: commands.append(command))
        return commands

    def test_the_command_is_printed_as_it_is(self, tmp_path, started, capsys):
        folder = tmp_path / "two words"
        folder.mkdir()
        (folder / "config.yaml").write_text("")
        main(["run", str(folder), "--profile", "profiles/slurm", "-n", "csv"])
        assert [shlex.split(capsys.readouterr().out)] == started
        files = ["--snakefile", f"{ROOT}/Snakefile", "--configfile", f"{folder}/config.yaml"]
        given = ["--directory", str(folder), "--profile", "profiles/slurm", "-n", "csv"]
        assert started[0][1:] == ["-m", "snakemake", *files, *given]

    def test_the_exit_code_is_that_of_snakemake(self, tmp_path):
        (tmp_path / "config.yaml").write_text("")
        (tmp_path / "snakemake.py").write_text("import sys; sys.exit(len(sys.argv))")  # begins faster than the real one
        command = [sys.executable, "-c", "from unetpipe.cli import main; main()", "run", ".", "--unlock"]
        assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 8

    def test_a_folder_without_config(self, tmp_path, started):
        assert f"/config.yaml does not exist; write it with unetpipe init {tmp_path} " in refused("run", tmp_path)
        assert f"write it with unetpipe init {tmp_path}/my --images" in refused("run", tmp_path / "my")
        assert not started

    def test_a_library_without_its_workflow(self, tmp_path, started, monkeypatch):
        monkeypatch.setattr(project, "SNAKEFILE", tmp_path / "Snakefile")
        assert f"{tmp_path}/Snakefile does not exist: unetpipe is installed without" in refused("run", "my")
        assert not started


def test_a_run_that_failed_at_once_is_found_where_results_are_a_link(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "my/logs").mkdir(parents=True)
    (tmp_path / "my/results").symlink_to(tmp_path / "far")
    assert results_of(tmp_path / "my") == tmp_path / "my/results"


def test_a_folder_of_pictures_is_no_run(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(SystemExit, match="holds no results of a run; name the folder of its config, or its results"):
        main(["summary", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"is no image store; name results/images/SAMPLE\.ome\.zarr of a run"):
        main(["picture", str(tmp_path), str(tmp_path / "out.png")])


@pytest.mark.parametrize("call", ["predict {0} a.tif out", "export {0} n.onnx", "init my --images a.tif --network {0}"])
def test_a_folder_in_the_place_of_a_network_is_told(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("a.tif", np.zeros((60, 60), np.uint8))
    Path("network").mkdir()
    with pytest.raises(SystemExit, match=r"network \S*network is a folder; name the network\.json in it"):
        main(call.format("network").split())
