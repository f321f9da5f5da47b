"""Trains on the emulated GPU, many combinations in one process, and writes down what was seen.

    python emulated_runs.py FOLDER [CASE ...]        in the environment of emulated_cuda.environment()

test_emulated_gpu.py asserts on FOLDER/report.json, which holds an entry for each of CASES and of
emulated_uses.USES.
"""

import functools
import json
import sys
import traceback
from pathlib import Path

from running import read_metrics

REPORT_EVERY = 5
STOPS = {"in training": "{_target_: stopping.SignalAt, windows: 7}"}
STOPS["in a validation"] = "{_target_: stopping.SignalAt, validation_window: 2}"

# what is trained, and in which precision; `cpu` runs there too, `bare` has no float16 to be looked for
CASES: dict[str, tuple[str, ...]] = {
    "LSTM, 32-true": ("trainer.precision=32-true", "model.dropout=0"),
    "GRU of two layers, 32-true": (
        *("trainer.precision=32-true", "model.dropout=0", "model.recurrent_type=GRU", "model.nlayers=2"),
        "callbacks=histograms",
    ),
    "LSTM with nout, AdamW, 32-true": (
        *("trainer.precision=32-true", "model.dropout=0", "model.nout=5", "optimizer=adamw", "compile=true"),
    ),
    "LSTM, Muon, 32-true": ("trainer.precision=32-true", "model.dropout=0", "optimizer=muon"),
    "LSTM, bf16-mixed": ("model.dropout=0.2",),
    "LSTM of two layers with dropout, Muon, bf16-mixed": ("model.nlayers=2", "model.dropout=0.2", "optimizer=muon"),
    "GRU of two layers with dropout, AdamW, bf16-mixed": (
        *("model.nlayers=2", "model.dropout=0.2", "model.recurrent_type=GRU", "model.nout=5", "optimizer=adamw"),
        "compile=true",
    ),
    "minGRU of two layers with dropout, Muon, bf16-mixed": (
        *("model.nlayers=2", "model.dropout=0.2", "model.recurrent_type=MINGRU", "optimizer=muon"),
    ),
    "LSTM with many items, bf16-mixed": ("data.level=word", "data.document_delimiter=' '"),
    "LSTM of two layers with dropout, 32-true": ("trainer.precision=32-true", "model.nlayers=2", "model.dropout=0.2"),
    "LSTM, 16-mixed": ("trainer.precision=16-mixed", "model.dropout=0.2"),
    "GRU of two layers with dropout, 16-mixed": (
        *("trainer.precision=16-mixed", "model.nlayers=2", "model.dropout=0.2", "model.recurrent_type=GRU"),
    ),
}
BASE = (
    *("data=folder", "data.batch_size=4", "data.sequence_length=20", "data.validations_per_epoch=2"),
    *("model=tiny", "model.hidden_size=16", "optimizer.lr=0.5", "trainer.max_epochs=1", "test=false"),
    *(f"trainer.log_every_n_steps={REPORT_EVERY}", "trainer.accelerator=gpu"),
)


def main(folder: Path, cases: list[str]) -> None:
    import torch
    from corpora import write_corpus

    torch.compile = functools.partial(torch.compile, backend="eager")
    write_corpus(folder / "corpus")
    from emulated_uses import USES

    report = {}
    for name in cases:
        try:
            report[name] = USES[name](folder) if name in USES else one(folder, name)
        except BaseException:
            report[name] = {"error": traceback.format_exc()}
    (folder / "report.json").write_text(json.dumps(report))


def one(folder: Path, name: str) -> dict:
    import emulated_cuda

    import lmtrain.model.loss
    from lmtrain.program.signals import Interrupted

    lmtrain.model.loss.MOST_LOGITS = 400 if "many items" in name else 1 << 25
    watched = "+callbacks.watch={_target_: emulated_runs.watch}"
    emulated_cuda.device().seen()
    WATCHES.clear()
    run = place(name)
    train(folder, run, name, watched)
    (watch,) = (one for one in WATCHES if one.pages["steps"])  # callbacks are made once before, to be checked
    report = {**watch.pages, "val": losses(folder / run), "differences": {}}
    if any(option == "trainer.precision=32-true" for option in CASES[name]) and "model.dropout=0" in CASES[name]:
        train(folder, f"{run}-cpu", name, "trainer.accelerator=cpu")
        report["cpu"] = losses(folder / f"{run}-cpu")
    for where, callback in STOPS.items():
        stopped = f"{run}-{where.replace(' ', '-')}"
        try:
            train(folder, stopped, name, f"+callbacks.stop={callback}")
            report["differences"][where] = ["it was not stopped"]
        except Interrupted:
            train(folder, stopped, name)
            report["differences"][where] = differences(folder / run, folder / stopped)
    return report


def place(name: str) -> str:
    """The run's name."""
    return name.replace(" ", "-").replace(",", "")


def train(folder: Path, run: str, name: str, *more: str) -> dict:
    from lmtrain.config.compose import compose_config
    from lmtrain.training.train import train

    options = {override.lstrip("+").split("=")[0]: override for override in (*BASE, *CASES.get(name, ()), *more)}
    if {"optimizer=muon", "optimizer=adamw"} & set(options.values()):
        options["optimizer.lr"] = "optimizer.lr=0.01"
    places = (f"data.path={folder}/corpus", f"data.cache_dir={folder}/cache", f"runs_dir={folder}", f"name={run}")
    return train(compose_config(*options.values(), *places))


def losses(run: Path) -> list[float]:
    return read_metrics(run, "val/loss")


def differences(one: Path, other: Path) -> list[str]:
    """Where two last checkpoints are not bit for bit the same."""
    import torch

    def walk(path: str, a, b) -> list[str]:
        if isinstance(a, torch.Tensor):
            return [] if a.dtype == b.dtype and torch.equal(a, b) else [path]
        if isinstance(a, dict):
            return [place for key in a for place in walk(f"{path}/{key}", a[key], b.get(key))]
        if isinstance(a, (list, tuple)):
            return [
                place for number, pair in enumerate(zip(a, b, strict=True)) for place in walk(f"{path}/{number}", *pair)
            ]
        return [] if a == b else [path]

    states = [torch.load(run / "checkpoints/last.ckpt", weights_only=True, map_location="cpu") for run in (one, other)]
    parts = ("state_dict", "optimizer_states", "global_step", "lmtrain")
    first, second = ({part: state[part] for part in parts} for state in states)
    for state in (first, second):
        del state["lmtrain"]["seconds"]
    return walk("", first, second)


WATCHES: list = []


def watch():
    """A callback that notes what the device has seen, by what was done meanwhile."""
    import emulated_cuda
    from lightning.pytorch import Callback

    class Watch(Callback):
        """`steps`, `reports` (a step with one), `moves` (from a step to the next) and `validations` with the saving
        after it: for each of them the reads, the writes, and the names of both; `halves` of the whole run."""

        def __init__(self) -> None:
            self.pages: dict[str, list] = {name: [] for name in ("steps", "reports", "moves", "validations", "halves")}
            self.kind = None
            WATCHES.append(self)

        def note(self, kind: str | None) -> None:
            seen = emulated_cuda.device().seen()
            if kind is not None:
                self.pages[kind].append(
                    [seen.reads, seen.writes, [name for name in seen.names if "float16" not in name]]
                )
            if seen.halves:
                self.pages["halves"] += [name for name in seen.names if "float16" in name]

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            self.note(self.kind)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            # the first step of a process has a restart's or the optimizer's beginning in it
            is_first = self.kind is None
            self.note(None if is_first else "reports" if trainer.global_step % REPORT_EVERY == 0 else "steps")
            self.kind = "moves"

        def on_validation_end(self, trainer, pl_module) -> None:
            self.kind = "validations"

        def on_train_end(self, trainer, pl_module) -> None:
            self.note(None)

    return Watch()


if __name__ == "__main__":
    sys.modules["emulated_runs"] = sys.modules["__main__"]
    from emulated_uses import USES

    main(Path(sys.argv[1]), sys.argv[2:] or [*CASES, *USES])
