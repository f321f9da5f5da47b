"""Callbacks, a logger and optimizers of a user, which tests name in configurations."""

import dataclasses
import enum
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import BaseFinetuning, LambdaCallback, LearningRateFinder

from lmtrain.training.loggers.run_logger import RunLogger


class Opened(RunLogger):
    """A logger that is open until it is closed, with nobody at some addresses."""

    opened: list = []  # noqa: RUF012 - the runs of a test share it

    def __init__(self, run, address="earth"):
        super().__init__()
        if address == "moon":
            raise ConnectionError(f"nobody is there: {address}")
        self.opened.append(self)

    def log_metrics(self, metrics, step=None):
        pass

    def close(self):
        self.opened.remove(self)


class Diary(Callback):
    """Notes every hook of a training step with the step and window at which it was called, and logs a figure."""

    pages: list = []  # noqa: RUF012 - the runs of a test share it

    def note(self, hook, trainer, *more):
        progress = trainer.fit_loop.epoch_loop.batch_progress.current
        self.pages.append((hook, trainer.global_step, progress.ready, progress.processed, progress.completed, *more))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.note("on_train_batch_start", trainer, batch_idx, batch.inputs.sum().item())

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        self.note("on_before_zero_grad", trainer)

    def on_before_backward(self, trainer, pl_module, loss):
        self.note("on_before_backward", trainer, loss.item())

    def on_after_backward(self, trainer, pl_module):
        self.note("on_after_backward", trainer, pl_module.model.decoder.bias.grad.sum().item())

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.note("on_before_optimizer_step", trainer)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.note("on_train_batch_end", trainer, batch_idx, outputs["loss"].item())
        pl_module.log("twice_the_loss", 2 * outputs["loss"], logger=False, batch_size=4)
        pl_module.log("mean_of_an_epoch", outputs["loss"], on_step=False, on_epoch=True, logger=False, batch_size=4)

    def on_train_epoch_end(self, trainer, pl_module):
        figures = trainer.callback_metrics
        self.note("on_train_epoch_end", trainer, figures["twice_the_loss"].item(), figures["mean_of_an_epoch"].item())

    def on_validation_end(self, trainer, pl_module):
        self.note("on_validation_end", trainer, trainer.callback_metrics["val/loss"].item())


def lambda_callback():
    """A callback whose hook is an attribute, not a method."""
    return LambdaCallback(on_before_backward=lambda trainer, *_: Diary.pages.append(("lambda", trainer.global_step)))


class Idle(torch.optim.SGD):
    """An optimizer that never calls its closure, and so computes no loss."""

    def step(self, closure=None):
        return None


class HookOfOptimizer(Callback):
    """Registers a hook of torch's optimizers for one epoch, and notes at which steps it is called."""

    def __init__(self):
        self.steps = []

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            note = self.steps.append
            self.handle = trainer.optimizers[0].register_step_post_hook(lambda *_: note(trainer.global_step))

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            self.handle.remove()
            Diary.pages.append(("steps of the hook", self.steps))


class Moves(Callback):
    """Notes how the first step moved the weights."""

    of_the_first_step: torch.Tensor

    def on_train_start(self, trainer, pl_module):
        self.before = torch.nn.utils.parameters_to_vector(pl_module.parameters()).detach().clone()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        after = torch.nn.utils.parameters_to_vector(pl_module.parameters()).detach()
        Moves.of_the_first_step = after - self.before


class LoseGradient(Callback):
    """Makes the loss one whose gradient is not a number."""

    def on_train_start(self, trainer, pl_module):
        loss = pl_module.training_loss

        def spoilt(*arguments):
            value, hidden = loss(*arguments)
            return value * ((value - value.detach()).sqrt() * 0 + 1), hidden

        pl_module.training_loss = spoilt


class StopAfter(Callback):
    """Ends the run after so many steps of this process, as a callback that looks at the clock would."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_start(self, trainer, pl_module):
        self.end = trainer.global_step + self.steps

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.should_stop or trainer.global_step >= self.end


class NoteSettings(Callback):
    """Notes what torch is set to in training and in the test."""

    seen: dict = {}  # noqa: RUF012 - for the test

    def on_train_start(self, trainer, pl_module):
        NoteSettings.seen = {
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "anomaly": torch.is_anomaly_enabled(),
            "benchmark": torch.backends.cudnn.benchmark,
        }

    def on_test_start(self, trainer, pl_module):
        NoteSettings.seen["inference"] = torch.is_inference_mode_enabled()


def lanes(window):
    """The size of a batch, for callbacks that ask."""
    return window.inputs.shape[1]


class FreezeEncoder(BaseFinetuning):
    """Freezes what a user wants frozen at first."""

    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.model.encoder)

    def finetune_function(self, pl_module, epoch, optimizer):
        pass


def rate_finder():
    return LearningRateFinder()


class BestModel(Callback):
    """Has a state, and the name of one of lmtrain's own callbacks."""

    def state_dict(self):
        return {"a": 1}


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int = 1


KINDS = {
    "path": Path("somewhere"),
    "lambda": lambda: 1,
    "enum": Color.RED,
    "dataclass": Point(),
    "frozenset": frozenset({1}),
    "numpy": {
        "float32": np.float32(0.1),
        "array": np.arange(6, dtype=np.uint16).reshape(2, 3),
        "empty": np.zeros((0, 2)),
        "text": np.str_("ä"),
        "date": np.datetime64("2026-11-25"),
        "list": [np.int64(7), (np.bool_(True), 2.5)],
        np.int64(3): "key",
    },
}


class Remembers(Callback):
    """Keeps something in its state from a step on."""

    read: list = []  # noqa: RUF012 - what it got back; the test reads it

    def __init__(self, what, step=0):
        self.what = KINDS[what]
        self.step = step
        self.now = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.now = trainer.global_step

    def state_dict(self):
        return {"it": self.what if self.now >= self.step else None}

    def load_state_dict(self, state_dict):
        self.read.append(state_dict["it"])


class Twice(torch.optim.SGD):
    """Calls its closure twice before each step."""

    losses: list = []  # noqa: RUF012 - the test reads it

    def step(self, closure=None):
        first = closure().item()
        self.losses.append((first, closure().item()))
        return super().step()


class Forgetful(torch.optim.SGD):
    """Divides its steps by a count that is not in its state."""

    count = 0

    def step(self, closure=None):
        self.count += 1
        for group in self.param_groups:
            group["lr"] = 0.1 / self.count
        return super().step(closure)


class Unreadable(torch.optim.SGD):
    """Has a value in its state that a checkpoint cannot hold."""

    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            group["color"] = Color.RED
        return loss
