"""How many characters a second recipes train, measured in turn on an idle machine; for docs/evidence.md."""

import json
import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.children import call
from benchmarks.evidence_runs import FLAIR, FOLDER, last_commit, read_runs
from benchmarks.record import machine

RECIPES = (FLAIR, "experiment=flair", "experiment=fast")
_CHARACTERS = 200_000  # of each measurement, at least 10 steps


def measure_speeds(corpora: list[Path], seconds: float, folder: Path = FOLDER) -> None:
    """Goes through texts, sizes and recipes, round by round until the time is over; writes speed.json."""
    contests = [
        (corpus, recipe, size)
        for corpus in corpora
        for size in sorted({tuple(run["contestant"]["size"]) for run in read_runs(corpus.name, folder)["runs"]})
        for recipe in RECIPES
    ]
    rates: dict[tuple[Path, str, tuple[int, ...]], list[float]] = {contest: [] for contest in contests}
    about = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "commit": last_commit()}
    about["load"] = round(os.getloadavg()[0], 1)
    began = time.monotonic()
    while contests and time.monotonic() - began < seconds:
        for contest in contests:
            corpus, recipe, size = contest
            rates[contest].append(call("benchmarks.evidence_speed:speed", recipe, corpus.resolve(), *size))
            print(corpus.name, recipe, size, f"{rates[contest][-1]:,.0f} characters/s", flush=True)
            if time.monotonic() - began > seconds:
                break
    found = [
        {"text": corpus.name, "recipe": recipe, "size": size, "characters_per_second": [round(one) for one in values]}
        for (corpus, recipe, size), values in rates.items()
        if values
    ]
    (folder / "speed.json").write_text(json.dumps({**about, "speeds": found}, indent=1) + "\n", encoding="utf-8")


def speed(recipe: str, corpus: str, *sizes: str) -> float:
    """Characters a second in this process, by the median step: validations and the first reading are not in it."""
    from benchmarks import training

    hidden, length, lanes = map(int, sizes)
    size = training.Size(hidden, length, lanes, max(10, _CHARACTERS // (length * lanes)))
    with tempfile.TemporaryDirectory() as folder:
        for path in Path(corpus).iterdir():  # runs and caches are written beside
            Path(folder, path.name).symlink_to(path)
        if recipe == FLAIR:
            training.run_flair(Path(folder), size)
        else:
            training.run_lmtrain("auto", Path(folder), size, recipe=recipe)
    times: list[Any] = training._CLOCK.times[size.warm_up :]
    return length * lanes / statistics.median(after - before for before, after in pairwise(times))
