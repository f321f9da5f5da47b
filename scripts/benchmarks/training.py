"""How fast a training step is: lmtrain with everything on, Flair's own trainer, and a bare loop."""

import contextlib
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import nn

from benchmarks.texts import write_corpus

SIZES = {
    "H1024·T250·B100": (1024, 250, 100, 3),
    "H512·T100·B50": (512, 100, 50, 12),
    "H128·T10·B10": (128, 10, 10, 400),
}
_WARM_UP = 2
_CLOCK: list[float] = []


class Clock(Callback):
    """Notes when each step ends."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        _CLOCK.append(time.perf_counter())


class ClockLoss(nn.CrossEntropyLoss):
    """Notes when each step computes its loss."""

    def forward(self, logits, targets):
        _CLOCK.append(time.perf_counter())
        return super().forward(logits, targets)


class Enough(Exception):
    pass


def _seconds_a_step(steps: int) -> float:
    """The mean over the steps after the warm-up."""
    used = _CLOCK[_WARM_UP : _WARM_UP + steps + 1]
    return (used[-1] - used[0]) / (len(used) - 1)


def run_lmtrain(corpus: Path, size: tuple[int, int, int, int], precision: str = "auto") -> float:
    from lmtrain.command_line import compose_values
    from lmtrain.training import train

    hidden, length, lanes, steps = size
    values = compose_values(
        *(
            "data=folder",
            f"data.path={corpus}",
            f"data.cache_dir={corpus}/cache",
            "name=run",
            f"runs_dir={corpus}/runs",
        ),
        *(
            f"model.hidden_size={hidden}",
            f"data.sequence_length={length}",
            f"data.batch_size={lanes}",
            "overwrite=true",
        ),
        *(f"trainer.max_steps={steps + _WARM_UP + 1}", f"trainer.precision={precision}", "test=false"),
    )
    values["callbacks"] = {"clock": {"_target_": "benchmarks.training.Clock"}}
    _CLOCK.clear()
    train(values)
    return _seconds_a_step(steps)


def run_flair(corpus: Path, size: tuple[int, int, int, int]) -> float:
    from flair.data import Dictionary
    from flair.models import LanguageModel
    from flair.trainers.language_model_trainer import LanguageModelTrainer, TextCorpus

    logging.getLogger("flair").setLevel(logging.ERROR)
    hidden, length, lanes, steps = size
    dictionary = Dictionary()
    for character in sorted(set((corpus / "train/1.txt").read_text(encoding="utf-8"))):
        dictionary.add_item(character)
    trainer = LanguageModelTrainer(
        LanguageModel(dictionary, True, hidden_size=hidden, nlayers=1), TextCorpus(corpus, dictionary, True)
    )
    trainer.loss_function = ClockLoss()
    _CLOCK.clear()

    def detached(hidden: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(_CLOCK) > steps + _WARM_UP + 1:
            raise Enough
        return tuple(part.detach() for part in hidden)

    trainer._repackage_hidden = detached
    with contextlib.suppress(Enough):
        trainer.train(corpus / "flair", sequence_length=length, mini_batch_size=lanes, max_epochs=1, num_workers=0)
    return _seconds_a_step(steps)


def run_bare(vocabulary: int, size: tuple[int, int, int, int], dtype: torch.dtype) -> float:
    """The same tensors through nothing but torch's modules in a loop."""
    hidden_size, length, lanes, steps = size
    encoder, rnn, decoder = nn.Embedding(vocabulary, 100), nn.LSTM(100, hidden_size), nn.Linear(hidden_size, vocabulary)
    drop = nn.Dropout(0.1)
    parameters = [*encoder.parameters(), *rnn.parameters(), *decoder.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=20)
    ids = torch.randint(vocabulary, (length + 1, lanes))
    hidden = None
    _CLOCK.clear()
    for _ in range(steps + _WARM_UP + 1):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            output, hidden = rnn(drop(encoder(ids[:-1])), hidden)
            logits = decoder(drop(output))
            loss = nn.functional.cross_entropy(logits.float().view(-1, vocabulary), ids[1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.25)
        optimizer.step()
        hidden = tuple(part.detach() for part in hidden)
        _CLOCK.append(time.perf_counter())
    return _seconds_a_step(steps)


def recurrent_product_rate(size: tuple[int, int, int, int], dtype: torch.dtype) -> float:
    """Floating-point operations a second of torch.mm on `(B, H) x (H, 4H)`."""
    hidden, _, lanes, _ = size
    left, right = torch.randn(lanes, hidden, dtype=dtype), torch.randn(hidden, 4 * hidden, dtype=dtype)
    times = []
    for _ in range(60):
        began = time.perf_counter()
        torch.mm(left, right)
        times.append(time.perf_counter() - began)
    return 2 * lanes * hidden * 4 * hidden / statistics.median(times)


def operations_a_step(size: tuple[int, int, int, int], vocabulary: int) -> float:
    """Of all matrix products of a step: forward, and twice as many backward."""
    hidden, length, lanes, _ = size
    return 3 * 2 * length * lanes * (4 * hidden * (hidden + 100) + hidden * vocabulary)


def benchmark_train(name: str, rounds: int) -> dict[str, Any]:
    """Seconds a step of each contestant, one after the other in every round."""
    from lmtrain.training import choose_precision

    size = SIZES[name]
    precision = choose_precision("auto", "cpu")
    default = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    with tempfile.TemporaryDirectory() as folder:
        _, length, lanes, steps = size
        corpus = write_corpus(
            Path(folder) / "corpus", max(200_000, lanes * (length * (steps + _WARM_UP + 4))), 2_100 * 10
        )
        vocabulary = len(set((corpus / "train/1.txt").read_text())) + 1
        contestants = {
            "Flair": lambda: run_flair(corpus, size),
            "bare loop, float32": lambda: run_bare(vocabulary, size, torch.float32),
            f"bare loop, {precision}": lambda: run_bare(vocabulary, size, default),
            "lmtrain, float32": lambda: run_lmtrain(corpus, size, "32-true"),
            f"lmtrain, {precision} (default)": lambda: run_lmtrain(corpus, size),
        }
        seconds: dict[str, list[float]] = {contestant: [] for contestant in contestants}
        rates = []
        for _ in range(rounds):
            rates.append(recurrent_product_rate(size, default))
            for contestant, measure in contestants.items():
                seconds[contestant].append(measure())
    ours, bare = f"lmtrain, {precision} (default)", f"bare loop, {precision}"
    share = [operations_a_step(size, vocabulary) / s / rate for s, rate in zip(seconds[ours], rates, strict=True)]
    return {
        "what": f"train {name}: characters a second",
        "rates": {contestant: [length * lanes / s for s in values] for contestant, values in seconds.items()},
        "reference": "Flair",
        "notes": {
            "overhead over the bare loop, default precision": _ratio(seconds[ours], seconds[bare]) - 1,
            "overhead over the bare loop, float32": _ratio(seconds["lmtrain, float32"], seconds["bare loop, float32"])
            - 1,
            "share of the recurrent product's rate, whole step": statistics.median(share),
        },
    }


def _ratio(one: list[float], other: list[float]) -> float:
    """The median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))
