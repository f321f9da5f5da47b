"""Lightning's Trainer from the configuration."""

import inspect
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lmtrain.config import TrainerConfig
from lmtrain.epoch_loop import WindowLoop
from lmtrain.errors import UserError
from lmtrain.processor import gains_by_bfloat16


def make_trainer(config: TrainerConfig, **more: Any) -> Trainer:
    """Lightning's Trainer from its own arguments.

    Raises:
        UserError: it does not take them, or the hardware they ask for is not there.
    """
    arguments = config.model_dump()
    arguments["precision"] = choose_precision(config.precision, config.accelerator)
    unknown = set(arguments) - set(inspect.signature(Trainer.__init__).parameters)
    if unknown:
        raise UserError(*(f"trainer.{name} is no argument of Lightning's Trainer." for name in sorted(unknown)))
    try:
        trainer = Trainer(
            **arguments,
            **more,
            **({} if "profiler" in arguments else {"profiler": NoProfiler()}),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=True,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        asked = ", ".join(
            f"trainer.{name}={arguments[name]}" for name in ("accelerator", "devices", "strategy", "precision")
        )
        raise UserError(
            f"Lightning's Trainer does not accept {asked}: {' '.join(str(error).split())} "
            "trainer.accelerator=auto takes the hardware that is there, trainer.accelerator=cpu needs none."
        ) from None
    trainer.fit_loop.epoch_loop = WindowLoop(trainer, trainer.min_steps, trainer.max_steps)
    return trainer


def check_can_start_processes(config: TrainerConfig) -> None:
    """Raises `UserError` if other processes are wanted where there is no program that can be started again."""
    is_program = Path(sys.argv[0]).is_file() and not hasattr(sys, "ps1")
    if is_program or "RANK" in os.environ or not _several(config.devices):
        return
    raise UserError(
        f"trainer.devices={config.devices}: several processes cannot be started from a notebook or an interactive "
        "Python, since each of them would have to start as this one did. Train from a shell: python train.py ... "
        f"trainer.devices={config.devices}, or here on one device: trainer.devices=1."
    )


def _several(devices: int | str | list[int]) -> bool:
    """Whether Lightning's `devices`, such as 2, "2", -1, [0, 1] or "0,1", are more than one; "auto" takes one there."""
    if isinstance(devices, list):
        return len(devices) > 1
    return devices != "auto" and ("," in str(devices) or int(devices) not in (0, 1))


class NoProfiler(PassThroughProfiler):
    """Lightning's own way not to profile makes a generator for every hook."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> nullcontext:  # noqa: ARG002
        return self._nothing


def choose_precision(precision: str | int, accelerator: str) -> str | int:
    """`auto` becomes bf16-mixed where that is faster, else 32-true."""
    if precision != "auto":
        return precision
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        device_type = "cuda"
    elif accelerator in ("auto", "cpu") and not torch.backends.mps.is_available():
        device_type = "cpu"
    else:
        return "32-true"
    return "bf16-mixed" if gains_by_bfloat16(device_type) else "32-true"


def is_first_process() -> bool:
    """True in the process with global rank 0, also before the ranks have met."""
    for name in ("RANK", "SLURM_PROCID"):  # set by torchrun, by srun
        if name in os.environ:
            return os.environ[name] == "0"
    return os.environ.get("NODE_RANK", "0") == os.environ.get("LOCAL_RANK", "0") == "0"
