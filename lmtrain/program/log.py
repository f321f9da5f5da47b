"""Sends lmtrain's messages to the terminal and, with the time, to the run's train.log."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

log = logging.getLogger(__name__)

_PACKAGE = logging.getLogger("lmtrain")


class _ConsoleHandler(logging.Handler):
    """Prints through the console of the progress bar, so that messages appear above the bar."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.capitalize()}: "
        self.console.print(level + record.getMessage(), markup=False, soft_wrap=True)


class _FileHandler(logging.FileHandler):
    """Warns once when the file cannot be written; buffered messages follow when the disk has room again."""

    is_full = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002
        error = sys.exc_info()[1]
        if not self.is_full and isinstance(error, OSError):
            self.is_full = True
            log.warning("%s cannot be written: %s. The run goes on", self.baseFilename, error.strerror)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def logging_to(console: Console, is_first_process: bool = True) -> Iterator[None]:
    """Within the block rank 0 prints lmtrain's messages, and of Lightning's only warnings.

    Afterwards handlers, levels and warning filters are as before.
    """
    quiet = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [(logger, logger.level) for logger in (_PACKAGE, *quiet)]
    handlers, propagate = _PACKAGE.handlers, _PACKAGE.propagate
    _PACKAGE.setLevel(logging.INFO)
    _PACKAGE.propagate = False
    _PACKAGE.handlers = [_ConsoleHandler(console) if is_first_process else logging.NullHandler()]
    for logger in quiet:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            _leave_out_known_warnings()
            yield
    finally:
        for handler in _PACKAGE.handlers:
            handler.close()
        _PACKAGE.handlers, _PACKAGE.propagate = handlers, propagate
        for logger, level in levels:
            logger.setLevel(level)


def log_to_file(path: Path) -> None:
    """Also appends the messages to a file, until `logging_to` ends."""
    try:
        handler = _FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        log.warning("%s cannot be written: %s. The run goes on", path, error.strerror)
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _PACKAGE.addHandler(handler)


def reopen_log() -> None:
    """Opens the log file again, because it was removed."""
    for handler in [*_PACKAGE.handlers]:
        if isinstance(handler, _FileHandler):
            _PACKAGE.removeHandler(handler)
            handler.close()
            log_to_file(Path(handler.baseFilename))


def _leave_out_known_warnings() -> None:
    """Hides advice of Lightning that does not apply here, and deprecations in its own code."""
    for message in (
        ".*does not have many workers.*",  # the dataset reads ahead by itself
        ".*your dataloader is not resumable.*",  # it begins where the checkpoint says
        ".*is smaller than the logging interval.*",
        ".*callbacks used to create the checkpoint need to be provided.*",  # a run may go on without one of them
        ".*`IterableDataset` has `__len__` defined.*",  # there are no workers
        ".*It is recommended to use `self.log.*sync_dist=True.*",  # the figures are reduced already
        ".*isinstance.treespec, LeafSpec.*",
        "GPU available but not used.*",  # trainer.accelerator=cpu says so
        ".*``noload`` loader strategy is deprecated.*",  # MLflow's use of SQLAlchemy
    ):
        warnings.filterwarnings("ignore", message)
    if "SLURM_JOB_ID" not in os.environ:  # on a login node, or where somebody installed SLURM's commands
        warnings.filterwarnings("ignore", "The `srun` command is available on your system but is not used.*")
