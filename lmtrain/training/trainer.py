"""Makes Lightning's Trainer from the configuration, and explains what the Trainer refuses."""

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning.pytorch import Trainer
from lightning.pytorch.profilers import (
    AdvancedProfiler,
    PassThroughProfiler,
    Profiler,
    PyTorchProfiler,
    SimpleProfiler,
)
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lmtrain.config.schema import Config, TrainerConfig
from lmtrain.config.trainer_values import SHORT_PRECISIONS
from lmtrain.errors import UserError
from lmtrain.training.lightning_internals.processes import leave_signals_alone
from lmtrain.training.precision import choose_precision


def make_trainer(config: Config, folder: Path | None = None, **more: Any) -> Trainer:
    """Makes Lightning's Trainer.

    Args:
        config: of the run; the section `trainer` has the arguments, and the model's sizes decide about the precision.
        folder: of the run; None for a Trainer that only shows what it would use.
        more: further arguments, in place of those that lmtrain sets.

    Raises:
        UserError: Lightning refuses the arguments, or the hardware that they ask for is missing.
    """
    arguments = _lightning_arguments(config.trainer, folder) | {"precision": _precision(config)}
    more = {
        **{"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": True},
        **{"num_sanity_val_steps": 0, "reload_dataloaders_every_n_epochs": 1},
        **more,
    }
    try:
        trainer = Trainer(**arguments, **more)
    except _REFUSALS as error:
        raise UserError(_reason(error, arguments)) from None
    _check_devices(trainer, config.trainer)
    leave_signals_alone(trainer)
    return trainer


def check_can_start_processes(config: TrainerConfig) -> None:
    """Raises `UserError` if several processes are asked for in a notebook or an interactive Python."""
    is_program = Path(sys.argv[0]).is_file() and not hasattr(sys, "ps1")
    if is_program or "RANK" in os.environ or not _several(config.devices):
        return
    raise UserError(
        f"trainer.devices={config.devices}: several processes cannot be started from a notebook or an interactive "
        "Python, since each of them would have to start as this one did. Train from a shell: python train.py ... "
        f"trainer.devices={config.devices}, or here on one device: trainer.devices=1."
    )


def _several(devices: int | str | list[int]) -> bool:
    """Whether Lightning's `devices`, such as 2, "2", -1, [0, 1] or "0,1", are several; in a notebook "auto" is one."""
    if isinstance(devices, list):
        return len(devices) > 1
    return devices != "auto" and ("," in str(devices) or int(devices) not in (0, 1))


_REFUSALS = (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError)
_HARDWARE = ("accelerator", "devices", "num_nodes", "strategy", "precision")


def _lightning_arguments(config: TrainerConfig, folder: Path | None) -> dict[str, Any]:
    """The arguments as Lightning's Trainer takes them."""
    arguments = config.model_dump()
    arguments.pop("max_time", None)  # `RunCheckpoint` looks at the clock: Lightning's timer asks all ranks at each step
    if config.max_epochs is None:
        arguments["max_epochs"] = -1
    if config.added("min_steps") is not None:
        arguments.setdefault("min_epochs", 0)  # Lightning would make it 1
    arguments["profiler"] = make_profiler(config.added("profiler"), folder)
    if not isinstance(config.strategy, str):
        arguments["strategy"] = instantiate(config.strategy, _convert_="all")
    elif config.strategy.lower() == "single_device":  # as a name it would take the CPU whatever the accelerator is
        arguments["strategy"] = "auto"
    return arguments


def _precision(config: Config) -> str:
    precision = str(choose_precision(config).name)
    precision = SHORT_PRECISIONS.get(precision, precision)
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if precision == "16-mixed" and (config.trainer.accelerator == "cpu" or not has_gpu):
        asked = config.trainer.precision
        raise UserError(f"trainer.precision={asked} is for GPUs. On CPUs use bf16-mixed, 32-true or auto.")
    return precision


def make_profiler(setting: str | dict[str, Any] | None, folder: Path | None) -> Profiler:
    """Lightning's profiler for `trainer.profiler`, which writes into the run folder unless its arguments say otherwise.

    Raises:
        UserError: the profiler refuses its arguments.
    """
    if setting is None:
        return NoProfiler()
    if isinstance(setting, str):
        kinds = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
        kind = kinds[setting.lower()]
        setting = {"_target_": f"{kind.__module__}.{kind.__name__}"}
    takes = inspect.signature(get_object(setting["_target_"])).parameters
    place = {"dirpath": str(folder) if folder else None, "filename": "profile"}
    try:
        return instantiate({name: value for name, value in place.items() if name in takes} | setting, _convert_="all")
    except InstantiationException as error:
        raise UserError(f"trainer.profiler cannot be made: {' '.join(str(error.__cause__ or error).split())}") from None


def _reason(error: Exception, arguments: dict[str, Any]) -> str:
    """A sentence about what Lightning refused. A Trainer with the arguments about hardware alone shows whether it was
    the hardware."""
    said = " ".join(str(error).split())
    hardware = {name: arguments[name] for name in _HARDWARE}
    try:
        Trainer(**hardware, logger=False, enable_progress_bar=False, enable_model_summary=False)
    except _REFUSALS:
        asked = ", ".join(f"trainer.{name}={value}" for name, value in hardware.items())
        return (
            f"Lightning's Trainer does not accept {asked}: {said} "
            "trainer.accelerator=auto takes the hardware that is there, trainer.accelerator=cpu needs none."
        )
    return f"Lightning's Trainer refuses what it was given: {said}"


def _check_devices(trainer: Trainer, config: TrainerConfig) -> None:
    """Raises `UserError` if the Trainer would train in another way than the configuration says."""
    if config.strategy == "single_device" and trainer.world_size > 1:
        raise UserError(
            f"trainer.strategy=single_device trains on one device, and trainer.devices={config.devices} with "
            f"trainer.num_nodes={config.num_nodes} are {trainer.world_size}. Use trainer.strategy=ddp."
        )


@contextmanager
def torch_settings_kept() -> Iterator[None]:
    """Restores settings of the whole process that `trainer.deterministic`, `trainer.benchmark` and GPUs change."""
    products = torch.get_float32_matmul_precision()
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    is_benchmark = torch.backends.cudnn.benchmark
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(is_deterministic, warn_only=only_warns)
        torch.backends.cudnn.benchmark = is_benchmark
        torch.set_float32_matmul_precision(products)
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


class NoProfiler(PassThroughProfiler):
    """Does nothing, and faster than Lightning's class for that, which makes a generator for every hook."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> nullcontext[None]:  # type: ignore[override]  # noqa: ARG002
        return self._nothing
