"""The whole run: configuration → objects → fit → test → results."""

import logging
import os
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import torch
from rich.console import Console

from lmtrain.config.explicit import check_explicit
from lmtrain.config.peak_rate import with_former_rate
from lmtrain.config.schema import Config
from lmtrain.errors import RunFailed, UserError
from lmtrain.kernels.malloc import keep_freed_memory
from lmtrain.model.language_model import LanguageModel
from lmtrain.model_files.export import load_model
from lmtrain.program.log import log_to_file, logging_to
from lmtrain.program.output import forgiving
from lmtrain.program.signals import SignalWatch
from lmtrain.runs.report import is_reported, write_report
from lmtrain.runs.run_folder import RunFolder, is_finished
from lmtrain.training.announcements import loss_figures
from lmtrain.training.attempts import Attempts, goes_on
from lmtrain.training.callbacks.ending import limits
from lmtrain.training.checkpoint_state import check_is_not_later
from lmtrain.training.fine_tuning import check_is_a_file, fingerprint, settings_from_model
from lmtrain.training.finish import finish
from lmtrain.training.lanes import with_lanes
from lmtrain.training.loggers.make import check_logger_packages
from lmtrain.training.loggers.mlflow import tracking_uri_kept
from lmtrain.training.memory import check_fits, is_exhausted, too_little
from lmtrain.training.optimizers import check_optimizer
from lmtrain.training.ranks import end_with_first_process, is_first_process
from lmtrain.training.run import Run, Start
from lmtrain.training.text import prepare_text
from lmtrain.training.trainer import check_can_start_processes, make_trainer, torch_settings_kept
from lmtrain.training.user_callbacks import check_callbacks

log = logging.getLogger(__name__)


def train(config: Config, explicit: Collection[str] = ()) -> dict[str, Any]:
    """Trains as a configuration says, or goes on where the run stopped.

    Args:
        config: as `compose_config` or `check_config` gives it.
        explicit: the keys that the user set, such as "optimizer.lr", or "model" for a group's choice: they are obeyed
            or refused, while `init_from` brings others along and what a recipe says of another schedule is left aside.

    Any program may call it, also in a thread (then signals are not watched) and in a notebook, one call at a time.
    Relative paths are those of the working directory, which must stay the same until it ends. It leaves the process as
    it was, but for torch's random state, which becomes that of `seed`, and on Linux for memory that was freed, which
    the process keeps for itself (see `kernels/malloc.py`).

    Returns:
        the results that `results.json` holds.

    Raises:
        UserError: all that is wrong with the configuration or the corpus, before anything is written.
        RunFailed: training diverged too often.
        Interrupted: a signal ended the run.
    """
    console = Console(file=cast(TextIO, forgiving(sys.stderr)), highlight=False)
    with (
        _only_one(),
        torch_settings_kept(),
        tracking_uri_kept(),
        logging_to(console, is_first_process()),
        SignalWatch() as signals,
    ):
        signals.also_watch(config.checkpoint.requeue_signal)
        end_with_first_process()
        start = _prepare(config, explicit)
        folder = RunFolder(Path(start.config.runs_dir) / start.config.name)
        with _occupied(folder, start, signals):
            if not start.config.overwrite and (results := _finished(start.config, folder)):
                return results
            if is_first_process():
                start.text.dictionary.save(folder.dictionary)
                folder.remember()
            attempts = Attempts(start.config, folder, signals)
            for attempt in attempts:
                torch.manual_seed(start.config.seed)
                run = Run(start, attempt, folder, signals, console)
                run.log_start()
                with attempts.guarding(run):
                    _fit(run)
                    return finish(run)
            raise attempts.failure()


def _fit(run: Run) -> None:
    """Trains to the run's end, window by window in `WindowLoop.advance`. A model to fine-tune is measured before."""
    if run.trainer.strategy.root_device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # allows TF32, as cuDNN does for the LSTM
        # read when cuBLAS is used first; without it the same product may be summed in another order
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if run.start.initial and run.attempt.checkpoint is None:
        run.validate()
        log.info("Before training (%s): %s", run.config.init_from, loss_figures(run.best.loss))
    run.module.train()
    keep_freed_memory()  # not before: the allocations of encoding differ from each other
    run.trainer.fit(run.module, datamodule=run.data, ckpt_path=run.attempt.checkpoint, weights_only=True)
    run.saving.signals.where = f"after the last step: {run.saving.how_saved()}, but not tested and reported yet"
    run.saving.let_signals_act(run.trainer)


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


def _prepare(config: Config, explicit: Collection[str]) -> Start:
    """What a run begins with, and with it all that is wrong with the configuration or the corpus."""
    if config.trainer.added("fast_dev_run"):  # in a folder of its own, which is removed: a run of that name stays
        place = str(Path(config.runs_dir) / ".fast_dev_run")
        config = config.changed({"runs_dir": place, "overwrite": True, "logger": {}})
    config, initial, world_size = _settle(config, explicit)
    text = prepare_text(config, world_size, initial.dictionary if initial else None)
    check_fits(config, len(text.dictionary))
    return Start(config, text, initial)


@contextmanager
def _occupied(folder: RunFolder, start: Start, signals: SignalWatch) -> Iterator[None]:
    """Within the block the run folder is this run's; what the system refuses there becomes a `UserError`.

    The first process alone decides about the folder and writes to it. What the others look at there it leaves as it is
    until all have met; with overwrite they look at nothing.
    """
    if is_first := is_first_process():
        folder.occupy(start.config, start.text.contents(fingerprint(start.initial) if start.initial else None))
        log_to_file(folder.log)
        if not signals.are_watched:
            log.info("This run is in a thread, where signals are not watched: one that ends the process saves nothing")
    try:
        yield
    except UserError as error:
        if is_first and not isinstance(error, RunFailed):
            folder.remove_if_nothing_was_saved()
        raise
    except OSError as error:  # such as a full disk, or too many open files
        log.info("Where it happened stands in %s", folder.log, exc_info=True)
        raise UserError(f"{error}. What was saved before is kept; the same command goes on from there.") from error
    except (RuntimeError, MemoryError) as error:
        if not is_exhausted(error):
            raise
        log.info("Where it happened stands in %s", folder.log, exc_info=True)
        raise too_little(error) from error
    finally:
        if is_first and start.config.trainer.added("fast_dev_run"):
            folder.remove()
        if is_first:
            folder.release()


def _settle(config: Config, explicit: Collection[str]) -> tuple[Config, LanguageModel | None, int]:
    """The configuration with what `init_from` and the number of devices bring along, checked while it costs nothing.

    Returns:
        the configuration, the model to start from, if any, and the number of devices.
    """
    check_can_start_processes(config.trainer)
    initial = None
    if config.init_from is not None:
        check_is_a_file(config.init_from)
        initial = load_model(config.init_from, needs_decoder="be fine-tuned")
        config = settings_from_model(config, initial, frozenset(explicit))
    check_explicit(config, explicit)
    check_logger_packages(config)
    folder = RunFolder(Path(config.runs_dir) / config.name)
    if not config.overwrite and "optimizer.lr" not in explicit:
        config = with_former_rate(config, folder.began_with())
    if goes_on(config):
        check_is_not_later(folder)
    check_callbacks(config, folder.checkpoints)
    trainer = make_trainer(config)
    check_optimizer(config, trainer.strategy.root_device)
    return with_lanes(config, trainer.world_size, folder), initial, trainer.world_size


def _finished(config: Config, folder: RunFolder) -> dict[str, Any] | None:
    """The results of a run that reached the limits it has; higher limits continue it."""
    results = folder.read_results()
    if not is_finished(results, limits(config)):
        return None
    log.info("The run in %s is finished: %s", folder.path, loss_figures(results["val/loss"]))
    if is_first_process() and not is_reported(folder):
        write_report(folder, config, results)
    log.info(
        "To go on, raise trainer.max_epochs or trainer.max_steps; to start anew, overwrite=true; for another run, "
        "name=NAME."
    )
    return results
