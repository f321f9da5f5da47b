"""Saves the run so that it can go on from there as if it had never stopped; on a signal, saves and stops."""

import logging
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.model_helpers import is_overridden

from lmtrain.errors import UserError, raise_if_any
from lmtrain.program.files import atomic_write
from lmtrain.program.signals import END, SAVE, SAVE_AND_GO_ON, STOP, Interrupted, SignalWatch
from lmtrain.training.callbacks.run_length import TimeLimit
from lmtrain.training.checkpoint_content import copied, encoded, unreadable_parts
from lmtrain.training.lightning_internals.loop_state import checkpoint_of, settle_loops, validate_again
from lmtrain.training.module import LanguageModelModule
from lmtrain.training.weight_traces import traces

log = logging.getLogger(__name__)


class RunCheckpoint(Checkpoint):
    """Saves `last.ckpt` after every validation and, between validations, every so many minutes or steps.

    It saves only between two windows, where the state is "n windows are done". A signal within a validation saves the
    state from before it, and that it is due: the first thing that a resumed run does. The checkpoint before is kept as
    `previous.ckpt`. Must be the last callback, so that what the others did is in it, with `SavePoints` as the first. If
    a checkpoint can't be written, the run goes on; what could not be read again ends it.

    Args:
        folder: where the checkpoints stand.
        signals: which signals came.
        every: minutes between saves; None for never.
        every_steps: optimizer steps between saves; None for never.
        time_limit: when to end the run.
        others: callbacks that are not lmtrain's own.
    """

    def __init__(
        self,
        folder: Path,
        signals: SignalWatch,
        every: float | None = 10.0,
        every_steps: int | None = None,
        time_limit: TimeLimit | None = None,
        others: Sequence[Callback] = (),
    ) -> None:
        self.folder = folder
        self.signals = signals
        self.every = every
        self.every_steps = every_steps
        self.time_limit = time_limit or TimeLimit(None)
        self.is_out_of_time = False
        self.others = others
        self.is_saved = True  # False if the last save failed
        self._is_training = False
        self.validation_is_due = False
        self._before_validation: dict[str, Any] | None = None
        self._is_catching_up = False
        self._saved_at = time.monotonic()
        self._saved_step = 0
        self._saved_position: dict[str, int] | None = None
        self._looks = 0  # windows of training and validation before which this rank could talk to the others
        self._next_talk = 0
        self._talked_at = time.monotonic()
        self._talked_look = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.hold()
        self.time_limit.start()
        self._content(trainer)  # what could not be read again is said before the first step
        self._saved_at = self._talked_at = time.monotonic()
        self._saved_step = trainer.global_step
        self._saved_position = trainer.datamodule.state_dict()
        if self.validation_is_due:
            self._catch_up(trainer)
        self._is_training = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_training = False

    def _catch_up(self, trainer: Trainer) -> None:
        """Validates, and ends the epoch if the validation was at its end, as if no signal had come."""
        epoch = trainer.fit_loop.epoch_progress.current
        has_ended = self._saved_position["window"] == 0
        epoch.completed -= has_ended  # what callbacks take for the current epoch
        self._is_catching_up = True
        validate_again(trainer, has_ended)
        self._is_catching_up = False
        epoch.completed += has_ended
        self.validation_is_due = False
        self.save(trainer)

    def before_window(self, trainer: Trainer) -> None:
        """Follows signals and the clock; called before a step."""
        wish = self._wish(trainer)
        # what has been saved here is not saved again, when other callbacks have begun an epoch
        is_saved = self.is_saved and trainer.datamodule.state_dict() == self._saved_position
        self._follow(wish, trainer, is_saved=is_saved)

    def before_validation(self, trainer: Trainer) -> None:
        """Keeps what a signal within the validation saves: the state before it, and that it is due."""
        if not self._is_catching_up:
            self.validation_is_due = True
            content = self._content(trainer)
            self._before_validation = copied(content) if self.others else content
            self.validation_is_due = False

    def within_validation(self, trainer: Trainer) -> None:
        """Follows signals that stop; called before a window of a validation."""
        if trainer.state.fn != "fit":
            self.stop_if_asked(trainer)
            return
        wish = self._agreed(trainer, self.signals.wish if self.signals.wish > STOP else 0)  # the rest can wait
        content = self._before_validation
        self._follow(wish, trainer, content, is_saved=content is None)

    def on_validation_end(self, trainer: Trainer, pl_module: LanguageModelModule) -> None:
        if trainer.state.fn != "fit":
            return
        pl_module.trained = traces(pl_module.model)
        self._before_validation = None
        if trainer.datamodule.state_dict()["window"] > 0:  # else the epoch's end belongs to it, too
            self._save_unless_catching_up(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LanguageModelModule) -> None:
        if trainer.datamodule.state_dict()["window"] == 0:
            self._save_unless_catching_up(trainer)

    def _save_unless_catching_up(self, trainer: Trainer) -> None:
        if not self._is_catching_up:
            self.save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves if it was no step that failed, but for example the reading of the next window."""
        if not self._is_training or trainer.world_size > 1 or not isinstance(exception, (OSError, UserError)):
            return
        windows = trainer.fit_loop.epoch_loop.batch_progress.current
        if windows.ready == windows.processed and windows.processed % trainer.accumulate_grad_batches == 0:
            with suppress(UserError):  # of what could not be read again
                self.save(trainer, self._before_validation)
                log.info("Step %d: %s", trainer.global_step, self.how_saved())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.hold()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.hold()

    def on_test_batch_start(self, trainer: Trainer, pl_module, batch, batch_idx, dataloader_idx=0) -> None:
        self.stop_if_asked(trainer)

    def let_signals_act(self, trainer: Trainer) -> None:
        """Ends what `signals` holds back during training, validation or test; called on all ranks at the same place."""
        self.stop_if_asked(trainer, at_once=True)
        self.signals.let_go()

    def stop_if_asked(self, trainer: Trainer, at_once: bool = False) -> None:
        """Follows signals to stop where there is nothing to be saved; called on all ranks at the same place."""
        wish = self._agreed(trainer, self.signals.wish if self.signals.wish > STOP else 0, at_once)
        if wish:
            raise self.signals.interruption(wish)

    def _follow(
        self, wish: int, trainer: Trainer, content: dict[str, Any] | None = None, is_saved: bool = False
    ) -> None:
        if self.signals.wish == SAVE_AND_GO_ON:
            self.signals.wish = 0  # not after saving, during which another may come
        if wish and not is_saved:
            self.save(trainer, content)
        if wish == SAVE_AND_GO_ON:
            log.info("Saved at step %d, as SIGUSR1 asked", trainer.global_step)
        elif wish == END:
            self.is_out_of_time = True
            trainer.should_stop = True  # Lightning makes this step, then validates
        elif wish > STOP:
            raise Interrupted(wish - STOP, f"at step {trainer.global_step:,}: {self.how_saved()}")

    def how_saved(self) -> str:
        return "saved" if self.is_saved else "NOT saved (see above); the checkpoint before is whole"

    def _wish(self, trainer: Trainer) -> int:
        """What is to be done before this step, the same on all ranks."""
        step = trainer.global_step
        wish = self.signals.wish
        if self.every is not None and time.monotonic() - self._saved_at > self.every * 60:
            wish = max(wish, SAVE)
        if self.time_limit.is_over() and not self.is_out_of_time:
            wish = max(wish, END)
        wish = self._agreed(trainer, wish)
        if self.every_steps is not None and step % self.every_steps == 0 and step != self._saved_step:
            wish = max(wish, SAVE)
        return wish

    def _agreed(self, trainer: Trainer, wish: int, at_once: bool = False) -> int:
        """The ranks' greatest wish, asked for about once a second: all ranks know before how many windows."""
        if trainer.world_size == 1:
            return wish
        look, self._looks = self._looks, self._looks + 1
        if look < self._next_talk and not at_once:
            return 0
        seconds = max(time.monotonic() - self._talked_at, 1e-6)
        pace = max(1, math.floor((look - self._talked_look) / seconds)) if trainer.is_global_zero else 0
        said = torch.tensor([wish, min(pace, 1000)], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(said, op=torch.distributed.ReduceOp.MAX)
        wish, pace = said.tolist()
        self._talked_at, self._talked_look, self._next_talk = time.monotonic(), look, look + pace
        return wish

    def save(self, trainer: Trainer, content: dict[str, Any] | None = None) -> None:
        """Saves now, or what was held ready; called on all ranks at the same place."""
        content = self._content(trainer) if content is None else content
        if trainer.is_global_zero:
            try:
                self._write(content)
                self.is_saved = True
            except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
                self.is_saved = False
                log.error(
                    "The checkpoint of step %d could not be saved in %s: %s. The one before is whole; training goes on",
                    trainer.global_step,
                    self.folder,
                    error,
                )
        trainer.strategy.barrier("checkpoint")
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        self._saved_position = trainer.datamodule.state_dict()

    def _content(self, trainer: Trainer) -> dict[str, Any]:
        """What is to be saved.

        Raises:
            UserError: something in it could not be read again.
        """
        content = encoded(checkpoint_of(trainer))
        content["epoch"] = trainer.datamodule.state_dict()["epoch"]  # Lightning's own depends on the hook that saves
        writers = [type(callback).__name__ for callback in self.others if is_overridden("on_save_checkpoint", callback)]
        raise_if_any(unreadable_parts(content, writers))
        return content

    def replace_state(self, trainer: Trainer, callback: Callback) -> None:
        """Writes what a callback has learned since into the last checkpoint."""
        last = self.folder / "last.ckpt"
        if trainer.is_global_zero and last.exists():
            content = torch.load(last, map_location="cpu", weights_only=True)
            content["callbacks"][callback.state_key] = callback.state_dict()
            self._write(content)

    def _write(self, content: dict[str, Any]) -> None:
        last, previous = self.folder / "last.ckpt", self.folder / "previous.ckpt"
        with atomic_write(last) as unfinished:
            with unfinished.open("wb") as file:
                torch.save(content, file)
            if last.exists():
                os.replace(last, previous)

    def state_dict(self) -> dict[str, Any]:
        return {"validation_is_due": self.validation_is_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.validation_is_due = state_dict["validation_is_due"]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Gives Lightning's loops the one state that they restart from without surprises."""
        position = checkpoint[type(trainer.datamodule).__qualname__]
        settle_loops(checkpoint["loops"]["fit_loop"], position["epoch"], position["window"])
