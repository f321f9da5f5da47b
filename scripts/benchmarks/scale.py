"""Measures the time from the command to the end of three steps on a large corpus: first, again, and on more ranks."""

import shutil
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import _lmtrain, measure
from benchmarks.texts import english, write_corpus

_FILE_BYTES = 41_000_000  # as many as the files of the One Billion Word benchmark have, on average


def benchmark_scale(rounds: int, size: int) -> dict[str, Any]:
    """Seconds of each start on a corpus of so many bytes, and of some on one file of it.

    The corpus is made in the folder for temporary files (TMPDIR), which must have room for twice as much.
    """
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        corpora = {"": _corpus(Path(folder) / "large", size), "a small corpus, ": _corpus(Path(folder) / "small", 1)}
        for _ in range(rounds):
            for name, corpus in corpora.items():
                shutil.rmtree(corpus / "cache", ignore_errors=True)
                for start, ranks in (("first time", 1), ("1 rank", 1), ("2 ranks", 2), ("8 ranks", 8)):
                    took, peak = measure(_start(corpus, ranks))
                    seconds.setdefault(name + start, []).append(took)
                    peaks.setdefault(name + start, []).append(peak)
    large, small = ((f"{name}first time", f"{name}1 rank") for name in corpora)
    return {
        "task": "from the command to the end of three steps",
        "size": f"{size / 1e9:g} GB",
        "unit": "seconds",
        "values": seconds,
        "reference": "1 rank",
        "notes": {
            "8 ranks / 8 ranks on a small corpus": median(seconds["8 ranks"])
            / median(seconds["a small corpus, 8 ranks"]),
            **{
                f"MiB at the peak above a small corpus, {one}": median(peaks[one]) - median(peaks[other])
                for one, other in zip(large, small, strict=True)
            },
            "MB a second, counted, encoded and checked": size
            / 1e6
            / (median(seconds[large[0]]) - median(seconds[large[1]])),
        },
    }


def _corpus(folder: Path, size: int) -> Path:
    """At least so many bytes in files of 41 MB, no two of which are equal."""
    write_corpus(folder, 100, 100_000)
    text = english(_FILE_BYTES)
    for number in range(max(1, round(size / _FILE_BYTES))):
        place = number * 10_007 % len(text)
        (folder / f"train/{number + 1}.txt").write_text(f"{number}\n{text[place:]}{text[:place]}\n", encoding="utf-8")
    return folder


def _start(corpus: Path, ranks: int) -> list[str]:
    more = [*("model=tiny", "data.batch_size=16", "data.sequence_length=50", "trainer.max_steps=3")]
    if ranks > 1:
        more += ["trainer=ddp_cpu", f"trainer.devices={ranks}"]
    return _lmtrain(corpus, *more)
