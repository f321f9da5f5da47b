"""Shows a script's progress and the time left: a bar on a terminal (rich), else a line a minute, as rich has none."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_FIRST_LINE, _EVERY = 10.0, 60.0  # seconds

Show = Callable[[str, float, float], None]
"""Called with the name of the work, how much of it is done, and how much there is to do (0 if unknown)."""


@contextmanager
def time_left(what: str, total: float) -> Iterator[Callable[[float], None]]:
    """Gives a function to call with the amount of work, of `total`, that was done since its last call."""
    done = 0.0
    with time_left_of_each() as show:
        show(what, done, total)

        def advance(amount: float) -> None:
            nonlocal done
            done += amount
            show(what, done, total)

        yield advance


@contextmanager
def time_left_of_each() -> Iterator[Show]:
    """Gives a function that shows the progress of several works, one after the other, on standard error.

    Where that is no terminal, each work has a line a minute, the first one after ten seconds.
    """
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bars:
        tasks = {}

        def show(what: str, done: float, total: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=None, completed=int(done))
            bars.update(tasks[what], completed=done, total=total or None)

        yield show


def _lines() -> Show:
    begun: dict[str, tuple[float, float]] = {}  # the time, and the amount done by then (a resumed download)
    due: dict[str, float] = {}

    def show(what: str, done: float, total: float) -> None:
        now = time.monotonic()
        if what not in begun:
            begun[what], due[what] = (now, done), now + _FIRST_LINE
        start, before = begun[what]
        if now >= due[what] and before < done < total:
            due[what] = now + _EVERY
            minutes, seconds = divmod(round((now - start) * (total - done) / (done - before)), 60)
            print(
                f"{what}: {done / total:.0%} done, about {minutes}:{seconds:02} min left", file=sys.stderr, flush=True
            )

    return show
