"""Commands that come before a run."""

import json
import os
from pathlib import Path

from unetpipe.cli.results import config_of


def add(commands) -> None:
    """Add them to the command line."""
    _add_demo(commands)
    _add_inspect(commands)
    _add_doctor(commands)
    _add_plan(commands)


def _add_demo(commands) -> None:
    demo = commands.add_parser(
        "demo-data", help="draw the demo's images from a seed", epilog="example: unetpipe demo-data runs/demo/data"
    )
    demo.add_argument("folder", type=Path)
    demo.add_argument("--seed", type=int, default=1)
    demo.set_defaults(run=_demo_data)


def _add_inspect(commands) -> None:
    inspected = commands.add_parser(
        "inspect",
        help="what image files hold, and whether they will be read",
        description="Opens every file, reads a few pixels of each series and prints a line for it; exit code 1 if any "
        "would be refused. Folders are searched. file.h5:/array names an array inside.",
        epilog="example: unetpipe inspect slides/ truth/*.tif volumes/a.h5:/raw",
    )
    inspected.add_argument("paths", nargs="+", metavar="PATH")
    inspected.add_argument("--json", action="store_true", help="for programs")
    inspected.set_defaults(run=_inspect)


def _add_doctor(commands) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="whether machine, project and cluster are ready",
        description="Prints a line for each thing that a run relies on: ✓ good, ✗ bad with what to do, – neither. With "
        "a config it opens every file of the sheet; with a profile for Slurm it asks whether a job of each rule would "
        "be accepted, and runs a short one in each partition. Exit code 1 if anything is bad.",
        epilog="example: unetpipe doctor my/config.yaml --profile profiles/slurm",
    )
    doctor.add_argument("config", type=config_of, nargs="?", help="of a project, or its folder")
    doctor.add_argument("--profile", type=Path, help="a folder, as for snakemake")
    doctor.add_argument("--directory", type=Path, help="where the run will be; the config's folder if not given")
    doctor.add_argument("--data", type=Path, help="instead of the config's key data")
    doctor.set_defaults(run=_doctor)


def _add_plan(commands) -> None:
    planned = commands.add_parser(
        "plan",
        help="what a run will take: blocks, memory, disk, time",
        description="Opens every file of the sheet, times each stage on this machine, and prints a line for each rule "
        "of each sample. Memory is that of a job on the CPU; disk is before compression; time is that of one job after "
        "the other, all blocks holding tissue.",
        epilog="example: unetpipe plan my/config.yaml",
    )
    planned.add_argument("config", type=config_of, help="of a project, or its folder")
    planned.add_argument("--data", type=Path, help="instead of the config's key data")
    planned.add_argument("--threads", type=int, default=os.cpu_count(), help="of a job (%(default)s)")
    planned.set_defaults(run=_plan)


def _demo_data(options) -> None:
    from unetpipe.demo import write_demo

    write_demo(options.folder, seed=options.seed)
    print(f"demo data in {options.folder}")


def _inspect(options) -> None:
    from unetpipe.inspection import find_files, inspect, table

    rows = []
    for given in options.paths:
        outside, _, inside = given.partition(":/")
        rows += [row for path in find_files([Path(outside)]) for row in inspect(path, inside)]
    print(json.dumps(rows, indent=1, ensure_ascii=False) if options.json else table(rows) or "no image files there")
    if not rows or any(row["problem"] for row in rows):
        raise SystemExit(1)


def _doctor(options) -> None:
    from itertools import chain

    from unetpipe.doctor import examine_cluster, examine_machine, examine_project

    directory = options.directory or (options.config.parent if options.config else Path())
    examined = [examine_machine()]
    if options.config:
        examined.append(examine_project(_read_config(options), options.config.parent, directory / "results"))
    if options.profile:
        examined.append(examine_cluster(options.profile, options.config, directory, options.data))
    bad = 0
    for finding in chain(*examined):
        print(finding, flush=True)
        bad += finding.mark == "✗"
    raise SystemExit(min(bad, 1))


def _read_config(options) -> dict:
    """The config, with the folder of data that the command line names."""
    from unetpipe.config import read_config

    config = read_config(options.config)
    return {**config, "data": str(options.data.resolve())} if options.data else config


def _plan(options) -> None:
    from unetpipe.config import load_project
    from unetpipe.inspection import stored
    from unetpipe.plan import Plan, Size, calibrate, make_network, table

    config = _read_config(options)
    samples, problems = load_project(config, options.config.parent)
    if problems:
        raise SystemExit(f"mend first:\n{problems}")
    sizes = {sample.name: Size.of(stored(sample, config["ingest"])) for sample in samples}
    network = make_network(config, options.config.parent, sizes)
    plan = Plan(config, samples, sizes, network)
    print(table(plan.lines(calibrate(plan.config, network, plan.tiles(), options.threads))))
