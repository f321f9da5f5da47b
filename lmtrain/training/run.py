"""The objects of one fit: made from the configuration, fitted, tested, reported."""

import logging
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lightning.pytorch import Callback
from rich.console import Console

from lmtrain.config.keys import hyperparameters
from lmtrain.config.peak_rate import choose_peak_rate
from lmtrain.config.schedules import Plateau
from lmtrain.config.schema import Config
from lmtrain.data.stream import Augmentation
from lmtrain.model.language_model import LanguageModel, RecurrentLM
from lmtrain.model_files.flair import save_for_lmtrain, save_language_model
from lmtrain.program.signals import SignalWatch
from lmtrain.runs.run_folder import RunFolder
from lmtrain.training.announcements import log_start
from lmtrain.training.callbacks.anneal_on_plateau import AnnealOnPlateau
from lmtrain.training.callbacks.anneal_over_run import AnnealOverRun
from lmtrain.training.callbacks.best_model import BestModel
from lmtrain.training.callbacks.checkpoint import RunCheckpoint
from lmtrain.training.callbacks.ending import Ending
from lmtrain.training.callbacks.folder_watch import FolderWatch
from lmtrain.training.callbacks.monitor import Monitor
from lmtrain.training.callbacks.order import build_callbacks
from lmtrain.training.callbacks.progress import RunProgress
from lmtrain.training.callbacks.run_length import TimeLimit, planned_steps
from lmtrain.training.callbacks.save_points import SavePoints
from lmtrain.training.callbacks.settings_watch import SettingsWatch
from lmtrain.training.callbacks.text_samples import TextSamples
from lmtrain.training.callbacks.validation_schedule import ValidationSchedule
from lmtrain.training.datamodule import WindowDataModule
from lmtrain.training.divergence import Diverged
from lmtrain.training.fine_tuning import with_larger_dictionary
from lmtrain.training.lightning_internals.window_loop import use_window_loop
from lmtrain.training.loggers.make import close, make_loggers
from lmtrain.training.module import LanguageModelModule
from lmtrain.training.optimizers import make_optimizer
from lmtrain.training.precision import choose_precision
from lmtrain.training.save_policy import SavePolicy
from lmtrain.training.text import PreparedText
from lmtrain.training.trainer import make_trainer
from lmtrain.training.user_callbacks import check_averages, make_callbacks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    Args:
        config: complete: what `init_from` and the number of devices bring along is in it.
        text: the corpus as ids.
        initial: the model to fine-tune; None for random weights.
    """

    config: Config
    text: PreparedText
    initial: LanguageModel | None


@dataclass(frozen=True)
class Attempt:
    """Where one fit of a run begins, and when it ends.

    Args:
        rollbacks: how many attempts have diverged before.
        checkpoint: what to go on from, if anything.
        diverged: how the attempt before ended, if there was one; the learning rate is then lower.
        time_limit: that of the run, whose time goes on through all attempts.
    """

    rollbacks: int
    checkpoint: Path | None
    diverged: Diverged | None
    time_limit: TimeLimit


class Run:
    """The objects of one fit: it fits, tests and reports."""

    def __init__(
        self, start: Start, attempt: Attempt, folder: RunFolder, signals: SignalWatch, console: Console
    ) -> None:
        config, text, initial, checkpoint = start.config, start.text, start.initial, attempt.checkpoint
        self.start, self.attempt = start, attempt
        self.config = config
        self.folder = folder
        self.precision_before = torch.get_float32_matmul_precision()
        others = make_callbacks(config.callbacks)
        check_averages(others.values(), checkpoint)
        self.language_model = (
            with_larger_dictionary(initial, text.dictionary) if initial else new_language_model(config, text)
        )
        self.data = make_datamodule(config, text)
        self.peak_rate = choose_peak_rate(config, lambda: planned_steps(config.trainer, self.data))
        self.module = make_module(config, self.language_model, self.peak_rate.value)
        save = save_language_model if self.language_model.model.sizes.cell.is_in_flair else save_for_lmtrain
        self.best = BestModel(folder.best, lambda model, path: save(replace(self.language_model, model=model), path))
        settings = hyperparameters(config)
        settings |= {"trainer.precision": choose_precision(config).name, "optimizer.lr": self.peak_rate.value}
        self.monitor = Monitor(config.trainer.log_every_n_steps, self.best, text.unknown_rates(), settings)
        policy = SavePolicy(config.checkpoint.every, config.checkpoint.every_steps, attempt.time_limit)
        self.saving = RunCheckpoint(folder.checkpoint_files, policy, signals, tuple(others.values()))
        annealing = make_annealing(config, self.peak_rate.value, attempt.diverged)
        self.ending = Ending(annealing, self.saving, others)
        own = self._own_callbacks(annealing, console)
        self.trainer = make_trainer(
            config,
            folder.path,
            logger=make_loggers(config, folder, checkpoint),
            callbacks=build_callbacks(own, others.values()),
            default_root_dir=folder.path,
        )
        use_window_loop(self.trainer)
        # already now: before Lightning does it, it reads a checkpoint's weights and callbacks copy the model
        self.trainer.precision_plugin.convert_module(self.module)

    def _own_callbacks(self, annealing: Callback, console: Console) -> list[Callback]:
        every = self.config.trainer.log_every_n_steps
        return [
            SettingsWatch(),
            SavePoints(self.saving),
            FolderWatch(self.folder, every),
            ValidationSchedule(self.config.data.validations_per_epoch),
            annealing,
            self.ending,
            self.best,
            self.monitor,
            RunProgress(self.monitor, self.best, console),
            TextSamples(self.language_model),
            self.saving,
        ]

    def log_start(self) -> None:
        """Says what will be trained; of a later attempt, that the run has gone back."""
        if self.attempt.rollbacks == 0:
            model, checkpoint = self.language_model, self.attempt.checkpoint
            log_start(self.config, model, self.start.text, self.trainer, self.peak_rate, checkpoint)
        else:
            self.monitor.note(self.trainer, {"rollbacks": self.attempt.rollbacks}, self.attempt.diverged.step)

    def validate(self) -> None:
        """Measures the loss of the weights that are there now."""
        self.trainer.validate(self.module, datamodule=self.data, verbose=False)
        self.saving.let_signals_act(self.trainer)

    def stop_other_processes(self) -> None:
        """Ends those that this one started, which would wait for it."""
        if self.trainer.strategy.launcher is not None:
            self.trainer.strategy.launcher.kill(signal.SIGTERM)

    def close(self) -> None:
        """Closes the loggers, and gives torch's setting back."""
        torch.set_float32_matmul_precision(self.precision_before)
        close(self.trainer.loggers)


def new_language_model(config: Config, text: PreparedText) -> LanguageModel:
    """A model with random weights."""
    model = RecurrentLM(config.model.sizes(len(text.dictionary)))
    return LanguageModel(
        model=model,
        dictionary=text.dictionary,
        is_forward_lm=config.direction == "forward",
        document_delimiter=config.data.document_delimiter,
        level=config.data.level,
    )


def make_module(config: Config, language_model: LanguageModel, lr: float) -> LanguageModelModule:
    """The LightningModule; its checkpoints describe the model so that it can be used without the run."""
    description = {
        "items": list(language_model.dictionary.items),
        "is_forward_lm": language_model.is_forward_lm,
        "document_delimiter": language_model.document_delimiter,
        "level": language_model.level,
        "model": config.model.model_dump(exclude={"name"}),
    }
    optimizer = make_optimizer(config, lr)
    return LanguageModelModule(language_model.model, optimizer, config.seed, description, config.compile)


def make_annealing(config: Config, lr: float, diverged: Diverged | None) -> Callback:
    """What follows the configured schedule, from a lower rate after a divergence."""
    schedule = config.anneal.build_schedule()
    start_lr = None if diverged is None else diverged.lr * config.anneal.factor
    if isinstance(schedule, Plateau):
        return AnnealOnPlateau(schedule.factor, schedule.patience, schedule.min_lr, start_lr)
    step = 1 if diverged is None else max(1, diverged.step)
    return AnnealOverRun(schedule, lr, start_lr, step)


def make_datamodule(config: Config, text: PreparedText) -> WindowDataModule:
    data = config.data
    case_tables = text.dictionary.case_tables() if data.random_case_flip else None
    return WindowDataModule(
        text.train,
        text.valid,
        text.test,
        batch_size=data.batch_size,
        sequence_length=data.sequence_length,
        grow_to_sequence_length=data.grow_to_sequence_length,
        augmentation=Augmentation(config.seed, data.shuffle, case_tables),
        backward=config.direction == "backward",
    )
