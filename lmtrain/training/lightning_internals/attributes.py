"""The attributes that Lightning gives its Trainer at run time only, so that its annotations leave them out."""

from typing import TYPE_CHECKING, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.profilers import Profiler

if TYPE_CHECKING:  # both use what is below
    from lmtrain.training.datamodule import WindowDataModule
    from lmtrain.training.module import LanguageModelModule


class AnnotatedTrainer(Trainer):
    """Never made: says what a Trainer has that runs lmtrain's module and datamodule."""

    callbacks: list[Callback]
    datamodule: "WindowDataModule"
    fast_dev_run: int | bool
    profiler: Profiler
    _val_check_time_interval: float | None


def annotated(trainer: Trainer) -> AnnotatedTrainer:
    return cast(AnnotatedTrainer, trainer)


def own_module(pl_module: LightningModule) -> "LanguageModelModule":
    """What Lightning hands to hooks, as what it is."""
    return cast("LanguageModelModule", pl_module)


def window_progress(trainer: Trainer) -> _ProcessedTracker:
    """How many windows of the epoch that is running were begun, processed and completed."""
    return cast(_ProcessedTracker, trainer.fit_loop.epoch_loop.batch_progress.current)
