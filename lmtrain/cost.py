"""What training a model will take: memory by counting, time by trying."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from lmtrain.config import Config
from lmtrain.model import CharLM

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}  # others are measured in float32


@dataclass(frozen=True)
class Cost:
    """An estimate for one device.

    Args:
        parameters: how many the model has.
        memory: bytes for weights, gradients, optimizer state and the activations of a window, in float32.
        device: what the speed was measured on, and in which precision.
        items_per_second: trained on.
        epoch_seconds: an epoch, without validations.
        validation_seconds: one validation.
    """

    parameters: int
    memory: int
    device: str
    items_per_second: float
    epoch_seconds: float
    validation_seconds: float


def estimate_cost(config: Config, vocabulary_size: int, train_items: int, valid_items: int) -> Cost:
    """Estimates what training takes on one of the configured devices, from a few training steps on random items."""
    from lmtrain.trainer import choose_precision  # slow to import

    model = CharLM(vocabulary_size, **config.model.model_dump(exclude={"name"}))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    on_gpu = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    precision = str(choose_precision(config.trainer.precision, config.trainer.accelerator))
    with torch.autocast(device.type, _AUTOCAST.get(precision), enabled=precision in _AUTOCAST):
        train_rate, valid_rate = _measure(model.to(device), config, vocabulary_size, device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return Cost(
        parameters,
        training_memory(config, vocabulary_size, parameters),
        f"{name}, {precision if precision in _AUTOCAST else '32-true'}",
        train_rate,
        train_items / train_rate,
        valid_items / valid_rate,
    )


def training_memory(config: Config, vocabulary_size: int, parameters: int) -> int:
    """Bytes that training takes on one device, in float32, without the libraries' own."""
    sizes, optimizer = config.model, config.optimizer.model_dump()
    states = 2 if "adam" in optimizer["_target_"].lower() else 1 if optimizer.get("momentum") else 0
    gates = 4 if sizes.recurrent_type == "LSTM" else 3
    output = sizes.nout or sizes.hidden_size
    activations = (
        3 * sizes.embedding_size
        + sizes.nlayers * sizes.hidden_size * (gates + 4)  # gates, cell, output, its dropout
        + sizes.hidden_size * gates  # the gradients of one layer's gates
        + 3 * output
        + 4 * vocabulary_size  # logits, their softmax, its gradient, one to work with
    )
    return 4 * ((2 + states) * parameters + config.data.sequence_length * config.data.batch_size * activations)


def _measure(model: CharLM, config: Config, vocabulary_size: int, device: torch.device) -> tuple[float, float]:
    """Items per second trained on and validated on: of a whole window, or as much of it as a CPU does in a second."""
    lanes, length = config.data.batch_size, config.data.sequence_length
    if device.type == "cpu":
        weights = sum(parameter.numel() for parameter in model.parameters())
        length = max(4, min(length, int(1e10 / (weights * lanes))))
    ids = torch.randint(vocabulary_size, (length + 1, lanes), device=device)

    def train() -> None:
        model.loss(ids[:-1], ids[1:])[0].backward()
        model.zero_grad()

    @torch.no_grad()
    def validate() -> None:
        model.loss(ids[:-1], ids[1:])

    return length * lanes / _seconds(train, device), length * lanes / _seconds(validate, device)


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    """How long a step takes at best; the first one, which prepares much, is not counted."""
    best, until = math.inf, math.inf
    while time.perf_counter() < until:
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if until is math.inf:
            until = time.perf_counter() + 1
        else:
            best = min(best, time.perf_counter() - start)
    return best
