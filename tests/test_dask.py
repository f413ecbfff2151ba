"""Every stage on processes of Dask writes what threads write, byte for byte, also where a process is killed."""

import logging
import os
import signal
import threading
import time
from pathlib import Path

import cloudpickle
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from distributed import Client
from scenes import SIDES, discs, write_pairs
from test_holders import SHARED, real

from unetpipe import readers, scheduling
from unetpipe.blocks import Done, Ledger, Stage, Task, run
from unetpipe.ingest import ingest
from unetpipe.label import write_objects
from unetpipe.mask import write_mask
from unetpipe.measure import write_measurements
from unetpipe.network import UNet
from unetpipe.predict.part import Networks, predict_part
from unetpipe.predict.publish import publish_probabilities
from unetpipe.readers import open_series
from unetpipe.saved import save_network
from unetpipe.scheduling import breadth, compute, scheduled
from unetpipe.score import write_scores
from unetpipe.truth import write_truth
from unetpipe.weights import write_weights


@pytest.fixture(scope="module", autouse=True)
def importable():
    """What is defined here has to be found by other processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def address(importable):  # noqa: ARG001 - it has to come first
    """Of a scheduler with two processes, as somebody's cluster."""
    from distributed.deploy.subprocess import SubprocessCluster

    with SubprocessCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster.scheduler_address, set_as_default=False) as client:
            client.wait_for_workers(2)
        yield cluster.scheduler_address


@pytest.fixture
def empty():
    """Address of a scheduler to which no worker has come."""
    from distributed.deploy.subprocess import SubprocessCluster

    with SubprocessCluster(n_workers=0, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images with truths, and a network of random weights whose probabilities are mottled."""
    folder = tmp_path_factory.mktemp("data")
    torch.manual_seed(3)
    save_network(UNet(depth=2, features=4, dropout=0.0), folder / "n.json", {"precision": "float32"})
    return write_pairs(folder, [(150, 200), (90, 70)]), str(folder / "n.json")


def run_all(data, folder):
    """All stages; the content of all that they wrote."""
    (images, labels), network = data
    image, store = str(folder / "images/s.ome.zarr/zarr.json"), str(folder / "probabilities/s.zarr/zarr.json")
    made = {name: str(folder / f"{name}.json") for name in ("truth", "tissue", "part", "objects")}
    weights, table, outlines = (
        str(folder / name) for name in ("weights/s.zarr/zarr.json", "s.parquet", "s.geojson.gz")
    )
    ingest(images, image, sample="s", workers=2, **SIDES)
    write_truth(labels, image, made["truth"], sample="s", workers=2)
    write_mask(image, made["tissue"], sample="s", contrast=0)
    write_weights(image, made["truth"], weights, sample="s", workers=2)
    given = {"sample": "s", "block": 64}
    predict_part(image, made["tissue"], [network], made["part"], store=store, device="cpu", **given)
    publish_probabilities(image, made["tissue"], [network], store, **given)
    write_objects(image, store, made["objects"], sample="s", min_size=4, holes=9, split=1.0, workers=2)
    write_measurements(image, store, made["objects"], table, outlines, sample="s", workers=2)
    write_scores([image], [store], [table], str(folder / "scores.tsv"), samples=[["s", "test"]], workers=2)
    assert pq.ParquetFile(table).metadata.num_rows > 10
    files = [path for path in folder.rglob("*") if path.is_file() and ".ledger" not in path.parts]
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def threads(data, tmp_path_factory):
    return run_all(data, tmp_path_factory.mktemp("threads"))


def test_a_cluster_by_its_address_writes_what_threads_write(data, threads, address, tmp_path):
    with scheduled(address):
        assert run_all(data, tmp_path) == threads


def test_local_processes_write_what_threads_write_and_end_with_the_job(data, threads, tmp_path):
    with scheduled("local", workers=2, memory=4000):
        assert run_all(data, tmp_path) == threads
        found = set(compute(process_of, range(8), 2))
        assert found
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(process) for process in found):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_other_processes_do_the_work_and_it_reaches_each_once(address, tmp_path):
    """Of eight blocks, each in two stages; what they share is a megabyte, and is sent at most once a process."""
    shared = Counted(np.ones(2**17))
    stage = Stage("read", shared)
    tasks = [Task("0", str(n), note_process, (n,), (stage._replace(given=(n,)),)) for n in range(8)]
    with scheduled(address), Ledger(tmp_path, "stage", "key") as ledger:
        run(tasks, ledger, {}, workers=2)
        assert os.getpid() not in compute(process_of, range(4), 2)
    notes = ledger.notes()["0"].values()
    assert sorted(note["block"] for note in notes) == list(range(8))
    assert os.getpid() not in {note["process"] for note in notes}
    assert len({note["copy"] for note in notes}) <= 2


class Counted:
    """Knows which copy of it is asked."""

    def __init__(self, values):
        self.values = values

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.copy = f"{os.getpid()} {time.monotonic_ns()}"

    def __call__(self, number):
        return self.copy if self.values.sum() == 2**17 else number


def note_process(number, copy):
    return Done(note={"block": number, "process": os.getpid(), "copy": copy})


def process_of(_):
    return os.getpid()


def test_a_failed_series_leaves_the_others_whole(address, tmp_path, caplog):
    tasks = [Task(str(n % 2), str(n), fail_if_odd, (n,)) for n in range(6)]
    failures = {}
    with scheduled(address), Ledger(tmp_path, "stage", "key") as ledger, caplog.at_level(logging.ERROR):
        run(tasks, ledger, failures, workers=2)
    assert sorted(ledger.finished) == ["0 0", "0 2", "0 4"]
    assert str(failures["1"]) == "no pixels"
    assert "series 1, block" in caplog.text


def fail_if_odd(number):
    if number % 2:
        raise ValueError("no pixels")
    return Done(note=number)


def test_a_process_that_is_killed_costs_its_blocks_and_no_more(address, tmp_path):
    tasks = [Task("0", f"{n:02d}", slow, (n, str(tmp_path))) for n in range(12)]

    def kill_one():
        while len(list(tmp_path.glob("begun-*"))) < 4:
            time.sleep(0.01)
        process = int(next(iter(tmp_path.glob("begun-*"))).name.split("-")[1])
        os.kill(process, signal.SIGKILL)

    with scheduled(address), Ledger(tmp_path, "stage", "key") as ledger:
        killer = threading.Thread(target=kill_one)
        killer.start()
        run(tasks, ledger, {}, workers=2)
        killer.join()
    assert ledger.notes()["0"] == {f"0 {n:02d}": n for n in range(12)}
    processes = {path.name.split("-")[1] for path in tmp_path.glob("begun-*")}
    assert len(processes) in (2, 3)  # the one that takes the place of the killed may come when all is done
    assert len(list(tmp_path.glob("begun-*"))) <= 12 + 3  # at most what the killed one held: one it computed, two sent


def slow(number, folder):
    with open(f"{folder}/begun-{os.getpid()}-{number}", "x"):
        time.sleep(0.1)
    return Done(note=number)


def test_who_needs_more_than_its_memory_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    said = "dask: Attempted to run task .*; give the workers more memory, or blocks of smaller sides"
    with scheduled("local", workers=1, memory=700), Ledger(tmp_path, "stage", "key") as ledger:
        with pytest.raises(RuntimeError, match=said):
            run([Task("0", "a", take_a_gigabyte)], ledger, {}, workers=1)


def take_a_gigabyte():
    parts = []
    for _ in range(100):
        parts.append(np.ones(10 * 2**17))  # 10 MB
        time.sleep(0.02)  # so that it is seen to grow
    return Done()


@pytest.mark.parametrize("where", ["thread", "processes", "http://node:8786"])
def test_where_else_is_refused(where):
    with pytest.raises(ValueError, match=rf"dask: {where} is none of threads, local, or the address"), scheduled(where):
        pass


def test_an_address_where_nobody_answers(monkeypatch):
    monkeypatch.setattr("unetpipe.scheduling.PATIENCE", "1s")
    said = "dask: no scheduler answers at tcp://127.0.0.1:9; start one there, or set threads"
    with pytest.raises(ConnectionError, match=said), scheduled("tcp://127.0.0.1:9"):
        pass


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy", "a.h5", "a.zarr"])
def test_readers_open_their_file_again_in_another_process(tmp_path, name):
    import h5py
    import skimage.io
    import zarr

    image, _ = discs((80, 90), seed=1)
    path = tmp_path / name
    if name.endswith("h5"):
        with h5py.File(path, "w") as file:
            file["raw"] = image
    elif name.endswith("zarr"):
        zarr.create_array(str(path), data=image)
    elif name.endswith("npy"):
        np.save(path, image)
    else:
        skimage.io.imsave(path, image, check_contrast=False)
    check_again(path)


def test_a_process_that_lives_long_sees_a_file_that_was_written_anew(tmp_path):
    image, _ = discs((80, 90), seed=1)
    for pixels in (image, 255 - image):
        np.save(tmp_path / "a.npy", pixels)
        (series,) = open_series(tmp_path / "a.npy")
        copied = cloudpickle.loads(cloudpickle.dumps(series.read))
        np.testing.assert_array_equal(copied(tuple(slice(0, size) for size in series.shape)).squeeze(), pixels)


def test_networks_are_made_once_in_a_process_whatever_the_number_of_batches():
    network, other = (Networks(make_nothing, torch.device("cpu"), 1) for _ in range(2))
    first, again = (cloudpickle.loads(cloudpickle.dumps(network)) for _ in range(2))
    assert first is again
    assert first is not network
    assert cloudpickle.loads(cloudpickle.dumps(other)) is not first


def make_nothing(_):
    raise AssertionError("nothing is predicted here")


def test_a_cluster_without_workers_is_waited_for_and_then_refused(empty, monkeypatch):
    monkeypatch.setattr(scheduling, "PATIENCE", 1)
    with pytest.raises(ConnectionError, match=f"dask: no worker has come to {empty}"), scheduled(empty):
        pass


def test_as_many_blocks_are_under_way_as_the_cluster_has_workers(address):
    assert breadth(5) == 5
    with scheduled(address):
        assert breadth(5) == 2


@real
@pytest.mark.parametrize("name", ["slides/CMU-1-Small-Region.svs"])
def test_slides_are_opened_again_in_another_process(name):
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not in {SHARED}")
    check_again(SHARED / name)


def check_again(path):
    """A copied reader reads the same, and several of a file share what is open."""
    (series,) = open_series(path)
    first, second = (cloudpickle.loads(cloudpickle.dumps(series.read)) for _ in range(2))
    region = (*(slice(0, size) for size in series.shape[:3]), slice(3, 60), slice(5, 70))
    readers._open_files.clear()
    np.testing.assert_array_equal(first(region), series.read(region))
    assert readers._opened(first.opening) is readers._opened(second.opening)
