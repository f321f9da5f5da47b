"""Saves checkpoints from which a run goes on as if it had never stopped; on a signal, saves and stops."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.model_helpers import is_overridden

from lmtrain.data.windows import Window
from lmtrain.errors import UserError, raise_if_any
from lmtrain.program.signals import Asked, Interrupted, Request, SignalWatch
from lmtrain.runs.checkpoint_files import CheckpointFiles
from lmtrain.training.checkpoint_state import Position, RunState
from lmtrain.training.checkpoint_values import copied, encoded, unreadable_parts
from lmtrain.training.lightning_internals.attributes import annotated, own_module, window_progress
from lmtrain.training.lightning_internals.loop_state import checkpoint_of, settle_loops, validate_again
from lmtrain.training.rank_agreement import RankAgreement
from lmtrain.training.save_policy import SavePolicy
from lmtrain.training.weight_traces import traces

log = logging.getLogger(__name__)


class RunCheckpoint(Checkpoint):
    """Saves `last.ckpt` after every validation and, between validations, when the policy or a signal asks for it.

    It saves only between two windows, where the state is "n windows are done". A signal within a validation saves the
    state from before it, and that the validation is due, which a resumed run then does first. If a checkpoint can't be
    written, the run goes on; one that could not be read again ends it. `callbacks/order.py` says when it is called,
    and `SavePoints`, which calls it before a window.

    Args:
        files: the checkpoint files of the run.
        policy: decides when to save between validations.
        signals: has the requests of the signals that came.
        user_callbacks: those that the configuration adds.
    """

    def __init__(
        self, files: CheckpointFiles, policy: SavePolicy, signals: SignalWatch, user_callbacks: Sequence[Callback] = ()
    ) -> None:
        self.files = files
        self.policy = policy
        self.signals = signals
        self.user_callbacks = user_callbacks
        self.is_saved = True  # False if the last save failed
        self.validation_is_due = False
        self._ranks = RankAgreement()
        self._is_training = False
        self._before_validation: dict[str, Any] | None = None
        self._is_catching_up = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.hold()
        self.policy.time_limit.start()
        self._content(trainer)  # refuses, before the first step, values that could not be read again
        self._ranks.restart_clock()
        position = position_of(trainer)
        self.policy.note_saved(trainer.global_step, position)
        if self.validation_is_due:
            self._catch_up(trainer, has_epoch_ended=position.window == 0)
        self._is_training = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_training = False

    def _catch_up(self, trainer: Trainer, has_epoch_ended: bool) -> None:
        """Validates, and ends the epoch if the validation was at its end, as if no signal had come."""
        epoch = trainer.fit_loop.epoch_progress.current
        epoch.completed -= has_epoch_ended  # callbacks take this counter for the current epoch
        self._is_catching_up = True
        validate_again(trainer, has_epoch_ended)
        self._is_catching_up = False
        epoch.completed += has_epoch_ended
        self.validation_is_due = False
        self.save(trainer)

    def before_window(self, trainer: Trainer) -> None:
        """Follows signals and the clock; called before a step."""
        asked = max(self.signals.asked, Asked(self.policy.asked_by_clock()))
        asked = self._ranks.agree(trainer, asked)
        asked = max(asked, Asked(self.policy.asked_by_step(trainer.global_step)))
        # not saved a second time here: since then other callbacks have begun the epoch
        is_saved = self.is_saved and self.policy.is_saved(position_of(trainer))
        self._follow(asked, trainer, is_saved=is_saved)

    def before_validation(self, trainer: Trainer) -> None:
        """Keeps the content that a signal within the validation saves: the state from before it, with it due."""
        if not self._is_catching_up:
            self.validation_is_due = True
            content = self._content(trainer)
            self._before_validation = copied(content) if self.user_callbacks else content  # they may change weights
            self.validation_is_due = False

    def within_validation(self, trainer: Trainer) -> None:
        """Follows signals that stop; called before a window of a validation."""
        if trainer.state.fn != "fit":
            self.stop_if_asked(trainer)
            return
        asked = self._agreed_to_stop(trainer)  # other requests can wait for the end of the validation
        content = self._before_validation
        self._follow(asked, trainer, content, is_saved=content is None)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit":
            return
        module = own_module(pl_module)
        module.trained = traces(module.model)
        self._before_validation = None
        if position_of(trainer).window > 0:  # else it is saved in `on_train_epoch_end`, after the users' callbacks
            self._save_unless_catching_up(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if position_of(trainer).window == 0:
            self._save_unless_catching_up(trainer)

    def _save_unless_catching_up(self, trainer: Trainer) -> None:
        if not self._is_catching_up:
            self.save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves if the exception was raised between steps, for example by the reading of the next window."""
        if not self._is_training or trainer.world_size > 1 or not isinstance(exception, (OSError, UserError)):
            return
        windows = window_progress(trainer)
        if windows.ready == windows.processed and windows.processed % trainer.accumulate_grad_batches == 0:
            with suppress(UserError):  # a value that could not be read again: the first exception is the one to report
                self.save(trainer, self._before_validation)
                log.info("Step %d: %s", trainer.global_step, self.how_saved())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.hold()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.hold()

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Window, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.stop_if_asked(trainer)

    def let_signals_act(self, trainer: Trainer) -> None:
        """Follows signals that were held back during training, validation or test, and from now on any at once.

        Called on all ranks at the same place.
        """
        self.stop_if_asked(trainer, at_once=True)
        self.signals.let_go()

    def stop_if_asked(self, trainer: Trainer, at_once: bool = False) -> None:
        """Follows signals to stop, without saving; called on all ranks at the same place."""
        asked = self._agreed_to_stop(trainer, at_once)
        if asked.request == Request.STOP:
            raise self.signals.interruption(asked.signum)

    def _agreed_to_stop(self, trainer: Trainer, at_once: bool = False) -> Asked:
        return self._ranks.agree(trainer, self.signals.asked if self.signals.is_asked_to_stop() else Asked(), at_once)

    def _follow(
        self, asked: Asked, trainer: Trainer, content: dict[str, Any] | None = None, is_saved: bool = False
    ) -> None:
        if self.signals.asked.request == Request.SAVE_AND_GO_ON <= asked.request:
            self.signals.asked = Asked()  # before saving, during which another signal may come
        if asked.request != Request.NONE and not is_saved:
            self.save(trainer, content)
        if asked.request == Request.SAVE_AND_GO_ON:
            log.info("Saved at step %d, as SIGUSR1 asked", trainer.global_step)
        elif asked.request == Request.END:
            self.policy.is_out_of_time = True
            trainer.should_stop = True  # Lightning makes this step, then validates
        elif asked.request == Request.STOP:
            raise Interrupted(asked.signum, f"at step {trainer.global_step:,}: {self.how_saved()}")

    def how_saved(self) -> str:
        return "saved" if self.is_saved else "NOT saved (see above); the checkpoint before is whole"

    def save(self, trainer: Trainer, content: dict[str, Any] | None = None) -> None:
        """Saves the given content, else the present state; called on all ranks at the same place."""
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
                    self.files.folder,
                    error,
                )
        trainer.strategy.barrier("checkpoint")
        self.policy.note_saved(trainer.global_step, position_of(trainer))

    def _content(self, trainer: Trainer) -> dict[str, Any]:
        """The content of a checkpoint of the present state.

        Raises:
            UserError: a value in it could not be read again.
        """
        content: dict[str, Any] = encoded(checkpoint_of(trainer))
        users = self.user_callbacks
        writers = [type(callback).__name__ for callback in users if is_overridden("on_save_checkpoint", callback)]
        raise_if_any(unreadable_parts(content, writers))
        return content

    def replace_state(self, trainer: Trainer, callback: Callback) -> None:
        """Replaces the state of a callback in the last checkpoint by its present one."""
        if trainer.is_global_zero and self.files.last.exists():
            content = torch.load(self.files.last, map_location="cpu", weights_only=True)
            content["callbacks"][callback.state_key] = callback.state_dict()
            self._write(content)

    def _write(self, content: dict[str, Any]) -> None:
        with self.files.next() as path, path.open("wb") as file:
            torch.save(content, file)

    def state_dict(self) -> dict[str, Any]:
        return {"validation_is_due": self.validation_is_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.validation_is_due = state_dict["validation_is_due"]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Replaces the saved state of Lightning's loops by one from which they go on at the right window."""
        position = RunState.read(checkpoint).position
        settle_loops(checkpoint["loops"]["fit_loop"], position.epoch, position.window)


def position_of(trainer: Trainer) -> Position:
    return Position(**annotated(trainer).datamodule.state_dict())
