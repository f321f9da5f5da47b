"""How far a script is and how long it will take: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_FIRST_LINE, _EVERY = 10.0, 60.0  # seconds

Show = Callable[[str, float, float], None]
"""Called with what is being done, how much of it is done, and how much there is to do, 0 if nobody knows."""


@contextmanager
def time_left(what: str, total: float) -> Iterator[Callable[[float], None]]:
    """Gives a function to call with how much has been done since the last call, of `total`; see `time_left_of_each`."""
    done = 0.0
    with time_left_of_each() as show:
        show(what, done, total)

        def advance(amount: float) -> None:
            nonlocal done
            done += amount
            show(what, done, total)

        yield advance


def part_of(advance: Callable[[float], None], amount: float) -> Callable[[float], None]:
    """For a function that tells which share of its work it has done, where that work is an amount of a larger one."""
    return lambda share: advance(share * amount)


@contextmanager
def time_left_of_each() -> Iterator[Show]:
    """Gives a function that shows how far each of several things is that are done one after the other.

    Everything goes to standard error. Where that is no terminal, nothing is said in the first ten seconds of each, and
    then a line a minute.
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
    begun: dict[str, tuple[float, float]] = {}  # when, and how much of it was done by then: a download may go on
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
