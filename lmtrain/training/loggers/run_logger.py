"""The base class of lmtrain's loggers, and what they know of their run."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger


@dataclass(frozen=True)
class RunInfo:
    """The run that a logger is made for.

    Args:
        folder: of the run; it exists.
        name: of the run.
        key: identifies the run, also after it is resumed; None in a process that writes nothing.
        config: the configuration, with all its keys.
        resume_step, resume_chars: optimizer steps and items of the checkpoint that the run goes on from; figures that
            were logged after these are of a part of the run that was lost. None if the run begins.
    """

    folder: Path
    name: str
    key: str | None
    config: dict[str, Any]
    resume_step: int | None = None
    resume_chars: int | None = None


class RunLogger(Logger):
    """A Lightning logger whose constructor takes a `RunInfo` as `run`, and the keys of its configuration.

    A subclass must define `log_metrics` and may define the other methods, which Lightning and the run call. Exceptions
    become warnings, and the run goes on (`guarded.py`). Every rank has a logger, so methods that write are decorated
    with Lightning's `rank_zero_only`.
    """

    packages: tuple[str, ...] = ()
    """The packages that must be installed, by the names under which they are imported."""

    extra: str | None = None
    """The extra of lmtrain that brings those packages."""

    takes_text = False
    """Whether `add_text` does something: a sample of the model's text takes a while to make."""

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_args: Any, **_more: Any) -> None:
        """Called once, before the first figures, with the settings by which runs are compared."""

    def add_text(self, name: str, text: str, step: int) -> None:
        """Called on the first rank with a sample of the model's text after each validation.

        Not called `log_text`, which Lightning's WandbLogger has with other arguments.
        """

    def close(self) -> None:
        """Called when the run has ended, tests included, or was broken off."""
