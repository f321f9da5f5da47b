"""Writes histograms of parameters, gradients and activations to TensorBoard, to see layers saturate or diverge."""

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lmtrain.data.windows import Window
from lmtrain.training.lightning_internals.attributes import own_module
from lmtrain.training.loggers.tensorboard import tensorboards

log = logging.getLogger(__name__)

_BINS = 100


class Histograms(Callback):
    """Writes histograms of all parameters after the step, of their gradients before clipping, and of the recurrent
    layers' output and last state in this rank's lanes. Steps in between cost nothing.

    Args:
        every_n_steps: optimizer steps between histograms; None for the step before each validation.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        self.every_n_steps = every_n_steps
        self._seen: dict[str, Tensor] = {}
        self._hook: RemovableHandle | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not tensorboards(trainer):
            log.warning(
                "callbacks=histograms writes to TensorBoard, which is not among the loggers: logger=tensorboard"
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Window, batch_idx: int) -> None:
        if trainer.is_global_zero and tensorboards(trainer) and self._is_due(trainer, batch_idx):
            self._hook = own_module(pl_module).model.rnn.register_forward_hook(self._see_activations)

    def _is_due(self, trainer: Trainer, batch_idx: int) -> bool:
        if self.every_n_steps is None:
            return trainer.val_check_batch == batch_idx + 1  # ValidationSchedule has set it for this window
        return (trainer.global_step + 1) % self.every_n_steps == 0

    def _see_activations(self, rnn: nn.Module, inputs: tuple[Any, ...], results: tuple[Any, ...]) -> None:
        output, states = results
        names = ("output", "hidden", "cell")
        self._seen |= {
            f"activations/{name}": part.detach() for name, part in zip(names, (output, *states), strict=False)
        }

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if self._hook is not None:
            self._seen |= {
                f"gradients/{name}": parameter.grad.clone()  # clipping changes it in place
                for name, parameter in own_module(pl_module).model.named_parameters()
                if parameter.grad is not None
            }

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Window, batch_idx: int
    ) -> None:
        if self._hook is None:
            return
        self._hook.remove()
        self._hook = None
        if any(name.startswith("gradients/") for name in self._seen):  # else the step continues with the next window
            parameters = {f"parameters/{name}": value for name, value in own_module(pl_module).model.named_parameters()}
            for name, values in (parameters | self._seen).items():
                for logger in tensorboards(trainer):
                    write_histogram(logger, name, values.detach(), trainer.global_step)
        self._seen = {}


def write_histogram(logger: TensorBoardLogger, name: str, values: Tensor, step: int) -> None:
    """Counts on the values' device. Values that are not all finite are not written: they have no histogram."""
    values = values.float()
    low, high = values.aminmax()
    if not bool(torch.isfinite(high - low)):
        return
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts = torch.histc(values, _BINS, low.item(), high.item())
    limits = torch.linspace(low.item(), high.item(), _BINS + 1, dtype=torch.float64)[1:]
    logger.experiment.add_histogram_raw(
        name,
        min=low.item(),
        max=high.item(),
        num=values.numel(),
        sum=values.sum().item(),
        sum_squares=values.square().sum().item(),
        bucket_limits=limits.tolist(),
        bucket_counts=counts.tolist(),
        global_step=step,
    )
