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
from lmtrain.errors import UserError

RECIPES = (FLAIR, "experiment=flair", "experiment=fast")
_CHARACTERS = 200_000  # of each measurement, at least 10 steps


def measure_speeds(corpora: list[Path], seconds: float, folder: Path = FOLDER) -> None:
    """Goes through texts, sizes and recipes, round by round until the time is over; adds to speed.json what it lacks.

    Raises:
        UserError: speed.json is of another machine.
    """
    about = json.loads(json.dumps(machine()))
    path = folder / "speed.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"machine": about, "speeds": []}
    if kept["machine"] != about:
        raise UserError(f"{path} is of another machine, {kept['machine']}; this is {about}. Move it away.")
    known = {(one["text"], tuple(one["size"]), one["recipe"]) for one in kept["speeds"]}
    contests = [
        (corpus, size)
        for corpus in corpora
        for size in sorted({tuple(run["contestant"]["size"]) for run in read_runs(corpus.name, folder)["runs"]})
        if not known.issuperset((corpus.name, size, recipe) for recipe in RECIPES)
    ]
    when = {"date": time.strftime("%Y-%m-%d"), "commit": last_commit(), "load": round(os.getloadavg()[0], 1)}
    rates = _in_turn(contests, seconds)
    kept["speeds"] = [
        *(one for one in kept["speeds"] if (one["text"], tuple(one["size"])) not in {(c.name, s) for c, s, _ in rates}),
        *(
            {"text": corpus.name, "recipe": recipe, "size": size, "characters_per_second": values, **when}
            for (corpus, size, recipe), values in rates.items()
        ),
    ]
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _in_turn(contests: list[tuple[Path, Any]], seconds: float) -> dict[tuple[Path, Any, str], list[int]]:
    """Characters a second of each recipe, round by round; one but the first is begun only with time left for it."""
    rates: dict[tuple[Path, Any, str], list[int]] = {}
    began, longest = time.monotonic(), 0.0
    while contests:
        for corpus, size in contests:
            started = time.monotonic()
            if rates and started - began + longest > seconds:
                return rates
            for recipe in RECIPES:
                rate = call("benchmarks.evidence_speed:speed", recipe, corpus.resolve(), *size)
                rates.setdefault((corpus, size, recipe), []).append(round(rate))
                print(corpus.name, recipe, size, f"{rate:,.0f} characters/s", flush=True)
            longest = max(longest, time.monotonic() - started)
    return rates


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
