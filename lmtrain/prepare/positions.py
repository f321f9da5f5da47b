"""Progress within blocks: each task writes its position into a file, and the process that shows the progress reads it.

Dask reports only that a task has ended, and a task may read one large file for hours.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_EVERY = 1.0  # seconds


@contextmanager
def reporting_position(work: Path, number: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that a task calls with the bytes that it has read; `watching_positions` reads them.

    Args:
        number: of the task.
    """
    path, due = work / f"position-{number}", 0.0

    def report(place: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + _EVERY
            path.write_text(str(place), encoding="ascii")

    try:
        yield report
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def watching_positions(work: Path, show: Callable[[int], None]) -> Iterator[None]:
    """Calls `show` each second, from a thread, with the bytes that all unfinished tasks together have read."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_EVERY):
            show(positions(work))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def positions(work: Path) -> int:
    total = 0
    for path in work.glob("position-*"):
        with suppress(OSError, ValueError):  # it is being written, or its task has ended
            total += int(path.read_text(encoding="ascii"))
    return total
