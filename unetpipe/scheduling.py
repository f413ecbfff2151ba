"""Where Dask computes: in threads of this process, in processes of this machine, or on a cluster by its address."""

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from dask.callbacks import Callback
from dask.highlevelgraph import HighLevelGraph
from dask.threaded import get as in_threads  # by its name Dask would import distributed first
from dask.typing import Key

logger = logging.getLogger(__name__)
KINDS = "threads, local, or the address of a scheduler such as tcp://node7:8786"
PATIENCE = 60  # seconds for a scheduler to answer, and for workers to come
ORPHANED = "600s"  # processes that nobody gives work to for so long end by themselves
Graph = dict[Key, Any]  # of tasks as tuples: `dask.delayed` takes four times as long for each
_client: ContextVar[Any] = ContextVar("client", default=None)


@contextmanager
def scheduled(where: str = "threads", *, workers: int = 1, threads: int = 1, memory: int = 0) -> Iterator[None]:
    """Within it `compute` and `compute_each` compute there.

    Parameters
    ----------
    where : str
        "threads": here. "local": in processes of this machine. "tcp://…" or "tls://…": by the workers of that
        scheduler, which see the same files under the same paths and have the same packages.
    workers, threads : int
        Processes, where they are local, and threads of each.
    memory : int
        MB of all of them; 0: what the machine has.

    Raises
    ------
    ValueError
        If it is none of these.
    ConnectionError
        If no scheduler answers at the address, or no worker is there.
    """
    if where == "threads":
        yield
        return
    if where != "local" and not where.startswith(("tcp://", "tls://")):
        raise ValueError(f"dask: {where} is none of {KINDS}")
    from distributed import Client  # noqa: PLC0415 - takes half a second, and most jobs need none

    with ExitStack() as stack:
        address = stack.enter_context(_processes(workers, threads, memory)) if where == "local" else where
        try:
            client = stack.enter_context(Client(address, timeout=PATIENCE, set_as_default=False))
        except (OSError, TimeoutError) as error:
            raise ConnectionError(f"dask: no scheduler answers at {where}; start one there, or set threads") from error
        try:
            client.wait_for_workers(workers if where == "local" else 1, timeout=PATIENCE)
        except TimeoutError as error:
            raise ConnectionError(f"dask: no worker has come to {where}; start some, or set threads") from error
        logger.info("blocks are computed by %d workers at %s", len(client.scheduler_info()["workers"]), where)
        before = _client.set(client)
        try:
            yield
        finally:
            _client.reset(before)


def _processes(workers: int, threads: int, memory: int) -> Any:
    """A scheduler and its workers as processes of their own, which do not import the script that started them."""
    from distributed.deploy.subprocess import SubprocessCluster  # noqa: PLC0415 - likewise

    limit = f"{memory // workers}MB" if memory else "auto"
    return SubprocessCluster(
        n_workers=workers,
        threads_per_worker=threads,
        dashboard_address=None,  # type: ignore[arg-type]  # its documentation allows None
        scheduler_kwargs={"idle_timeout": ORPHANED},
        worker_kwargs={"memory_limit": limit, "death_timeout": PATIENCE, "dashboard": False},
    )


def elsewhere() -> bool:
    """Whether other processes compute."""
    return _client.get() is not None


def breadth(workers: int) -> int:
    """Blocks that are computed at once: by so many threads here, or by all workers elsewhere."""
    client = _client.get()
    return max(1, sum(client.nthreads().values())) if client else workers  # none: all have died, others will come


def compute(call: Callable[[Any], Any], items: Iterable[Any], workers: int) -> tuple:
    """What the call makes of each item, in their order.

    Parameters
    ----------
    call : function
        Reaches each process that computes once, whatever the number of items.
    workers : int
        Threads, where they compute.
    """
    items, client, run = [*items], _client.get(), uuid.uuid4().hex
    if len(items) == 1 and client is None:
        return (call(items[0]),)  # of a small image: a graph takes longer than the work
    graph: Graph = {f"item {number} of {run}": (partial(_apply, item), run) for number, item in enumerate(items)}
    keys = [*graph]
    graph[run] = call
    return tuple(client.get(_layered(graph), keys) if client else in_threads(graph, keys, num_workers=workers))


def _apply(item: Any, call: Callable[[Any], Any]) -> Any:
    return call(item)


def compute_each(graph: Graph, keys: Sequence[str], keep: Callable[[str, Any], None], workers: int) -> None:
    """Compute the keys of a graph and call `keep` with each and its result as soon as it is there, in this thread.

    Parameters
    ----------
    graph : dict
        Of Dask: by its key a task, the tuple of a function and its arguments, which may be keys; or what is no task.

    Raises
    ------
    RuntimeError
        If a worker died of a job more often than Dask allows.
    """
    client, wanted = _client.get(), {*keys}
    if client is None:
        with Callback(posttask=lambda key, result, *_: keep(key, result) if key in wanted else None):
            in_threads(graph, [*keys], num_workers=workers)
        return
    from distributed import KilledWorker, as_completed  # noqa: PLC0415 - likewise

    try:
        futures = client.get(_layered(graph), [*keys], sync=False)
        for future, result in as_completed(futures, loop=client.loop, with_results=True):
            keep(future.key, result)
            future.release()
    except KilledWorker as error:
        raise RuntimeError(f"dask: {error}; give the workers more memory, or blocks of smaller sides") from error


def _layered(graph: Graph) -> HighLevelGraph:
    """A graph of which distributed does not make a digest of all that it holds."""
    return HighLevelGraph.from_collections(uuid.uuid4().hex, graph)
