"""How far a script is and how long it will take: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_FIRST_LINE, _EVERY = 10.0, 60.0  # seconds


@contextmanager
def time_left(what: str, total: float) -> Iterator[Callable[[float], None]]:
    """Gives a function to call with how much has been done since the last call, of `total`.

    Everything goes to standard error. Where that is no terminal, nothing is said in the first ten seconds, and then a
    line a minute.
    """
    if not sys.stderr.isatty():
        yield _lines(what, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield lambda amount: bars.advance(task, amount)


def _lines(what: str, total: float) -> Callable[[float], None]:
    begun = time.monotonic()
    due, done = begun + _FIRST_LINE, 0.0

    def advance(amount: float) -> None:
        nonlocal due, done
        done += amount
        now = time.monotonic()
        if now >= due and 0 < done < total:
            due = now + _EVERY
            minutes, seconds = divmod(round((now - begun) * (total - done) / done), 60)
            print(
                f"{what}: {done / total:.0%} done, about {minutes}:{seconds:02} min left", file=sys.stderr, flush=True
            )

    return advance
