"""Where a Dask graph is computed: in this process, in processes of this machine, or on a cluster that exists."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from lmtrain.errors import UserError

_CONNECT_SECONDS = 10

Compute = Callable[[Sequence[Any], Callable[[Any], None]], list[Any]]
"""Computes Delayed objects to a list of results; calls the function with every result as it comes."""


@contextmanager
def scheduler(address: str | None = None, workers: int | None = None) -> Iterator[Compute]:
    """Gives what computes a graph.

    Args:
        address: of a Dask scheduler (`tcp://host:8786`); None for this machine.
        workers: how many processes on this machine; None for one a core, 1 for no other than this one.

    Raises:
        UserError: Dask is not installed, no scheduler answers, or a process was killed.
    """
    try:
        import dask  # noqa: F401
    except ImportError:
        raise UserError("Preparing a corpus needs Dask. Install it: pip install 'lmtrain[prepare]'.") from None
    if address is not None:
        with _cluster(address) as compute:
            yield compute
        return
    workers = workers or _cores()
    if workers == 1:
        yield lambda tasks, done: _compute_here(tasks, done, scheduler="sync")
        return
    # the work is Python's own, which threads would do one after the other
    pool = _start_pool(workers)
    try:
        yield lambda tasks, done: _compute_here(tasks, done, scheduler="processes", pool=pool, chunksize=1)
    except BrokenProcessPool:
        raise UserError(
            "A worker process was killed, most likely because memory ran out. Use fewer: --workers 1."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_pool(workers: int) -> ProcessPoolExecutor:
    """Processes that Ctrl-C doesn't reach, not even while they start: the one that started them ends them."""
    pool = ProcessPoolExecutor(workers, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for _ in range(workers):
            pool.submit(int)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return pool


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _compute_here(tasks: Sequence[Any], done: Callable[[Any], None], **how) -> list[Any]:
    import dask
    from dask.callbacks import Callback

    keys = {task.key for task in tasks}

    def posttask(key, result, *_) -> None:
        if key in keys:
            done(result)

    with Callback(posttask=posttask):
        return list(dask.compute(*tasks, optimize_graph=False, **how))


@contextmanager
def _cluster(address: str) -> Iterator[Compute]:
    from dask.distributed import Client, as_completed

    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise UserError(f"--scheduler {address}: no Dask scheduler answers there ({error}).") from None

    def compute(tasks: Sequence[Any], done: Callable[[Any], None]) -> list[Any]:
        futures = client.compute(list(tasks), optimize_graph=False)
        for future in as_completed(futures, loop=client.loop):
            done(future.result())
        return client.gather(futures)

    with client:
        yield compute
