"""Where messages go: short lines to the terminal, lines with the time to the run's train.log."""

import logging
import warnings
from pathlib import Path

from rich.console import Console

_PACKAGE = logging.getLogger("lmtrain")


class _ConsoleHandler(logging.Handler):
    """Prints through the console of the progress bar, so that lines stand above it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.capitalize()}: "
        self.console.print(level + record.getMessage(), markup=False, soft_wrap=True)


def log_to_console(console: Console, is_first_process: bool = True) -> None:
    """Prints lmtrain's messages, and warnings only of other libraries; of the first process only."""
    _PACKAGE.setLevel(logging.INFO)
    _PACKAGE.propagate = False
    for handler in list(_PACKAGE.handlers):
        handler.close()
        _PACKAGE.removeHandler(handler)
    if is_first_process:
        _PACKAGE.addHandler(_ConsoleHandler(console))
    else:
        _PACKAGE.addHandler(logging.NullHandler())
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    _leave_out_known_warnings()


def log_to_file(path: Path) -> None:
    """Appends the messages to a file, too."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _PACKAGE.addHandler(handler)


def _leave_out_known_warnings() -> None:
    """Lightning's advice that does not hold here, and its own use of things that are on their way out."""
    for message in (
        ".*does not have many workers.*",  # the dataset reads ahead by itself
        ".*your dataloader is not resumable.*",  # it begins where the checkpoint says
        ".*is smaller than the logging interval.*",
        ".*`IterableDataset` has `__len__` defined.*",  # there are no workers
        ".*It is recommended to use `self.log.*sync_dist=True.*",  # the figures are reduced already
        ".*isinstance.treespec, LeafSpec.*",
        ".*``noload`` loader strategy is deprecated.*",  # MLflow's use of SQLAlchemy
    ):
        warnings.filterwarnings("ignore", message)
