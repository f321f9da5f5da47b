"""The objects of one fit: made from the configuration, fitted, tested, reported."""

import logging
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from rich.console import Console

from lmtrain.config.keys import hyperparameters
from lmtrain.config.schedules import Plateau
from lmtrain.config.schema import Config
from lmtrain.data.stream import Augmentation
from lmtrain.errors import RunFailed, UserError
from lmtrain.kernels.malloc import keep_freed_memory
from lmtrain.model.language_model import LanguageModel, RecurrentLM
from lmtrain.model_files.flair import load_language_model, save_for_lmtrain, save_language_model
from lmtrain.program.signals import SignalWatch
from lmtrain.runs.report import write_report
from lmtrain.runs.run_folder import RunFolder
from lmtrain.training.announcements import log_end, loss_figures
from lmtrain.training.callbacks.anneal_on_plateau import AnnealOnPlateau
from lmtrain.training.callbacks.anneal_over_run import AnnealOverRun
from lmtrain.training.callbacks.best_model import BestModel
from lmtrain.training.callbacks.checkpoint import RunCheckpoint
from lmtrain.training.callbacks.ending import CALLBACKS, Ending, limits
from lmtrain.training.callbacks.folder_watch import FolderWatch
from lmtrain.training.callbacks.monitor import Monitor
from lmtrain.training.callbacks.order import build_callbacks
from lmtrain.training.callbacks.progress import RunProgress
from lmtrain.training.callbacks.run_length import TimeLimit
from lmtrain.training.callbacks.save_points import SavePoints
from lmtrain.training.callbacks.settings_watch import SettingsWatch
from lmtrain.training.callbacks.text_samples import TextSamples
from lmtrain.training.callbacks.validation_schedule import ValidationSchedule
from lmtrain.training.datamodule import WindowDataModule
from lmtrain.training.divergence import Diverged
from lmtrain.training.fine_tuning import with_larger_dictionary
from lmtrain.training.hardware import what_is_used
from lmtrain.training.lightning_internals.attributes import annotated
from lmtrain.training.lightning_internals.window_loop import use_window_loop
from lmtrain.training.loggers.make import make_loggers
from lmtrain.training.loggers.run_logger import RunLogger
from lmtrain.training.module import LanguageModelModule
from lmtrain.training.optimizers import make_optimizer
from lmtrain.training.precision import choose_precision
from lmtrain.training.save_policy import SavePolicy
from lmtrain.training.text import PreparedText
from lmtrain.training.trainer import make_trainer
from lmtrain.training.user_callbacks import check_averages, make_callbacks

log = logging.getLogger(__name__)


class Run:
    """The objects of one fit.

    Args:
        checkpoint: what to go on from, if anything.
        diverged: what happened before, if anything; the learning rate is then lower.
        time_limit: when to end.
    """

    def __init__(  # noqa: PLR0913
        self,
        config: Config,
        text: PreparedText,
        initial: LanguageModel | None,
        folder: RunFolder,
        console: Console,
        signals: SignalWatch,
        checkpoint: Path | None,
        diverged: Diverged | None,
        time_limit: TimeLimit,
    ) -> None:
        self.config = config
        self.folder = folder
        self.checkpoint = checkpoint
        self.precision_before = torch.get_float32_matmul_precision()
        self.is_fine_tuning = initial is not None
        others = make_callbacks(config.callbacks)
        check_averages(others.values(), checkpoint)
        self.language_model = (
            with_larger_dictionary(initial, text.dictionary) if initial else new_language_model(config, text)
        )
        self.module = make_module(config, self.language_model)
        self.data = make_datamodule(config, text)
        save = save_language_model if self.language_model.model.sizes.cell.is_in_flair else save_for_lmtrain
        self.best = BestModel(folder.best, lambda model, path: save(replace(self.language_model, model=model), path))
        settings = hyperparameters(config)
        settings["trainer.precision"] = choose_precision(config).name
        self.monitor = Monitor(config.trainer.log_every_n_steps, self.best, text.unknown_rates(), settings)
        policy = SavePolicy(config.checkpoint.every, config.checkpoint.every_steps, time_limit)
        self.saving = RunCheckpoint(folder.checkpoint_files, policy, signals, tuple(others.values()))
        annealing = make_annealing(config, diverged)
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

    def fit(self) -> None:
        if self.trainer.strategy.root_device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # allows TF32, as cuDNN does for the LSTM
            # read when cuBLAS is used first; without it the same product may be summed in another order
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if self.is_fine_tuning and self.checkpoint is None:
            self._validate()
            log.info("Before training (%s): %s", self.config.init_from, loss_figures(self.best.loss))
        self.module.train()
        keep_freed_memory()  # not before: the allocations of encoding differ from each other
        self.trainer.fit(self.module, datamodule=self.data, ckpt_path=self.checkpoint, weights_only=True)
        self.saving.signals.where = f"after the last step: {self.saving.how_saved()}, but not tested and reported yet"
        self.saving.let_signals_act(self.trainer)

    def _validate(self) -> None:
        self.trainer.validate(self.module, datamodule=self.data, verbose=False)
        self.saving.let_signals_act(self.trainer)

    def stop_other_processes(self) -> None:
        """Ends those that this one started, which would wait for it."""
        if self.trainer.strategy.launcher is not None:
            self.trainer.strategy.launcher.kill(signal.SIGTERM)

    def close(self) -> None:
        """Ends what the loggers leave open, for the next run in this process, and gives torch's setting back."""
        torch.set_float32_matmul_precision(self.precision_before)
        for logger in self.trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.close()

    def finish(self) -> dict[str, Any]:
        """Tests the best model and writes the results.

        Raises:
            UserError: the run's end could not be saved.
        """
        if not self.trainer.strategy.broadcast(self.saving.is_saved):
            raise UserError(
                f"The run is at its end, but its last checkpoint could not be saved in {self.folder.checkpoints}. "
                "Make room there; the same command goes on from the checkpoint before."
            )
        cause = self.ending.cause(self.trainer)
        if cause == CALLBACKS and not self.ending.has_trained(self.trainer):
            self._say_that_nothing_was_trained()
            results = self.folder.read_results()
            if results is not None and results["steps"] == self.trainer.global_step:
                return results
        is_removed = not self.trainer.strategy.broadcast(self.folder.best.exists())
        if is_removed or self.module.has_unmeasured_weights():  # a callback made them when training ended
            self._validate()
            log.info("The weights at the end: %s", loss_figures(self.module.evaluation_loss()))
            self.saving.replace_state(self.trainer, self.best)
        results = {
            "epochs": self.trainer.fit_loop.epoch_progress.current.ready,  # begun
            "steps": self.trainer.global_step,
            "chars": self.module.items_seen,
            "seconds": self.module.seconds_so_far(),
            "best_step": self.best.step,
            "val/loss": self.best.loss,
            "limits": limits(self.config),
            "ended_by": cause,
            **what_is_used(self.trainer),
            "precision_reason": choose_precision(self.config).reason,
        }
        if self.config.test:
            self.module.weights_to_test = load_language_model(self.folder.best).model.state_dict()
            self.trainer.test(self.module, datamodule=self.data, verbose=False)
            self.saving.let_signals_act(self.trainer)
            figures = self.trainer.callback_metrics
            results |= {name: value.item() for name, value in figures.items() if name.startswith("test/")}
        if self.trainer.is_global_zero:
            write_report(self.folder, self.config, results)
            self.folder.write_results(results)  # last: until it is there the same command does all of this
            if not annotated(self.trainer).fast_dev_run:
                log_end(self.config, results, self.folder)
            self.ending.log_way_on(self.trainer, cause, self.config)
        return results

    def _say_that_nothing_was_trained(self) -> None:
        """Raises `RunFailed` if there is no model from before, either."""
        reason = self.ending.why_nothing_was_trained(self.trainer, self.folder.path)
        if math.isinf(self.best.loss):
            raise RunFailed(reason)
        log.warning("%s", reason)


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


def make_module(config: Config, language_model: LanguageModel) -> LanguageModelModule:
    """The LightningModule; its checkpoints describe the model so that it can be used without the run."""
    description = {
        "items": list(language_model.dictionary.items),
        "is_forward_lm": language_model.is_forward_lm,
        "document_delimiter": language_model.document_delimiter,
        "level": language_model.level,
        "model": config.model.model_dump(exclude={"name"}),
    }
    return LanguageModelModule(language_model.model, make_optimizer(config), config.seed, description, config.compile)


def make_annealing(config: Config, diverged: Diverged | None) -> Callback:
    """What follows the configured schedule, from a lower rate after a divergence."""
    schedule = config.anneal.build_schedule()
    start_lr = None if diverged is None else diverged.lr * config.anneal.factor
    if isinstance(schedule, Plateau):
        return AnnealOnPlateau(schedule.factor, schedule.patience, schedule.min_lr, start_lr)
    step = 1 if diverged is None else max(1, diverged.step)
    from_scratch = config.init_from is None and diverged is None
    return AnnealOverRun(schedule, config.optimizer.lr, start_lr, step, suggests_rate=from_scratch)


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
