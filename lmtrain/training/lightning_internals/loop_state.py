"""Rewrites the state that Lightning's loops save into one from which they go on at the right window."""

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.call import _call_callback_hooks


def checkpoint_of(trainer: Trainer) -> dict[str, Any]:
    """The content that Lightning would write into a checkpoint now; called on every rank.

    Its public `save_checkpoint` writes the file itself under its final name, where a crash would leave half a file.
    """
    return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)


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


def validate_again(trainer: Trainer, has_epoch_ended: bool) -> None:
    """Makes the validation that a signal interrupted, and what Lightning does after it at the end of an epoch.

    Lightning has no public way to validate within a fit: `Trainer.validate` would end it.
    """
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True
    if has_epoch_ended:
        _call_callback_hooks(trainer, "on_train_epoch_end", monitoring_callbacks=False)
        _call_callback_hooks(trainer, "on_train_epoch_end", monitoring_callbacks=True)


def can_stop_early(trainer: Trainer) -> bool:
    """Whether `trainer.should_stop` ends training here, `min_epochs` and `min_steps` being reached."""
    return trainer.fit_loop._can_stop_early
