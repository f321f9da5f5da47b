"""The loggers of a run from its configuration."""

import importlib.util
import inspect
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from lmtrain.config.schema import Config
from lmtrain.errors import UserError, raise_if_any
from lmtrain.runs.run_folder import RunFolder
from lmtrain.training.loggers.guarded import guarded
from lmtrain.training.ranks import is_first_process


def make_loggers(config: Config, folder: RunFolder, resume_from: Path | None) -> list:
    """The configured loggers, each with what it takes as an argument of the folder, the run and its checkpoint."""
    known: dict[str, Any] = {"save_dir": str(folder.path), "run_key": folder.key() if is_first_process() else None}
    if resume_from is not None:
        checkpoint = torch.load(resume_from, map_location="cpu", weights_only=True, mmap=True)
        known |= {"resume_step": checkpoint["global_step"], "resume_chars": checkpoint["lmtrain"]["items_seen"]}
    loggers = []
    for settings in config.logger.values():
        takes = inspect.signature(get_object(settings["_target_"])).parameters
        try:
            logger = instantiate({name: value for name, value in known.items() if name in takes} | settings)
            loggers.append(guarded(logger))
        except InstantiationException as error:
            raise (error.__cause__ if isinstance(error.__cause__, UserError) else error) from None
    return loggers


def check_logger_packages(config: Config) -> None:
    """Raises `UserError` if a logger needs packages that are not installed."""
    needed = {"wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
    missing = {
        extra: [name for name in needed.get(extra, ()) if importlib.util.find_spec(name) is None]
        for extra in config.logger
    }
    raise_if_any(
        [
            f"logger={extra} needs {' and '.join(names)}: pip install 'lmtrain[{extra}]', or choose another logger."
            for extra, names in missing.items()
            if names
        ]
    )
