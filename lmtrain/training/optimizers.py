"""The configured optimizer, and a trial of it on a tiny model, which shows before training whether it works."""

from collections.abc import Callable
from typing import Any

import torch
from hydra.utils import instantiate

from lmtrain.config.peak_rate import choose_peak_rate
from lmtrain.config.schema import Config
from lmtrain.errors import UserError
from lmtrain.model.language_model import RecurrentLM, Sizes
from lmtrain.training.checkpoint_values import copied, encoded, unreadable

_STEPS = 3


def make_optimizer(config: Config, lr: float) -> Callable[..., torch.optim.Optimizer]:
    """A function that makes the configured optimizer from named parameters.

    Args:
        lr: the configured rate, or what `auto` became.
    """
    return instantiate(config.optimizer.model_dump() | {"lr": lr}, _partial_=True)


def make_for_trial(config: Config) -> Callable[..., torch.optim.Optimizer]:
    """The same before the run's length is known, with a rate that is good enough for a trial."""
    return make_optimizer(config, choose_peak_rate(config, lambda: 1).value)


def check_optimizer(config: Config, device: torch.device) -> None:
    """Tries the optimizer on a tiny model, before anything is written.

    Raises:
        UserError: the optimizer refuses its arguments, cannot train this kind of model, or cannot be resumed.
    """
    if problem := problem_of(make_for_trial(config), device, config.model.recurrent_type):
        arguments = " ".join(f"optimizer.{name}={value}" for name, value in config.optimizer.model_dump().items())
        raise UserError(f"The optimizer cannot be used with {arguments}: {problem}")


def problem_of(
    make_optimizer: Callable[..., torch.optim.Optimizer], device: torch.device, recurrent_type: str = "LSTM"
) -> str | None:
    """Why training with an optimizer would fail, or go wrong when a run goes on; None if it does not.

    Args:
        make_optimizer: makes it from named parameters.
        device: where the run will train.
        recurrent_type: the cell that it will train.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        try:
            return _problem_of(make_optimizer, device, recurrent_type)
        except Exception as error:  # an optimizer may raise anything
            return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _problem_of(
    make_optimizer: Callable[..., torch.optim.Optimizer], device: torch.device, recurrent_type: str
) -> str | None:
    sizes = Sizes(5, hidden_size=4, embedding_size=3, dropout=0, recurrent_type=recurrent_type)
    model, again = (RecurrentLM(sizes).to(device) for _ in range(2))
    optimizer, resumed = (make_optimizer(network.named_parameters()) for network in (model, again))
    if any("lr" not in group for group in optimizer.param_groups):
        return "its parameter groups have no lr, which annealing lowers."
    for step in range(_STEPS):
        if not _step(optimizer, model, step):
            return "it trains nothing: its step(closure) never calls closure(), which computes loss and gradients."
    state = optimizer.state_dict()
    for problem in unreadable(encoded(state)):
        return f"its state could not be read again from a checkpoint: {problem}."
    again.load_state_dict(model.state_dict())
    resumed.load_state_dict(copied(state))
    for network, either in ((model, optimizer), (again, resumed)):
        torch.manual_seed(1)  # for those that draw random numbers
        _step(either, network, _STEPS)
    pairs = zip(model.parameters(), again.parameters(), strict=True)
    if not all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in pairs):
        return "its state_dict() does not hold all that its next step depends on, so that a run could not go on."
    return None


def _step(optimizer: torch.optim.Optimizer, model: RecurrentLM, number: int) -> bool:
    """One step, as training makes it; False if the optimizer never asked for the loss."""
    ids = torch.tensor([[1], [2], [4], [0], [3]], device=next(model.parameters()).device).roll(number, 0)
    is_called = False

    @torch.enable_grad()
    def closure() -> Any:
        nonlocal is_called
        is_called = True
        loss, _ = model.loss(ids[:-1], ids[1:])
        optimizer.zero_grad()
        loss.backward()
        return loss.detach()

    optimizer.step(closure=closure)
    return is_called
