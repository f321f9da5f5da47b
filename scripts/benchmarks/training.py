"""Measures the time of a training step in lmtrain with everything on, in Flair's own trainer, and in a bare loop.

Each runs in a process of its own, since settings of the process (threads, the allocator) would affect the others.
"""

import contextlib
import logging
import shutil
import statistics
import tempfile
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import nn

from benchmarks.children import call
from benchmarks.texts import write_corpus


@dataclass(frozen=True)
class Size:
    """H, T and B of a step, and the number of steps that are timed."""

    hidden_size: int
    length: int
    lanes: int
    steps: int

    @property
    def warm_up(self) -> int:
        """Steps before the clock starts."""
        return max(2, self.steps // 20)

    @property
    def all_steps(self) -> int:
        return self.warm_up + self.steps + 1


HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"
SIZES = {
    "H1024·T250·B100": Size(1024, 250, 100, 100 if HAS_GPU else 3),
    "H512·T100·B50": Size(512, 100, 50, 400 if HAS_GPU else 20),
    "H128·T10·B10": Size(128, 10, 10, 2000),
}


class Clock:
    """The times at which steps ended. The program waits for a GPU only at both ends of the timed steps."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.ends = (0, 0)  # the steps between whose ends is timed

    def tick(self) -> None:
        if HAS_GPU and len(self.times) in self.ends:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    def seconds_a_step(self) -> float:
        first, last = self.ends
        return (self.times[last] - self.times[first]) / (last - first)


_CLOCK = Clock()


class Ticks(Callback):
    """Notes when each step ends, and at the end what share of the time went into waiting for windows."""

    waiting: float | None = None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        _CLOCK.tick()

    def on_train_end(self, trainer, pl_module) -> None:
        durations = getattr(trainer.profiler, "recorded_durations", None)
        if durations:
            waited = durations["[WindowLoop].train_dataloader_next"][1:]  # the first reads the whole split
            Ticks.waiting = sum(waited) / (_CLOCK.times[-1] - _CLOCK.times[0])


class TickingLoss(nn.CrossEntropyLoss):
    """Notes when each step computes its loss."""

    def forward(self, logits, targets):
        _CLOCK.tick()
        return super().forward(logits, targets)


class Enough(Exception):
    pass


def overrides(size: Size) -> tuple[str, ...]:
    """The overrides for a run of lmtrain of this size."""
    return (
        f"model.hidden_size={size.hidden_size}",
        f"data.sequence_length={size.length}",
        f"data.batch_size={size.lanes}",
    )


def run_lmtrain(precision: str, corpus: Path, size: Size, profiler: str | None = None, recipe: str = "") -> None:
    from lmtrain.config.compose import compose_config
    from lmtrain.training.train import train

    config = compose_config(
        *("data=folder", f"data.path={corpus}", f"data.cache_dir={corpus}/cache"),
        *("name=run", f"runs_dir={corpus}/runs", "overwrite=true", "test=false"),
        *overrides(size),
        *(f"trainer.max_steps={size.all_steps}", f"trainer.precision={precision}"),
        *([f"+trainer.profiler={profiler}"] if profiler else []),
        *recipe.split(),
    )
    train(config.changed({"callbacks": {"clock": {"_target_": "benchmarks.training.Ticks"}}}))


def run_flair(corpus: Path, size: Size) -> None:
    from flair.data import Dictionary
    from flair.models import LanguageModel
    from flair.trainers.language_model_trainer import LanguageModelTrainer, TextCorpus

    logging.getLogger("flair").setLevel(logging.ERROR)
    dictionary = Dictionary()
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((corpus / "train").iterdir()))
    for character in sorted(set(text)):
        dictionary.add_item(character)
    model = LanguageModel(dictionary, True, hidden_size=size.hidden_size, nlayers=1)
    trainer = LanguageModelTrainer(model, TextCorpus(corpus, dictionary, True))
    trainer.loss_function = TickingLoss()

    def detach(hidden):
        if len(_CLOCK.times) > size.all_steps:
            raise Enough
        return tuple(part.detach() for part in hidden)

    trainer._repackage_hidden = detach
    with contextlib.suppress(Enough):
        trainer.train(
            corpus / "flair", sequence_length=size.length, mini_batch_size=size.lanes, max_epochs=1, num_workers=0
        )


def run_bare(precision: str, vocabulary: int, size: Size, is_compiled: bool = False) -> None:
    """The same tensors through nothing but torch's modules in a loop; with `is_compiled` the loss is compiled."""
    hidden_size = size.hidden_size
    with torch.device(DEVICE):
        encoder, rnn = nn.Embedding(vocabulary, 100), nn.LSTM(100, hidden_size)
        decoder, drop = nn.Linear(hidden_size, vocabulary), nn.Dropout(0.1)
        ids = torch.randint(vocabulary, (size.length + 1, size.lanes))
    parameters = [*encoder.parameters(), *rnn.parameters(), *decoder.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=20)
    hidden = tuple(torch.zeros(1, size.lanes, hidden_size, device=DEVICE) for _ in "hc")

    def loss_of(hidden):
        output, hidden = rnn(drop(encoder(ids[:-1])), hidden)
        logits = decoder(drop(output))
        return nn.functional.cross_entropy(logits.float().view(-1, vocabulary), ids[1:].reshape(-1)), hidden

    compute = torch.compile(loss_of) if is_compiled else loss_of
    for _ in range(size.all_steps):
        optimizer.zero_grad()
        with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss, hidden = compute(hidden)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.25)
        optimizer.step()
        hidden = tuple(part.detach() for part in hidden)
        _CLOCK.tick()


def run(who: str, precision: str, corpus: str, *numbers: str) -> dict[str, float | None]:
    """Runs a contestant in this process: its seconds a step, and the share of them in which it waited for data."""
    size = Size(*map(int, numbers))
    _CLOCK.ends = size.warm_up, size.warm_up + size.steps
    if who in ("torch loop", "compiled loop"):
        vocabulary = len(set(Path(corpus, "train/1.txt").read_text(encoding="utf-8"))) + 1
        run_bare(precision, vocabulary, size, is_compiled=who == "compiled loop")
    elif who == "Flair":
        run_flair(Path(corpus), size)
    else:
        run_lmtrain(precision, Path(corpus), size, "simple" if who == "lmtrain, profiled" else None)
    return {"seconds": _CLOCK.seconds_a_step(), "waiting": Ticks.waiting}


def measure(who: str, precision: str, corpus: Path, size: Size) -> dict[str, float]:
    """The result of `run` in a new process."""
    return call("benchmarks.training:run", who, precision, corpus, *astuple(size))


def recurrent_product_rate(size: Size, dtype: torch.dtype) -> float:
    """Floating-point operations a second of torch.mm on `(B, H) x (H, 4H)`."""
    left = torch.randn(size.lanes, size.hidden_size, dtype=dtype, device=DEVICE)
    right = torch.randn(size.hidden_size, 4 * size.hidden_size, dtype=dtype, device=DEVICE)
    times = []
    for _ in range(60):
        began = time.perf_counter()
        torch.mm(left, right)
        if HAS_GPU:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 2 * size.lanes * size.hidden_size * 4 * size.hidden_size / statistics.median(times)


def operations_a_step(size: Size, vocabulary: int) -> float:
    """Floating-point operations of all matrix products of a step: forward, and twice as many backward."""
    hidden = size.hidden_size
    return 3 * 2 * size.length * size.lanes * (4 * hidden * (hidden + 100) + hidden * vocabulary)


def benchmark_train(name: str, rounds: int) -> dict[str, Any]:
    """Seconds a step of each contestant, one after the other in every round."""
    from lmtrain.config.compose import compose_config
    from lmtrain.training.precision import choose_precision

    size = SIZES[name]
    default = str(choose_precision(compose_config(*overrides(size))).name)
    dtype = torch.bfloat16 if default == "bf16-mixed" else torch.float32
    precisions = dict.fromkeys([default, "32-true"])
    can_compile = HAS_GPU or shutil.which("g++") is not None
    seconds: dict[str, list[float]] = {}
    rates, waiting = [], []
    with tempfile.TemporaryDirectory() as folder:
        characters = max(200_000, size.lanes * size.length * (size.all_steps + 4))
        corpus = write_corpus(Path(folder) / "corpus", characters, 2_100 * 10)
        vocabulary = len(set((corpus / "train/1.txt").read_text(encoding="utf-8"))) + 1
        for _ in range(rounds):
            rates.append(recurrent_product_rate(size, dtype))
            seconds.setdefault("Flair", []).append(measure("Flair", "", corpus, size)["seconds"])
            for who in ("torch loop", "compiled loop", "lmtrain"):
                if who == "compiled loop" and not can_compile:
                    continue
                for precision in precisions if who != "compiled loop" else [default]:
                    figures = measure(who, precision, corpus, size)
                    seconds.setdefault(f"{who}, {precision}", []).append(figures["seconds"])
            waiting.append(measure("lmtrain, profiled", default, corpus, size)["waiting"])
    ours = seconds[f"lmtrain, {default}"]
    share = [operations_a_step(size, vocabulary) / s / rate for s, rate in zip(ours, rates, strict=True)]
    notes: dict[str, Any] = {
        f"overhead over the torch loop, {name}": _ratio(seconds[f"lmtrain, {name}"], seconds[f"torch loop, {name}"]) - 1
        for name in precisions
    }
    if not can_compile:
        notes["the compiled loop"] = "not measured: there is no g++"
    notes["share of the recurrent product's rate, whole step"] = statistics.median(share)
    notes["share of the time spent waiting for data"] = statistics.median(waiting)
    return {
        "task": "training",
        "size": name,
        "unit": "characters/s",
        "ours": f"lmtrain, {default}",
        "rates": {who: [size.length * size.lanes / s for s in values] for who, values in seconds.items()},
        "reference": "Flair",
        "notes": notes,
    }


def _ratio(one: list[float], other: list[float]) -> float:
    """The median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))
