"""How far tasks have come within the files that they read, told by them to the process that shows it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_EVERY = 1.0  # seconds


@contextmanager
def telling(work: Path, number: int) -> Iterator[Callable[[int], None]]:
    """Gives a task a function to call with how many bytes it has read, for `watched`."""
    path, due = work / f"position-{number}", 0.0

    def tell(place: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + _EVERY
            path.write_text(str(place), encoding="ascii")

    try:
        yield tell
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def watched(work: Path, show: Callable[[int], None]) -> Iterator[None]:
    """Within the block calls `show` now and then with how many bytes all tasks that are at work have read."""
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
