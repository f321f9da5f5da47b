"""The whole run: configuration → objects → fit → test → results."""

import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO, cast

import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback
from lightning.pytorch.loggers import WandbLogger
from rich.console import Console

from lmtrain.allocator import keep_freed_memory
from lmtrain.announcements import loss_figures, say_how_it_ended, say_what_is_trained
from lmtrain.callbacks.anneal import AnnealOnPlateau
from lmtrain.callbacks.anneal_over_run import AnnealOverRun
from lmtrain.callbacks.best_model import BestModel
from lmtrain.callbacks.checkpoint import RunCheckpoint
from lmtrain.callbacks.ending import CALLBACKS, Ending, limits
from lmtrain.callbacks.folder_watch import FolderWatch
from lmtrain.callbacks.monitor import Monitor
from lmtrain.callbacks.progress import RunProgress
from lmtrain.callbacks.run_length import TimeLimit
from lmtrain.callbacks.save_points import SavePoints
from lmtrain.callbacks.signals import Interrupted, SignalWatch
from lmtrain.callbacks.text_samples import TextSamples
from lmtrain.callbacks.validation_schedule import ValidationSchedule
from lmtrain.config import AnnealConfig, Config, check_config
from lmtrain.datamodule import WindowDataModule
from lmtrain.errors import RunFailed, UserError
from lmtrain.fine_tuning import check_is_a_file, fingerprint, grown, inherit
from lmtrain.flair_format import load_language_model, save_language_model
from lmtrain.hardware import what_is_used
from lmtrain.lanes import with_lanes
from lmtrain.log import log_to_file, logging_to
from lmtrain.loggers import check_logger_packages, make_loggers
from lmtrain.model import CharLM, LanguageModel
from lmtrain.module import Diverged, LanguageModelModule
from lmtrain.optimizer_trial import check_rate, problem_of
from lmtrain.output import forgiving
from lmtrain.preparation import PreparedText, prepare_text
from lmtrain.ranks import end_with_first_process, is_first_process
from lmtrain.report import is_reported, write_report
from lmtrain.run_folder import RunFolder, hyperparameters, is_finished
from lmtrain.trainer import check_can_start_processes, choose_precision, make_trainer, torch_settings_kept
from lmtrain.trainer_values import seconds
from lmtrain.user_callbacks import check_averages, check_callbacks, make_callbacks
from lmtrain.windows import Augmentation

log = logging.getLogger(__name__)


def train(values: dict[str, Any], explicit: Collection[str] = ()) -> dict[str, Any]:
    """Trains as a resolved configuration says, or goes on where the run stopped.

    Args:
        values: the configuration, without interpolations.
        explicit: the keys that the user set; with `init_from` the model brings the others along.

    Any program may call it, also in a thread (then signals are not watched) and in a notebook, one call at a time.
    Relative paths are those of the working directory, which must stay the same until it ends. It leaves the process as
    it was, but for torch's random state, which becomes that of `seed`, and on Linux for memory that was freed, which
    the process keeps for itself (see `allocator.py`).

    Returns:
        the results that `results.json` holds.

    Raises:
        UserError: all that is wrong with the configuration or the corpus, before anything is written.
        RunFailed: training diverged too often.
        Interrupted: a signal ended the run.
    """
    console = Console(file=cast(TextIO, forgiving(sys.stderr)), highlight=False)
    with _only_one(), torch_settings_kept(), logging_to(console, is_first_process()), SignalWatch() as signals:
        return _prepare_and_train(values, explicit, console, signals)


_is_training = threading.Lock()


@contextmanager
def _only_one() -> Iterator[None]:
    """Two runs would take each other's random numbers, and write into each other's log."""
    if not _is_training.acquire(blocking=False):
        raise UserError(
            "Another thread of this process is training, and runs share what a process has only once: torch's random "
            "state and the log. Train one after the other, or in processes of their own: python train.py ..."
        )
    try:
        yield
    finally:
        _is_training.release()


def _prepare_and_train(
    values: dict[str, Any], explicit: Collection[str], console: Console, signals: SignalWatch
) -> dict[str, Any]:
    config = check_config(values)
    signals.also_watch(config.checkpoint.requeue_signal)
    is_trial = bool(config.trainer.added("fast_dev_run"))
    if is_trial:  # in a folder of its own, which is removed: the run of that name is none of its business
        place = str(Path(config.runs_dir) / ".fast_dev_run")
        values = values | {"runs_dir": place, "overwrite": True, "logger": {}}
        config = check_config(values)
    check_can_start_processes(config.trainer)
    values = config.model_dump()
    is_first = is_first_process()
    end_with_first_process()
    initial = None
    if config.init_from is not None:
        check_is_a_file(config.init_from)
        initial = load_language_model(config.init_from, needs_decoder="be fine-tuned")
        values = inherit(values, initial, frozenset(explicit))
        config = check_config(values)
    check_rate(config, explicit)
    check_logger_packages(config)
    folder = RunFolder(Path(config.runs_dir) / config.name)
    check_callbacks(config, folder.checkpoints)
    trainer = make_trainer(config.trainer)
    check_optimizer(config, trainer.strategy.root_device)
    values = with_lanes(values, trainer.world_size, explicit, folder)
    config = check_config(values)
    text = prepare_text(config, trainer.world_size, initial.dictionary if initial else None)
    # The first process alone decides about the folder and writes to it. What the others look at there it leaves
    # as it is until all have met; with overwrite they look at nothing.
    if is_first:
        folder.occupy(values, config.overwrite, text.contents(fingerprint(initial) if initial else None))
        log_to_file(folder.log)
        if not signals.are_watched:
            log.info("This run is in a thread, where signals are not watched: one that ends the process saves nothing")
    try:
        if not config.overwrite and (results := _finished(config, folder)):
            return results
        if is_first:
            text.dictionary.save(folder.dictionary)
            folder.remember()
        return _train(config, text, initial, folder, console, signals)
    except OSError as error:  # such as a full disk, or too many open files
        log.info("Where it happened stands in %s", folder.log, exc_info=True)
        raise UserError(f"{error}. What was saved before is kept; the same command goes on from there.") from error
    finally:
        if is_first and is_trial:
            folder.remove()
        if is_first:
            folder.release()


def _finished(config: Config, folder: RunFolder) -> dict[str, Any] | None:
    """The results of a run that reached the limits it has; higher limits continue it."""
    results = folder.read_results()
    if not is_finished(results, limits(config)):
        return None
    log.info("The run in %s is finished: %s", folder.path, loss_figures(results["val/loss"]))
    if is_first_process() and not is_reported(folder):
        write_report(folder, config.model_dump(), results)
    log.info(
        "To go on, raise trainer.max_epochs or trainer.max_steps; to start anew, overwrite=true; for another run, "
        "name=NAME."
    )
    return results


def _train(
    config: Config,
    text: PreparedText,
    initial: LanguageModel | None,
    folder: RunFolder,
    console: Console,
    signals: SignalWatch,
) -> dict[str, Any]:
    """Fits, again from the last checkpoint after a divergence, then tests."""
    checkpoint = folder.last_checkpoint() if config.resume == "auto" and not config.overwrite else None
    diverged: Diverged | None = None
    max_time = config.trainer.added("max_time")
    time_limit = TimeLimit(None if max_time is None else seconds(max_time))
    for rollbacks in range(config.divergence.max_rollbacks + 1):
        torch.manual_seed(config.seed)
        run = Run(config, text, initial, folder, console, signals, checkpoint, diverged, time_limit)
        if rollbacks == 0:
            say_what_is_trained(config, run.language_model, text, run.trainer, checkpoint)
        else:
            run.monitor.note(run.trainer, {"rollbacks": rollbacks}, diverged.step)
        try:
            run.fit()
            return run.finish()
        except Diverged as error:
            checkpoint = folder.last_checkpoint()
            diverged = error
            log.warning(
                "The loss or gradient was not finite at step %d, learning rate %g: back to %s with learning rate %g",
                error.step,
                error.lr,
                checkpoint or "the beginning",
                error.lr * config.anneal.factor,
            )
        except Interrupted as interruption:
            if interruption.is_alone:
                run.stop_other_processes()
            raise
        finally:
            run.close()
    raise RunFailed(
        f"Training diverged {config.divergence.max_rollbacks + 1} times, the last time at step {diverged.step}. Lower "
        f"optimizer.lr={config.optimizer.lr:g} or trainer.gradient_clip_val={config.trainer.gradient_clip_val}, or use "
        f"trainer.precision=32-true; {folder.best} holds the best model so far."
    )


class Run:
    """The objects of one fit.

    Args:
        checkpoint: what to go on from, if anything.
        diverged: what happened before, if anything; the learning rate is then lower.
        time_limit: when to end.
    """

    def __init__(
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
        self.language_model = grown(initial, text.dictionary) if initial else new_language_model(config, text)
        self.module = make_module(config, self.language_model)
        self.data = make_datamodule(config, text)
        self.best = BestModel(
            folder.best, lambda model, path: save_language_model(replace(self.language_model, model=model), path)
        )
        settings = hyperparameters(config.model_dump())
        settings["trainer.precision"] = choose_precision(config.trainer.precision, config.trainer.accelerator)
        self.monitor = Monitor(config.trainer.log_every_n_steps, self.best, text.unknown_rates(), settings)
        self.saving = RunCheckpoint(
            folder.checkpoints,
            signals,
            config.checkpoint.every,
            config.checkpoint.every_steps,
            time_limit,
            tuple(others.values()),
        )
        annealing = make_annealing(config.anneal, diverged)
        self.ending = Ending(annealing, self.saving, others)
        callbacks = [
            SavePoints(self.saving),
            FolderWatch(folder, config.trainer.log_every_n_steps),
            ValidationSchedule(config.data.validations_per_epoch),
            annealing,
            self.ending,
            self.best,
            self.monitor,
            RunProgress(self.monitor, self.best, console),
            TextSamples(self.language_model, config.model_dump()),
            *others.values(),
            self.saving,
        ]
        loggers = make_loggers(config, folder, checkpoint)
        self.trainer = make_trainer(
            config.trainer, folder.path, logger=loggers, callbacks=callbacks, default_root_dir=folder.path
        )

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
            if isinstance(logger, WandbLogger) and self.trainer.is_global_zero:
                logger.experiment.finish()

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
        }
        if self.config.test:
            self.module.weights_to_test = load_language_model(self.folder.best).model.state_dict()
            self.trainer.test(self.module, datamodule=self.data, verbose=False)
            self.saving.let_signals_act(self.trainer)
            figures = self.trainer.callback_metrics
            results |= {name: value.item() for name, value in figures.items() if name.startswith("test/")}
        if self.trainer.is_global_zero:
            write_report(self.folder, self.config.model_dump(), results)
            self.folder.write_results(results)  # last: until it is there the same command does all of this
            if not self.trainer.fast_dev_run:
                say_how_it_ended(self.config, results, self.folder)
            self.ending.say(self.trainer, cause, self.config)
        return results

    def _say_that_nothing_was_trained(self) -> None:
        """Raises `RunFailed` if there is no model from before, either."""
        reason = self.ending.why_nothing_was_trained(self.trainer, self.folder.path)
        if math.isinf(self.best.loss):
            raise RunFailed(reason)
        log.warning("%s", reason)


def new_language_model(config: Config, text: PreparedText) -> LanguageModel:
    """A model with random weights."""
    model = CharLM(
        vocabulary_size=len(text.dictionary),
        **config.model.model_dump(exclude={"name"}),
    )
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


def make_optimizer(config: Config) -> Callable[..., torch.optim.Optimizer]:
    """What makes the configured optimizer from named parameters."""
    return instantiate(config.optimizer.model_dump(), _partial_=True)


def check_optimizer(config: Config, device: torch.device) -> None:
    """Tries the optimizer on a tiny model, while a mistake costs nothing.

    Raises:
        UserError: it does not take its arguments, cannot train this kind of model, or cannot go on.
    """
    if problem := problem_of(make_optimizer(config), device):
        arguments = " ".join(f"optimizer.{name}={value}" for name, value in config.optimizer.model_dump().items())
        raise UserError(f"The optimizer cannot be used with {arguments}: {problem}")


def make_annealing(config: AnnealConfig, diverged: Diverged | None) -> Callback:
    """The configured annealing, from a lower rate after a divergence."""
    start_lr = None if diverged is None else diverged.lr * config.factor
    if config.schedule == "plateau":
        return AnnealOnPlateau(config.factor, config.patience, config.min_lr, start_lr)
    return AnnealOverRun(config.warmup, start_lr, 1 if diverged is None else max(1, diverged.step))


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
