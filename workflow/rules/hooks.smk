# What follows a run: where a job failed, the rule `report` did not run.

import json
import shutil
import subprocess

SO_FAR = Path("results/report-so-far.html")
SECONDS = 120  # and a tenth of one for each sample


def report_so_far():
    """Write what there is to report, in a process of its own: it cannot hang, and its failure hides none."""
    told = {"results": "results", "samples": NAMED, "config": ordered(config), "networks": NETWORKS}
    command, limit = [sys.executable, "-m", "unetpipe.report"], SECONDS + len(SAMPLES) / 10
    try:
        subprocess.run(command, input=json.dumps(told), text=True, timeout=limit, check=True, stderr=subprocess.DEVNULL)
        print(f"what failed and what there is: {SO_FAR}", file=sys.stderr)
    except (OSError, subprocess.SubprocessError):
        print("no report of what there is was written; `unetpipe report results` says why", file=sys.stderr)


def forget_so_far():
    """Delete that report once the rule `report` has written a later one."""
    page = Path(REPORT[0])
    if SO_FAR.exists() and page.exists() and page.stat().st_mtime > SO_FAR.stat().st_mtime:
        SO_FAR.unlink()
        shutil.rmtree(SO_FAR.with_suffix(""), ignore_errors=True)


onerror:
    report_so_far()


def say_where():
    """Where to look first."""
    page = Path(REPORT[0])
    if page.exists():
        print(f"scores, pictures, and what to look at first: {page.resolve()}", file=sys.stderr)


onsuccess:
    forget_so_far()
    say_where()
