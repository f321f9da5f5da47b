"""Saves the run so that it can go on from there as if it had never stopped; on a signal, saves and stops."""

import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from lmtrain.callbacks.run_length import TimeLimit
from lmtrain.callbacks.signals import END, SAVE, SAVE_AND_GO_ON, STOP, Interrupted, SignalWatch
from lmtrain.errors import UserError
from lmtrain.files import replacing
from lmtrain.windows import Window

log = logging.getLogger(__name__)


class RunCheckpoint(Checkpoint):
    """Saves `last.ckpt` after every validation and, between validations, every so many minutes or steps.

    It saves only between two windows, where the state is "n windows are done", or within a validation that a signal
    ends, which is then the first thing a resumed run does. The checkpoint before is kept as `previous.ckpt`. Must be
    the last callback, so that what the others did is in it. If a checkpoint can't be written, the run goes on.

    Args:
        folder: where the checkpoints stand.
        signals: which signals came.
        every: minutes between saves; None for never.
        every_steps: optimizer steps between saves; None for never.
        time_limit: when to end the run.
    """

    def __init__(
        self,
        folder: Path,
        signals: SignalWatch,
        every: float | None = 10.0,
        every_steps: int | None = None,
        time_limit: TimeLimit | None = None,
    ) -> None:
        self.folder = folder
        self.signals = signals
        self.every = every
        self.every_steps = every_steps
        self.time_limit = time_limit or TimeLimit(None)
        self.is_out_of_time = False
        self.is_saved = True  # False if the last save failed
        self._validation_is_due = False
        self._is_training = False
        self._saved_at = time.monotonic()
        self._saved_step = 0
        self._looks = 0  # windows of training and validation before which this rank could talk to the others
        self._next_talk = 0
        self._talked_at = time.monotonic()
        self._talked_look = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.hold()
        self.time_limit.start()
        # Lightning asks all ranks at every step whether there was a SIGTERM, which costs a collective and a
        # synchronisation with the host; `_agreed` does that about once a second, for all signals
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
        self._saved_at = self._talked_at = time.monotonic()
        self._saved_step = trainer.global_step
        if self._validation_is_due:
            self._validation_is_due = False
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True
        self._is_training = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_training = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Window, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._follow(self._wish(trainer), trainer)

    def on_validation_batch_start(self, trainer: Trainer, pl_module, batch, batch_idx, dataloader_idx=0) -> None:
        if trainer.state.fn != "fit":
            self.stop_if_asked(trainer)
            return
        wish = self._agreed(trainer, self.signals.wish if self.signals.wish > STOP else 0)  # the rest can wait
        if wish:
            self._validation_is_due = True
            self._follow(wish, trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self.save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves if it was no step that failed, but for example the reading of the next window."""
        if not self._is_training or trainer.world_size > 1 or not isinstance(exception, (OSError, UserError)):
            return
        windows = trainer.fit_loop.epoch_loop.batch_progress.current
        if windows.ready == windows.processed and windows.processed % trainer.accumulate_grad_batches == 0:
            self._validation_is_due = bool(trainer.validating)
            self.save(trainer)
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

    def _follow(self, wish: int, trainer: Trainer) -> None:
        if self.signals.wish == SAVE_AND_GO_ON:
            self.signals.wish = 0  # not after saving, during which another may come
        if wish:
            self.save(trainer)
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

    def save(self, trainer: Trainer) -> None:
        """Saves now; called on all ranks at the same place."""
        content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
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

    def _write(self, content: dict[str, Any]) -> None:
        last, previous = self.folder / "last.ckpt", self.folder / "previous.ckpt"
        with replacing(last) as unfinished:
            with unfinished.open("wb") as file:
                torch.save(content, file)
            if last.exists():
                os.replace(last, previous)

    def state_dict(self) -> dict[str, Any]:
        return {"validation_is_due": self._validation_is_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validation_is_due = state_dict["validation_is_due"]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Gives Lightning's loops the one state that they restart from without surprises."""
        position = checkpoint[type(trainer.datamodule).__qualname__]
        settle_loops(checkpoint["loops"]["fit_loop"], position["epoch"], position["window"])


def settle_loops(fit_loop: dict[str, Any], epoch: int, window: int) -> None:
    """Writes "`epoch` epochs and `window` windows of the next are done, nothing is under way" into saved loop state.

    Lightning saves whatever its counters are in the hook that saves (a batch counted as begun, but not as
    completed; a validation under way), and guesses from that where to go on.
    """

    def settle(progress: dict[str, dict[str, int]], begun: int, done: int) -> None:
        for counters in (progress["total"], progress["current"]):
            counters.update(ready=begun, started=begun, processed=done, completed=done)

    settle(fit_loop["epoch_progress"], epoch + (window > 0), epoch)
    batches = fit_loop["epoch_loop.batch_progress"]
    settle(batches, window, window)
    batches["is_last_batch"] = False
    fit_loop["epoch_loop.val_loop.batch_progress"]["is_last_batch"] = False
    optimizer_steps = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]
    fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] = optimizer_steps["completed"]
