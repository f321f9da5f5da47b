"""Threads that compute side by side, each by itself, instead of all together at every operation."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

_setting = threading.Lock()


@contextmanager
def pool_of(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that share what torch may use on the CPU, and leave the setting of others as it is.

    Where operations are short, threads that wait for each other after every one lose much of their time, and nearly
    all on a machine with other work. `torch.set_num_threads` is for the thread that calls it and for those that begin
    afterwards, so that the caller sets back what the new threads have set.
    """
    with ThreadPoolExecutor(threads) as pool:
        _share_out(pool, threads)
        yield pool


def _share_out(pool: ThreadPoolExecutor, threads: int) -> None:
    all_are_here = threading.Barrier(threads)

    def begin(number: int) -> None:
        all_are_here.wait()  # so that no thread takes two of these
        torch.set_num_threads(number)

    with _setting:
        number = torch.get_num_threads()
        try:
            list(pool.map(begin, [max(1, number // threads)] * threads))
        finally:
            torch.set_num_threads(number)
