"""Estimates what training takes before it starts: memory by counting numbers, time by trying a few steps."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from lmtrain.config.schema import Config
from lmtrain.model.language_model import RecurrentLM
from lmtrain.training.optimizers import make_for_trial
from lmtrain.training.precision import choose_precision


@dataclass(frozen=True)
class Cost:
    """An estimate for one device.

    Args:
        parameters: of the model.
        memory: bytes for weights, gradients, optimizer state and the activations of a window.
        precision: `trainer.precision` as it would be chosen here.
        device: the name of the device on which the speed was measured.
        items_per_second: in training.
        epoch_seconds: of an epoch without validations.
        validation_seconds: of one validation.
    """

    parameters: int
    memory: int
    precision: str
    device: str
    items_per_second: float
    epoch_seconds: float
    validation_seconds: float


def estimate_cost(
    config: Config,
    vocabulary_size: int,
    train_items: int,
    valid_items: int,
    progress: Callable[[float, float], object] = lambda *_: None,
) -> Cost:
    """Estimates what training takes on the first device, from a few training steps on random items.

    Args:
        train_items, valid_items: of an epoch and of a validation.
        progress: called with how much is done, between 0 and 1, and with 1.
    """
    model = RecurrentLM(config.model.sizes(vocabulary_size))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    uses_cuda = torch.cuda.is_available() and config.trainer.accelerator in ("auto", "gpu", "cuda")
    device = torch.device("cuda" if uses_cuda else "cpu")
    train_rate, valid_rate = _measure(model.to(device), config, vocabulary_size, device, progress)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return Cost(
        parameters,
        training_memory(config, vocabulary_size),
        _precision(config),
        name,
        train_rate,
        train_items / train_rate,
        valid_items / valid_rate,
    )


def _precision(config: Config) -> str:
    return str(choose_precision(config).name)


def training_memory(config: Config, vocabulary_size: int) -> int:
    """Bytes that training takes on one device, without the libraries' own."""
    sizes, precision = config.model.sizes(vocabulary_size), _precision(config)
    with torch.device("meta"):  # without memory for the weights, which are only counted
        model = RecurrentLM(sizes)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    gates = sizes.cell.gates
    activations = (
        3 * sizes.embedding_size
        + sizes.nlayers * sizes.hidden_size * (gates + 4)  # gates, cell, output, its dropout
        + sizes.hidden_size * gates  # the gradients of one layer's gates
        + 3 * sizes.output_size
    )
    logits = 4 * vocabulary_size  # the logits, their softmax, its gradient, and one array for work
    window = config.data.sequence_length * config.data.batch_size
    weight = 8 if precision.startswith("64") else 2 if precision.endswith("16-true") else 4
    activation = 2 if "16" in precision else weight
    states = optimizer_state(config, model)
    return weight * (2 * parameters + states) + window * (activation * activations + max(4, weight) * logits)


def optimizer_state(config: Config, model: RecurrentLM) -> int:
    """How many numbers the optimizer keeps for a model.

    The optimizer makes a step with a very small model: any may be configured, and no other way tells what it keeps.
    An array that has the size of a parameter there is taken to have it in the model, too.
    """
    nout = None if model.sizes.nout is None else 3
    small = RecurrentLM(replace(model.sizes, vocabulary_size=5, hidden_size=4, embedding_size=3, nout=nout))
    optimizer = make_for_trial(config)(small.named_parameters())

    def closure() -> float:
        small.zero_grad()
        loss, _ = small.loss(torch.zeros(2, 1, dtype=torch.long), torch.ones(2, 1, dtype=torch.long))
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    real = dict(model.named_parameters())
    count = 0
    for name, parameter in small.named_parameters():
        for value in optimizer.state.get(parameter, {}).values():
            if isinstance(value, torch.Tensor):
                count += real[name].numel() if value.numel() == parameter.numel() else value.numel()
    return count


def _measure(
    model: RecurrentLM,
    config: Config,
    vocabulary_size: int,
    device: torch.device,
    progress: Callable[[float, float], object],
) -> tuple[float, float]:
    """Items per second trained on and validated on: of a whole window, or as much of it as a CPU does in a second."""
    lanes, length = config.data.batch_size, config.data.sequence_length
    if device.type == "cpu":
        weights = sum(parameter.numel() for parameter in model.parameters())
        length = max(4, min(length, int(1e10 / (weights * lanes))))
    ids = torch.randint(vocabulary_size, (length + 1, lanes), device=device)
    optimizer, precision = make_for_trial(config)(model.named_parameters()), _precision(config)
    if precision.endswith("true"):
        model.to({"64": torch.float64, "bf": torch.bfloat16, "16": torch.float16}.get(precision[:2], torch.float32))
    dtype = torch.bfloat16 if precision.startswith("bf16") else torch.float16

    def loss() -> torch.Tensor:
        with torch.autocast(device.type, dtype, enabled=precision.endswith("mixed")):
            return model.loss(ids[:-1], ids[1:])[0]

    def closure() -> Any:
        model.zero_grad()
        value = loss()
        value.backward()
        return value

    def train() -> None:
        optimizer.step(closure)

    @torch.no_grad()
    def validate() -> None:
        loss()

    trained = _seconds(train, device, lambda share: progress(0.7 * share, 1))  # backward is the longer way
    validated = _seconds(validate, device, lambda share: progress(0.7 + 0.3 * share, 1))
    return length * lanes / trained, length * lanes / validated


def _seconds(step: Callable[[], None], device: torch.device, progress: Callable[[float], object]) -> float:
    """The shortest time of a step among those of about a second; the first step, which allocates, is not counted."""
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
        progress(0.5 if best is math.inf else 1.0)  # a step longer than a second is made twice
    return best
