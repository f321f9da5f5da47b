"""A loss or a gradient that is not finite any more ends the fit, on all ranks alike."""

import math

from lightning.pytorch import Trainer
from torch import Tensor


class Diverged(Exception):
    """The loss or the gradient is not finite any more.

    Args:
        step: optimizer steps done when it was seen.
        lr: the learning rate then.
    """

    def __init__(self, step: int, lr: float) -> None:
        self.step = step
        self.lr = lr
        super().__init__(f"not finite at step {step}, learning rate {lr:g}")


def raise_if_diverged(loss: float, grad_norm: Tensor | None, trainer: Trainer) -> None:
    """Raises `Diverged` on all ranks alike, if it is called with the same figures on all of them.

    With 16-mixed a gradient that is not finite only says that its scale was too large: the step is skipped and the
    scale halved. Not so where there is nothing left to halve.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    is_skipped = scaler is not None and scaler.get_scale() >= 1
    if not math.isfinite(loss) or not (grad_norm is None or is_skipped or math.isfinite(grad_norm.item())):
        raise Diverged(trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"])
