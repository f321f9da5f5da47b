"""The whole run: configuration → objects → fit → test → results."""

import logging
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import torch
from rich.console import Console

from lmtrain.config.explicit import check_explicit
from lmtrain.config.schema import Config
from lmtrain.config.trainer_values import seconds
from lmtrain.errors import RunFailed, UserError
from lmtrain.model.language_model import LanguageModel
from lmtrain.model_files.export import load_model
from lmtrain.program.log import log_to_file, logging_to
from lmtrain.program.output import forgiving
from lmtrain.program.signals import Interrupted, SignalWatch
from lmtrain.runs.report import is_reported, write_report
from lmtrain.runs.run_folder import RunFolder, is_finished
from lmtrain.training.announcements import log_start, loss_figures
from lmtrain.training.callbacks.ending import limits
from lmtrain.training.callbacks.run_length import TimeLimit
from lmtrain.training.checkpoint_state import check_is_not_later
from lmtrain.training.divergence import Diverged
from lmtrain.training.fine_tuning import check_is_a_file, fingerprint, settings_from_model
from lmtrain.training.lanes import with_lanes
from lmtrain.training.loggers.make import check_logger_packages
from lmtrain.training.loggers.mlflow import tracking_uri_kept
from lmtrain.training.memory import check_fits, is_exhausted, too_little
from lmtrain.training.optimizers import check_optimizer
from lmtrain.training.rank_watch import RankWatch
from lmtrain.training.ranks import end_with_first_process, is_first_process
from lmtrain.training.run import Run
from lmtrain.training.text import PreparedText, prepare_text
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
        return _prepare_and_train(config, explicit, console, signals)


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
    config: Config, explicit: Collection[str], console: Console, signals: SignalWatch
) -> dict[str, Any]:
    signals.also_watch(config.checkpoint.requeue_signal)
    is_trial = bool(config.trainer.added("fast_dev_run"))
    if is_trial:  # in a folder of its own, which is removed: the run of that name is none of its business
        place = str(Path(config.runs_dir) / ".fast_dev_run")
        config = config.changed({"runs_dir": place, "overwrite": True, "logger": {}})
    is_first = is_first_process()
    end_with_first_process()
    config, initial, world_size = _settle(config, explicit)
    folder = RunFolder(Path(config.runs_dir) / config.name)
    text = prepare_text(config, world_size, initial.dictionary if initial else None)
    check_fits(config, len(text.dictionary))
    # The first process alone decides about the folder and writes to it. What the others look at there it leaves
    # as it is until all have met; with overwrite they look at nothing.
    if is_first:
        folder.occupy(config, text.contents(fingerprint(initial) if initial else None))
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
    except (RuntimeError, MemoryError) as error:
        if not is_exhausted(error):
            raise
        log.info("Where it happened stands in %s", folder.log, exc_info=True)
        raise too_little(error) from error
    finally:
        if is_first and is_trial:
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
    if goes_on(config):
        check_is_not_later(folder)
    check_callbacks(config, folder.checkpoints)
    trainer = make_trainer(config)
    check_optimizer(config, trainer.strategy.root_device)
    return with_lanes(config, trainer.world_size, explicit, folder), initial, trainer.world_size


def goes_on(config: Config) -> bool:
    """Whether the run goes on from its last checkpoint, if it has one."""
    return config.resume == "auto" and not config.overwrite


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


def _train(
    config: Config,
    text: PreparedText,
    initial: LanguageModel | None,
    folder: RunFolder,
    console: Console,
    signals: SignalWatch,
) -> dict[str, Any]:
    """Fits, again from the last checkpoint after a divergence, then tests."""
    checkpoint = folder.last_checkpoint() if goes_on(config) else None
    diverged: Diverged | None = None
    max_time = config.trainer.added("max_time")
    time_limit = TimeLimit(None if max_time is None else seconds(max_time))
    ranks = RankWatch(signals)
    for rollbacks in range(config.divergence.max_rollbacks + 1):
        torch.manual_seed(config.seed)
        run = Run(config, text, initial, folder, console, signals, checkpoint, diverged, time_limit)
        if rollbacks == 0:
            log_start(config, run.language_model, text, run.trainer, checkpoint)
        else:
            run.monitor.note(run.trainer, {"rollbacks": rollbacks}, diverged.step)
        try:
            with ranks.in_place():
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
        except RuntimeError:
            if run.trainer.world_size == 1 or (signum := ranks.signal_behind_failure()) is None:
                raise
            run.stop_other_processes()
            raise signals.interruption(signum) from None
        finally:
            run.close()
    raise RunFailed(
        f"Training diverged {config.divergence.max_rollbacks + 1} times, the last time at step {diverged.step}. Lower "
        f"optimizer.lr={config.optimizer.lr:g} or trainer.gradient_clip_val={config.trainer.gradient_clip_val}, or use "
        f"trainer.precision=32-true; {folder.best} holds the best model so far."
    )
