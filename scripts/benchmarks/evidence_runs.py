"""Trains the contestants of docs/evidence.md, each in a process of its own, and keeps their curves as JSON."""

import json
import re
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.children import call
from benchmarks.record import ROOT, machine

FOLDER = ROOT / "docs/evidence"
FLAIR = "Flair"


@dataclass(frozen=True)
class Contestant:
    """What is trained, and on what.

    Attributes:
        text: the name of the corpus folder.
        recipe: "Flair", which is Flair's own trainer, or overrides of lmtrain's with spaces between them.
        epochs: may have a fraction, but not with Flair.
        size: H, T and B.
    """

    text: str
    recipe: str
    epochs: float
    size: tuple[int, int, int]
    seed: int


def read_runs(text: str, folder: Path = FOLDER) -> dict[str, Any]:
    """What is known of a text: its `characters` and `alphabet`, and its `runs`."""
    path = folder / f"{text}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": []}


def find(known: dict[str, Any], contestant: Contestant) -> dict[str, Any] | None:
    """The run of this contestant, if it has been made."""
    wanted = json.loads(json.dumps(asdict(contestant)))
    return next((run for run in known["runs"] if run["contestant"] == wanted), None)


def keep_run(corpus: Path, contestant: Contestant, folder: Path = FOLDER) -> dict[str, Any]:
    """The run of this contestant: as it is kept, or else made now and kept."""
    known = read_runs(contestant.text, folder)
    run = find(known, contestant)
    if run is None:
        run = _made(corpus, contestant)
        train = [path.read_text(encoding="utf-8") for path in sorted((corpus / "train").iterdir())]
        known = read_runs(contestant.text, folder) | {
            "characters": sum(map(len, train)),
            "bytes": sum(len(one.encode()) for one in train),
            "alphabet": len(set("".join(train))),
        }
        known["runs"] = sorted([*known["runs"], run], key=lambda one: json.dumps(one["contestant"]))
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps(known, ensure_ascii=False)
        content = re.sub(r'(, |\[)(?=\{"contestant")', r"\1\n", content)  # a run a line
        (folder / f"{contestant.text}.json").write_text(content + "\n", encoding="utf-8")
    return run


def _made(corpus: Path, contestant: Contestant) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        arguments = [str(contestant.recipe), corpus, out, contestant.epochs, contestant.seed, *contestant.size]
        failure = None
        try:
            seconds = call("benchmarks.evidence_runs:train", *arguments)
        except RuntimeError as error:
            seconds, failure = {}, str(error).strip().splitlines()[-1]
        curve = _curve_of_flair(out, corpus) if contestant.recipe == FLAIR else _curve(out)
        log = (out / "train.log").read_text(encoding="utf-8") if (out / "train.log").exists() else ""
        results = json.loads((out / "results.json").read_text()) if (out / "results.json").exists() else {}
    about = machine()
    return {
        "contestant": asdict(contestant),
        "curve": [[round(characters), float(f"{loss:.5g}")] for characters, loss in curve],
        **{name: float(f"{value:.4g}") for name, value in seconds.items()},
        "precision": results.get("precision", "32-true"),
        "failure": failure,
        "rollbacks": len(re.findall(r"(?i)not finite", log)),
        "date": time.strftime("%Y-%m-%d"),
        "commit": last_commit(),
        "processor": about["processor"],
        "threads": about["threads"],
    }


def last_commit() -> str | None:
    """The last commit that changed what is trained."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%h", "--abbrev=7", "--", "lmtrain", "conf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def train(recipe: str, corpus: str, out: str, epochs: str, seed: str, *sizes: str) -> dict[str, float]:
    """Trains in this process; gives the `cpu_seconds` and `wall_seconds` of training, validation and reading."""
    from benchmarks import quality

    began = time.process_time()
    if recipe == FLAIR:
        wall = quality.train("flair", corpus, out, str(int(float(epochs))), seed, *sizes)
    else:
        whole = -int(-float(epochs) // 1)
        steps = f" trainer.max_steps={_steps(Path(corpus), float(epochs), *sizes[1:])}" * (whole != float(epochs))
        wall = quality.train(f"{recipe} test=false{steps}", corpus, out, str(whole), seed, *sizes)
    return {"wall_seconds": wall, "cpu_seconds": time.process_time() - began}


def _steps(corpus: Path, epochs: float, length: str, lanes: str) -> int:
    """About so many windows have the epochs."""
    characters = sum(len(path.read_text(encoding="utf-8")) for path in (corpus / "train").iterdir())
    return round(epochs * characters / int(length) / int(lanes))


def _curve(out: Path) -> list[tuple[float, float]]:
    """After how many characters of training which validation loss, in nats per character."""
    from lmtrain.runs.curves import column, read_metrics

    return list(zip(*column(read_metrics(out / "metrics.csv"), "val/loss"), strict=True))


def _curve_of_flair(out: Path, corpus: Path) -> list[tuple[float, float]]:
    """As `_curve`, from Flair's loss.txt; each split has the mean size of all."""
    sizes = [len(path.read_text(encoding="utf-8")) for path in (corpus / "train").iterdir()]
    text = (out / "loss.txt").read_text() if (out / "loss.txt").exists() else ""
    losses = [float(loss) for loss in re.findall(r"end of split.*valid loss (\S+)", text)]
    return [(number * sum(sizes) / len(sizes), loss) for number, loss in enumerate(losses, 1)]
