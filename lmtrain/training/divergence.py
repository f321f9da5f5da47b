"""Ends the fit, on all ranks at the same step, when the loss or the gradient is not finite any more."""

import math

from lightning.pytorch import Trainer
from torch import Tensor


class Diverged(Exception):
    """The loss or the gradient is not finite any more.

    Args:
        step: the number of optimizer steps done when this was noticed.
        lr: the learning rate at that step.
    """

    def __init__(self, step: int, lr: float) -> None:
        self.step = step
        self.lr = lr
        super().__init__(f"not finite at step {step}, learning rate {lr:g}")


def raise_if_diverged(loss: float, grad_norm: Tensor | None, trainer: Trainer) -> None:
    """Raises `Diverged`; called with the same figures on all ranks, so that all raise it.

    With 16-mixed a gradient that is not finite is no divergence while its scale is 1 or more: the step is skipped and
    the scale halved.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    is_skipped = scaler is not None and scaler.get_scale() >= 1
    if not math.isfinite(loss) or not (grad_norm is None or is_skipped or math.isfinite(grad_norm.item())):
        raise Diverged(trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"])
