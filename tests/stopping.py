"""Callbacks of a user that end, halt or fail a run at a given window."""

import signal
import time
from pathlib import Path

import torch
from lightning.pytorch import Callback


class Killed(BaseException):
    """Stands for a process that ends on the spot: nothing in lmtrain catches it."""


class KillAt(Callback):
    """Ends the run after so many windows of the whole run, or at the n-th window of a validation."""

    def __init__(self, windows: int | None = None, validation_window: int | None = None) -> None:
        self.windows = windows
        self.validation_window = validation_window
        self.seen = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if self.windows is not None and trainer.global_step >= self.windows:
            raise Killed

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.seen += 1
        if self.seen == self.validation_window:
            raise Killed


class PoisonAt(Callback):
    """Makes a weight not a number after a step, `times` times in the process."""

    left: dict[int, int] = {}  # noqa: RUF012 - shared on purpose: a rollback makes a new callback

    def __init__(self, step: int, times: int) -> None:
        self.step = step
        PoisonAt.left.setdefault(step, times)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step and PoisonAt.left[self.step] > 0:
            PoisonAt.left[self.step] -= 1
            with torch.no_grad():
                pl_module.model.encoder.weight[1, 0] = torch.nan


class Slow(Callback):
    """Makes every step and every window of a validation take a while."""

    def __init__(self, seconds: float, validation_seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.validation_seconds = validation_seconds

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        time.sleep(self.seconds)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        time.sleep(self.validation_seconds)


class HaltAt(Callback):
    """Halts after so many windows of the whole run, at the FIFO `halt` in its folder, until `processes.met` ends."""

    def __init__(self, windows: int) -> None:
        self.windows = windows

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.windows and trainer.is_global_zero:
            (Path(trainer.default_root_dir) / "halt").read_bytes()


class EndAt(Callback):
    """Ends the process at any moment, which may be within a step: so long after so many windows of the whole run.

    Args:
        seconds: of this process's computing, so that it makes no difference what else the machine does.
    """

    def __init__(self, windows: int, seconds: float) -> None:
        self.windows = windows
        self.seconds = seconds

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.windows:
            signal.setitimer(signal.ITIMER_PROF, self.seconds)  # whose signal ends a process that does not handle it


class InterruptSecondRun(Callback):
    """Presses Ctrl-C after the first step of the second run in the process."""

    runs = 0

    def on_train_start(self, trainer, pl_module) -> None:
        InterruptSecondRun.runs += 1

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if InterruptSecondRun.runs == 2:
            signal.raise_signal(signal.SIGINT)


class SignalAt(Callback):
    """Sends this process a signal after so many windows of the whole run, or at the n-th window of a validation.

    Args:
        rank: in which process.
    """

    def __init__(
        self, windows: int | None = None, validation_window: int | None = None, name: str = "SIGTERM", rank: int = 0
    ) -> None:
        self.windows = windows
        self.validation_window = validation_window
        self.signum = signal.Signals[name]
        self.rank = rank
        self.seen = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.windows and trainer.global_rank == self.rank:
            signal.raise_signal(self.signum)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.seen += trainer.state.fn == "fit"
        if self.seen == self.validation_window and trainer.global_rank == self.rank:
            signal.raise_signal(self.signum)


class SignalBetweenLoops(Callback):
    """Sends the second rank a signal where the ranks do not talk about signals: in a hook outside the loops."""

    def __init__(self, hook: str, name: str = "SIGTERM") -> None:
        self.signum = signal.Signals[name]
        setattr(self, hook, self._send)

    def _send(self, trainer, *_, **__) -> None:
        if trainer.global_rank == 1:
            signal.raise_signal(self.signum)


class FirstRankFails(Callback):
    """At step 5 the first rank fails, and the others wait for it, as they would in a collective."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == 5:
            if trainer.is_global_zero:
                raise RuntimeError("the first rank fails")
            time.sleep(600)


class Meddle(Callback):
    """Sets an attribute of the Trainer, of its data or of the optimizer's parameters when the second epoch begins."""

    def __init__(self, name: str, value: float) -> None:
        self.name = name
        self.value = value

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == 1:
            if self.name == "lr":
                trainer.optimizers[0].param_groups[0]["lr"] = self.value
            else:
                setattr(
                    trainer.datamodule if hasattr(trainer.datamodule, self.name) else trainer, self.name, self.value
                )
