"""Makes the loggers of a run from its configuration, and checks that their packages are installed."""

import importlib.util
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.utils import get_object, instantiate
from lightning.pytorch.loggers import Logger

from lmtrain.config.saved import saved
from lmtrain.config.schema import Config
from lmtrain.errors import UserError, raise_if_any
from lmtrain.runs.run_folder import RunFolder
from lmtrain.training.checkpoint_state import RunState, read_checkpoint
from lmtrain.training.loggers.guarded import guarded
from lmtrain.training.loggers.run_logger import RunInfo, RunLogger
from lmtrain.training.ranks import is_first_process


def make_loggers(config: Config, folder: RunFolder, resume_from: Path | None) -> list[Logger]:
    """The configured loggers, guarded so that their failures do not end the run.

    Args:
        resume_from: the checkpoint that the run goes on from, if any.

    Raises:
        UserError: a logger cannot be made.
    """
    step = chars = None
    if resume_from is not None:
        checkpoint = read_checkpoint(resume_from)
        step, chars = checkpoint["global_step"], RunState.read(checkpoint).items_seen
    key = folder.key() if is_first_process() else None
    run = RunInfo(folder.path, config.name, key, saved(config), step, chars)
    loggers: list[Logger] = []
    try:
        for name, settings in config.logger.items():
            loggers.append(guarded(_make_logger(name, settings, run)))
    except UserError:
        close(loggers)
        raise
    return loggers


def close(loggers: Iterable[Logger]) -> None:
    """Ends what the loggers leave open, for the next run in this process."""
    for logger in loggers:
        if isinstance(logger, RunLogger):
            logger.close()


def _make_logger(name: str, settings: Mapping[str, Any], run: RunInfo) -> Logger:
    """A `RunLogger` gets the run; another logger of Lightning's kind gets the run folder as its `save_dir`."""
    kind = get_object(settings["_target_"])
    more: dict[str, Any] = {"run": run} if _is_run_logger(kind) else {}
    if not more and "save_dir" in inspect.signature(kind).parameters and "save_dir" not in settings:
        more = {"save_dir": str(run.folder)}
    try:
        return instantiate(settings, _partial_=True)(**more)
    except UserError:
        raise
    except Exception as error:  # each has its own
        cause = " ".join(str(error).split())
        raise UserError(f"logger.{name} cannot be made: {settings['_target_']}: {cause}") from error


def _is_run_logger(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, RunLogger)


def check_logger_packages(config: Config) -> None:
    """Raises `UserError` if a logger needs packages that are not installed."""
    problems = []
    for name, settings in config.logger.items():
        kind = get_object(settings["_target_"])
        if not _is_run_logger(kind):
            continue
        missing = [package for package in kind.packages if importlib.util.find_spec(package) is None]
        if missing:
            install = f"'lmtrain[{kind.extra}]'" if kind.extra else " ".join(missing)
            problems.append(
                f"logger={name} needs {' and '.join(missing)}: pip install {install}, or choose another logger."
            )
    raise_if_any(problems)
