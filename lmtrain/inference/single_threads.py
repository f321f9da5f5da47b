"""A pool of threads that each run torch operations alone, instead of sharing every operation."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

_setting = threading.Lock()


@contextmanager
def pool_of(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads among which torch's threads are divided; the caller's number of threads stays as it is.

    Where operations are short, threads that share each of them spend most of their time waiting for each other,
    especially on a busy machine. `torch.set_num_threads` acts on the calling thread and on those that begin later, so
    the caller restores its number after the new threads have set theirs.
    """
    with ThreadPoolExecutor(threads) as pool:
        _share_out(pool, threads)
        yield pool


def _share_out(pool: ThreadPoolExecutor, threads: int) -> None:
    all_threads = threading.Barrier(threads)

    def begin(number: int) -> None:
        all_threads.wait()  # so that each thread gets one of these calls
        torch.set_num_threads(number)

    with _setting:
        number = torch.get_num_threads()
        try:
            list(pool.map(begin, [max(1, number // threads)] * threads))
        finally:
            torch.set_num_threads(number)
