"""Many runs → few, in rounds, so that no task opens more than `MOST_RUNS` of them.

Every split takes a piece of every run, and the numbers of splits and of runs both grow with the text: without joining,
ten times the text would open a hundred times as many files. Each round reads and writes the whole text once.
"""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from lmtrain.prepare.graph import Compute, Progress
from lmtrain.prepare.shuffling import join_runs
from lmtrain.prepare.tasks import key_prefix, write_run_list

MOST_RUNS = 256


def join_until_few(runs: list[str], work: Path, deduplicate: bool, compute: Compute, progress: Progress) -> None:
    """Joins groups of `MOST_RUNS` runs until at most so many are left, whose list it writes for the tasks that follow.

    Args:
        runs: their names in the folder `work`; the files of runs that have been joined are removed.
    """
    from dask import delayed

    for level in count():
        if len(runs) <= MOST_RUNS:
            return
        groups = [runs[begin : begin + MOST_RUNS] for begin in range(0, len(runs), MOST_RUNS)]
        names = [f"joined-{level}-{number:06}" for number in range(len(groups))]
        progress("Joining", 0, len(groups))
        tasks = [
            delayed(join_group)(work, name, group, deduplicate, dask_key_name=f"{key_prefix(work)}-{name}")
            for name, group in zip(names, groups, strict=True)
        ]
        compute(tasks, _reporting(progress, len(groups)))
        write_run_list(work, names)
        _remove(work, runs)
        runs = names


def _reporting(progress: Progress, total: int) -> Callable[[Any], None]:
    numbers = count(1)
    return lambda _: progress("Joining", next(numbers), total)


def join_group(work: Path, name: str, runs: list[str], deduplicate: bool) -> None:
    """A task of the graph: makes one run of several."""
    join_runs([work / run for run in runs], work / name, deduplicate)


def _remove(work: Path, runs: list[str]) -> None:
    for run in runs:
        for ending in (".text", ".index", ".bands.npy"):
            (work / run).with_suffix(ending).unlink(missing_ok=True)
