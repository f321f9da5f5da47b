"""Chooses the precision for `trainer.precision=auto`, by the kind of hardware and the size of a window.

Measuring instead would make two starts of the same run differ.

docs/kernels.md has the table behind the rule.
"""

from typing import NamedTuple

import torch

from lmtrain.config.schema import Config
from lmtrain.kernels import lstm
from lmtrain.kernels.capabilities import gains_by_bfloat16

_SMALL = 30_000  # hidden units × items of a window; below this, conversions to bfloat16 cost more than products gain
_FEW_LANES = 6  # below this, oneDNN's LSTM is slower


class Precision(NamedTuple):
    """A precision as Lightning calls it, and why it was chosen; None if the configuration gives it."""

    name: str | int
    reason: str | None


def choose_precision(config: Config) -> Precision:
    """`auto` becomes bf16-mixed where that is faster, else 32-true.

    The number of devices is left out, so that a run goes on in the same precision on another number of them.
    """
    if config.trainer.precision != "auto":
        return Precision(config.trainer.precision, None)
    accelerator = config.trainer.accelerator
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        if gains_by_bfloat16("cuda"):
            return Precision("bf16-mixed", "this GPU computes in bfloat16 by itself")
        return Precision("32-true", "this GPU does not compute in bfloat16 by itself")
    if accelerator not in ("auto", "cpu") or torch.backends.mps.is_available():
        return Precision("32-true", "bfloat16 was not tried on this kind of device")
    if not gains_by_bfloat16("cpu"):
        return Precision("32-true", "this kind of processor is not faster in bfloat16")
    hidden_size, lanes = config.model.hidden_size, config.data.batch_size
    length = max(config.data.sequence_length, config.data.grow_to_sequence_length)
    sizes = f"windows of {length} × {lanes} items and {hidden_size} hidden units"
    if is_large_enough(hidden_size, length, lanes):
        return Precision("bf16-mixed", f"this kind of processor is faster in bfloat16 with {sizes}")
    return Precision("32-true", f"{sizes} are too few for this kind of processor to be faster in bfloat16")


def is_large_enough(hidden_size: int, length: int, lanes: int) -> bool:
    """Whether a step of H hidden units and windows of T × B items is faster in bfloat16 on a CPU that gains by it."""
    has_lanes = lanes >= _FEW_LANES or lstm.is_faster(hidden_size, length, lanes)
    return has_lanes and hidden_size * length * lanes >= _SMALL
