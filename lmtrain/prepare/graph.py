"""Where a Dask graph is computed: in this process, in processes of this machine, or on a cluster that exists.

dask.distributed's LocalCluster was tried for the processes of this machine: two workers took 2.6 to 3.5 s to start, and
a corpus of 8 MB twice the CPU time. A task whose worker is killed, mostly for want of memory, is run four times before
it is an error, and each time is logged in several lines; `concurrent.futures` raises `BrokenProcessPool` at the first.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, resource_tracker
from typing import Any

from lmtrain.errors import UserError, importing
from lmtrain.program.command import interrupt_deferred
from lmtrain.program.processors import processors

_CONNECT_SECONDS = 10

Compute = Callable[[Sequence[Any], Callable[[Any], None]], list[Any]]
"""Computes Delayed objects to a list of results; calls the function with every result as it comes."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is to do."""


def import_dask() -> None:
    """Imports all of Dask that preparing takes: to be called first, for Ctrl-C can get lost while Python imports.

    Raises:
        UserError: Dask is not installed.
    """
    with importing("Dask", "Preparing a corpus"):
        import dask.delayed
        import dask.multiprocessing  # noqa: F401


@contextmanager
def scheduler(address: str | None = None, workers: int | None = None) -> Iterator[Compute]:
    """Gives what computes a graph.

    Args:
        address: of a Dask scheduler (`tcp://host:8786`); None for this machine.
        workers: how many processes on this machine; None for one a core, 1 for no other than this one.

    Raises:
        UserError: no scheduler answers, or a process was killed.
    """
    if address is not None:
        with _cluster(address) as compute:
            yield compute
        return
    workers = workers or processors()
    if workers == 1:
        yield _compute_here
        return
    # the work is Python's own, which threads would do one after the other
    pool = ProcessPoolExecutor(workers, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))
    try:
        _start_all(pool, workers)
        yield partial(_compute_in_processes, pool)
    except BrokenProcessPool:
        raise UserError(
            "A worker process was killed, most likely because memory ran out. Use fewer: --workers 1."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_all(pool: ProcessPoolExecutor, workers: int) -> None:
    """Ctrl-C does not reach the processes, not even while they start: the one that starts them ends them."""
    resource_tracker.ensure_running()  # which would unblock SIGINT, if it were started below
    with interrupt_deferred():
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # in those started here, too
        try:
            for _ in range(workers):
                pool.submit(int)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _compute_here(tasks: Sequence[Any], done: Callable[[Any], None]) -> list[Any]:
    from dask.local import get_sync

    return _compute(tasks, done, scheduler=get_sync)


def _compute_in_processes(pool: ProcessPoolExecutor, tasks: Sequence[Any], done: Callable[[Any], None]) -> list[Any]:
    """Ctrl-C does not break off this process, for the pool might not shut down then: it ends the others.

    A task may take hours, and what it writes is removed.
    """
    from dask.multiprocessing import get

    def end_processes() -> None:
        for process in list((pool._processes or {}).values()):
            process.kill()

    with interrupt_deferred(end_processes) as interrupt_if_asked:

        def one_done(result: Any) -> None:
            interrupt_if_asked()
            done(result)

        return _compute(tasks, one_done, scheduler=get, pool=pool, chunksize=1)


def _compute(tasks: Sequence[Any], done: Callable[[Any], None], **how) -> list[Any]:
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
