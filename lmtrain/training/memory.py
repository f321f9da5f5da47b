"""Checks before a model is made that it fits into memory, and explains running out of memory in training."""

import math
import os

import torch

from lmtrain.config.schema import Config
from lmtrain.errors import UserError
from lmtrain.model.language_model import parameter_count


def check_fits(config: Config, vocabulary_size: int) -> None:
    """Raises `UserError` if the weights alone, which are made on the CPU in float32, exceed this machine's memory."""
    try:
        needed: float = 4 * parameter_count(config.model.sizes(vocabulary_size))
    except OverflowError:
        needed = math.inf
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        names = ("hidden_size", "nlayers", "embedding_size", "nout")
        sizes = ", ".join(f"model.{name}={getattr(config.model, name)}" for name in names)
        raise UserError(
            f"The weights of a model with {sizes} and {vocabulary_size:,} items take {needed / 2**30:,.1f} GiB, and "
            f"this machine has {there / 2**30:,.1f} GiB. Make the model smaller: model=large has 2048 units."
        )


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, of a GPU or of this machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def too_little(error: BaseException) -> UserError:
    """The message for an error for which `is_exhausted` holds."""
    reason = (str(error).splitlines() or ["no memory is left"])[0]
    return UserError(
        f"There is too little memory for a step: {reason} What was saved before is kept. Use less, with a smaller "
        "data.batch_size, data.sequence_length or model.hidden_size under another name=NAME, or go on with this run "
        "on more trainer.devices, which share the lanes."
    )
