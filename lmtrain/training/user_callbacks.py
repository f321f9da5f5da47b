"""Makes the callbacks that a configuration adds to lmtrain's own, and checks them before anything is written."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from lightning.pytorch.utilities.model_helpers import is_overridden

from lmtrain.config.schema import Config
from lmtrain.config.shipped_callbacks import decision, refusal
from lmtrain.errors import UserError, raise_if_any
from lmtrain.training.callbacks.probe import Probe
from lmtrain.training.checkpoint_state import OWN_CALLBACKS, read_checkpoint
from lmtrain.training.checkpoint_values import encoded, unreadable_parts
from lmtrain.training.lightning_internals.callback_defaults import look_after_validations

_FIGURES = ("val/loss", "val/ppl", "val/bpc")
_WITHOUT_COLUMNS = "lmtrain.training.loggers.metrics_csv.MetricsCSV"


def make_callbacks(settings: Mapping[str, dict[str, Any]]) -> dict[str, Callback]:
    """New callbacks by their names, probes first: other callbacks may exchange the weights after a validation.

    EarlyStopping and ModelCheckpoint, which Lightning calls after an epoch by default, are called after validations.
    """
    callbacks = {name: instantiate(callback, _convert_="all") for name, callback in settings.items()}
    for callback in callbacks.values():
        look_after_validations(callback)
    return dict(sorted(callbacks.items(), key=lambda pair: not isinstance(pair[1], Probe)))


def check_callbacks(config: Config, checkpoints: Path) -> None:
    """Makes each callback once, checks it, and throws it away.

    Args:
        config: of the run.
        checkpoints: the folder of the run's own checkpoints.

    Raises:
        UserError: every problem of the callbacks.
    """
    problems: list[str] = []
    callbacks: dict[str, Callback] = {}
    for name, settings in config.callbacks.items():
        try:
            callbacks |= make_callbacks({name: settings})
        except InstantiationException as error:
            cause = " ".join(str(error.__cause__ or error).split())
            problems.append(f"callbacks.{name} cannot be made: {settings['_target_']}: {cause}")
    for name, callback in callbacks.items():
        problems += [f"callbacks.{name}: {problem}" for problem in _problems(callback, config, checkpoints)]
    raise_if_any(problems + _equal_states(callbacks) + _unknown_figures(callbacks))


def check_averages(callbacks: Iterable[Callback], checkpoint: Path | None) -> None:
    """Raises `UserError` if a checkpoint holds averaged weights and the callback that averaged them is missing."""
    if checkpoint is None or any(isinstance(callback, WeightAveraging) for callback in callbacks):
        return
    if "averaging_state" in read_checkpoint(checkpoint):
        raise UserError(
            f"The weights in {checkpoint} are the averages of WeightAveraging or EMAWeightAveraging. Add that callback "
            f"again to go on (+callbacks.NAME=...), or fine-tune the averages under another name=NAME: "
            f"init_from={checkpoint}"
        )


def _problems(callback: Any, config: Config, checkpoints: Path) -> list[str]:
    kind = type(callback)
    if not isinstance(callback, Callback):
        return [f"{kind.__module__}.{kind.__qualname__} is no lightning.pytorch.Callback."]
    if reason := refusal(kind):
        return [f"{reason}."]
    problems = unreadable_parts({"callbacks": {callback.state_key: encoded(callback.state_dict())}}, [])
    loggers = {logger["_target_"] for logger in config.logger.values()}
    shipped = decision(kind)
    if shipped is not None and shipped[1].needs_logger and loggers <= {_WITHOUT_COLUMNS}:
        problems.append(
            f"{shipped[0]} writes figures that metrics.csv has no columns for. Add a logger that takes them: "
            "logger=[csv,tensorboard], or wandb, mlflow."
        )
    if isinstance(callback, Probe) and config.data.level == "word":
        problems.append(
            "data.level=word: only a model of characters has vectors of words in their context. Leave it out."
        )
    if isinstance(callback, ModelCheckpoint) and _is_within(callback.dirpath, checkpoints):
        problems.append(
            f"dirpath={callback.dirpath} is the folder of lmtrain's own checkpoints ({checkpoints}). Give another one: "
            "dirpath: FOLDER."
        )
    return problems


def _is_within(folder: Any, checkpoints: Path) -> bool:
    """Whether a `dirpath` is in the folder of checkpoints, to which None leads as well."""
    return folder is None or Path(folder).resolve().is_relative_to(checkpoints.resolve())


def _equal_states(callbacks: dict[str, Callback]) -> list[str]:
    """Sentences about callbacks whose states would have the same name in a checkpoint."""
    owners = dict.fromkeys(OWN_CALLBACKS, "lmtrain's own")
    problems = []
    for name, callback in callbacks.items():
        if isinstance(callback, Callback) and is_overridden("state_dict", callback, Callback):
            if callback.state_key in owners:
                problems.append(
                    f"callbacks.{name}: its state has the same name as {owners[callback.state_key]}: "
                    f"{callback.state_key}. Give the class another name or a state_key property."
                )
            owners[callback.state_key] = f"that of callbacks.{name}"
    return problems


def _unknown_figures(callbacks: dict[str, Callback]) -> list[str]:
    """Sentences about monitored figures that nobody logs. None if there is a user's own callback, which may log any."""
    if any(not type(callback).__module__.startswith("lightning.pytorch.") for callback in callbacks.values()):
        return []
    return [
        f"callbacks.{name}: monitor={callback.monitor}: there is no such figure. Monitor {', '.join(_FIGURES)}."
        for name, callback in callbacks.items()
        if isinstance(callback, (EarlyStopping, ModelCheckpoint)) and callback.monitor not in (None, *_FIGURES)
    ]
