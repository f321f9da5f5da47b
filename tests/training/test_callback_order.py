"""Each place in the order of callbacks has a reason: what goes wrong when a callback is called at another one."""

import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from running import SMALL, Ended

from lmtrain.program.signals import SignalWatch
from lmtrain.runs.checkpoint_files import CheckpointFiles
from lmtrain.training.callbacks import order
from lmtrain.training.callbacks.anneal_on_plateau import AnnealOnPlateau
from lmtrain.training.callbacks.anneal_over_run import AnnealOverRun
from lmtrain.training.callbacks.best_model import BestModel
from lmtrain.training.callbacks.checkpoint import RunCheckpoint
from lmtrain.training.callbacks.ending import Ending
from lmtrain.training.callbacks.folder_watch import FolderWatch
from lmtrain.training.callbacks.monitor import Monitor
from lmtrain.training.callbacks.progress import RunProgress
from lmtrain.training.callbacks.save_points import SavePoints
from lmtrain.training.callbacks.settings_watch import SettingsWatch
from lmtrain.training.callbacks.text_samples import TextSamples
from lmtrain.training.save_policy import SavePolicy

RUN = Path("runs/run")
WITHOUT_LOGGER = ("logger.csv=null",)  # and so without a report, which takes longer to draw than the run
RATE = 1e-6  # so low that no validation after the first one is an improvement: each lowers the rate to a quarter


class Users(Callback):
    """A user's callback with a state; in its third window somebody removes the run folder, or it changes a setting."""

    def __init__(self, removes_folder: bool = False, changes_setting: bool = False) -> None:
        self.removes_folder = removes_folder
        self.changes_setting = changes_setting
        self.counts = {"windows begun": 0, "validations": 0}

    def on_train_batch_start(self, trainer, *_) -> None:
        self.counts["windows begun"] += 1
        if trainer.global_step == 2 and self.removes_folder:
            shutil.rmtree(RUN)

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == 3 and self.changes_setting:
            trainer.gradient_clip_val = 5.0

    def on_validation_end(self, *_) -> None:
        self.counts["validations"] += 1

    def state_dict(self) -> dict:
        return self.counts

    def load_state_dict(self, state_dict: dict) -> None:
        self.counts = state_dict


class Run:
    """A run of six steps with a validation after every second one, as callbacks in some order leave it."""

    def __init__(self, train_py, *more: str) -> None:
        averages = "{_target_: lightning.pytorch.callbacks.EMAWeightAveraging, decay: 0.5}"
        self.ended: Ended = train_py(
            *(*SMALL, "logger=csv", "name=run", "trainer.max_steps=6", "trainer.log_every_n_steps=1", "test=false"),
            *("data.validations_per_epoch=20", f"optimizer.lr={RATE}", "anneal.patience=0", "anneal.min_lr=0"),
            *("checkpoint.every_steps=1", f"+callbacks.averages={averages}", *more),
        )

    def saved(self, name: str = "last") -> dict:
        return torch.load(RUN / f"checkpoints/{name}.ckpt", weights_only=True)

    def users_state(self, name: str = "last") -> dict:
        return self.saved(name)["callbacks"]["Users"]

    def lines(self) -> list[str]:
        return [line for line in self.ended.message.splitlines() if "val loss" in line]


def moved(callback: type[Callback], before: type[Callback] | None) -> dict:
    """The order with a callback elsewhere: before another one, or at the end."""
    kinds = [kind for kind in order.ORDER if kind is not callback]
    kinds.insert(len(kinds) if before is None else kinds.index(before), callback)
    return dict.fromkeys(kinds, "")


def users(argument: str = "") -> str:
    return "+callbacks.users={_target_: test_callback_order.Users" + argument + "}"


# each says whether the order is right
def the_rate_is_saved_when_it_is_lowered(run: Run) -> bool:
    return run.saved()["optimizer_states"][0]["param_groups"][0]["lr"] == RATE / 4 / 4


def a_users_state_is_saved_when_it_is_complete(run: Run) -> bool:
    return run.users_state()["validations"] == 3


def a_window_that_is_begun_again_is_saved_as_not_begun(run: Run) -> bool:
    return run.saved("previous")["global_step"] == run.users_state("previous")["windows begun"] == 5


def the_lowered_rate_is_shown(run: Run) -> bool:
    return [f"lr {RATE / 4**count:g} " in line for count, line in enumerate(run.lines())] == [True] * 3


def the_validated_weights_are_saved(run: Run) -> bool:
    return "A callback changed the weights within a validation" not in run.ended.message


def a_removed_folder_is_made_again_before_a_logger_misses_it(run: Run) -> bool:
    return "The logger MetricsCSV" not in run.ended.message


RULES = [
    (SavePoints, None, a_window_that_is_begun_again_is_saved_as_not_begun),
    (AnnealOnPlateau, TextSamples, the_lowered_rate_is_shown),
    (Callback, BestModel, the_validated_weights_are_saved),
    (FolderWatch, None, a_removed_folder_is_made_again_before_a_logger_misses_it),
]
"""What breaks if the first is called just before the second, or after all others."""
OF_THE_LAST = (the_rate_is_saved_when_it_is_lowered, a_users_state_is_saved_when_it_is_complete)
"""What would break if `RunCheckpoint` were called sooner; Lightning calls it after all that are no checkpoints."""


def test_in_its_order_each_callback_finds_what_it_needs(train_py):
    run = Run(train_py, users(", removes_folder: true"))
    assert run.ended.status == 0, run.ended.message
    rules = [*(rule for *_, rule in RULES), *OF_THE_LAST]
    assert {rule.__name__: rule(run) for rule in rules} == {rule.__name__: True for rule in rules}, run.ended.message


@pytest.mark.parametrize(("callback", "before", "rule"), RULES)
def test_elsewhere_it_does_not(callback, before, rule, train_py, monkeypatch):
    monkeypatch.setattr(order, "ORDER", moved(callback, before))
    more = () if callback is FolderWatch else WITHOUT_LOGGER
    assert not rule(Run(train_py, users(", removes_folder: true"), *more))


def test_progress_shows_the_figures_that_the_monitor_has(train_py, monkeypatch):
    monkeypatch.setattr(order, "ORDER", moved(RunProgress, Monitor))
    with pytest.raises(KeyError, match="val/loss"):
        Run(train_py, users(), *WITHOUT_LOGGER)


@pytest.mark.parametrize("is_in_order", [True, False])
def test_a_run_with_changed_settings_is_not_saved(is_in_order, train_py, monkeypatch):
    if not is_in_order:
        monkeypatch.setattr(order, "ORDER", moved(SettingsWatch, None))
    run = Run(train_py, users(", changes_setting: true"), "data.validations_per_epoch=1", *WITHOUT_LOGGER)
    assert run.ended.status == 2
    assert "A callback has changed trainer.gradient_clip_val" in run.ended.message
    assert run.saved()["global_step"] == (2 if is_in_order else 3)


def test_checkpoints_of_the_user_come_before_the_runs_own(tmp_path):
    users = [ModelCheckpoint(tmp_path), Callback()]
    saving = RunCheckpoint(CheckpointFiles(tmp_path), SavePolicy(), SignalWatch())
    ordered = order.build_callbacks([saving, SettingsWatch()], users)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=ordered, max_epochs=1)
    kinds = [type(callback) for callback in trainer.callbacks]
    assert kinds[0] is SettingsWatch
    assert kinds[-2:] == [ModelCheckpoint, RunCheckpoint]


def test_every_callback_of_lmtrain_has_a_reason():
    assert all(order.ORDER.values())
    assert {AnnealOverRun, Ending} < order.ORDER.keys()
