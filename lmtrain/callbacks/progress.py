"""The progress bar, and its plain lines where there is no terminal."""

import logging
import math
import time

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lmtrain.callbacks.best_model import BestModel
from lmtrain.callbacks.monitor import Monitor
from lmtrain.windows import Window

log = logging.getLogger(__name__)

_REFRESH_SECONDS = 0.5


class RunProgress(Callback):
    """Shows epoch, split, loss, bpc, characters per second, learning rate, the best so far and the time left.

    A line at every validation goes to the log as well.

    Args:
        monitor, best: where the figures come from.
        console: where the bar goes; without a terminal there is none.
    """

    def __init__(self, monitor: Monitor, best: BestModel, console: Console) -> None:
        self.monitor = monitor
        self.best = best
        self.console = console
        self._bar: Progress | None = None
        self._drawn = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not (trainer.is_global_zero and self.console.is_terminal):
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("", total=planned_steps(trainer), figures="")
        self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module, outputs, batch: Window, batch_idx: int) -> None:
        if self._bar is not None and time.monotonic() - self._drawn > _REFRESH_SECONDS:
            self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        figures = self.monitor.latest
        shown = [
            f"{label} {figures[name]:{style}}"
            for name, label, style in (
                ("train/loss", "loss", ".3f"),
                ("train/bpc", "bpc", ".3f"),
                ("chars_per_second", "chars/s", ",.0f"),
                ("lr", "lr", "g"),
            )
            if name in figures
        ]
        if math.isfinite(self.best.loss):
            shown.append(f"best {self.best.loss:.3f}")
        self._bar.update(
            self._task,
            completed=trainer.global_step,
            description=position(trainer),
            figures=" · ".join(shown),
            refresh=True,
        )
        self._drawn = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        figures = self.monitor.latest
        speed = f" · {figures['chars_per_second']:,.0f} chars/s" if "chars_per_second" in figures else ""
        log.info(
            "%s · step %s · val loss %.4f · ppl %.3f · bpc %.3f · lr %g%s%s",
            position(trainer),
            f"{trainer.global_step:,}",
            figures["val/loss"],
            figures["val/ppl"],
            figures["val/bpc"],
            trainer.optimizers[0].param_groups[0]["lr"],
            speed,
            " · best so far" if self.best.is_new else "",
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def position(trainer: Trainer) -> str:
    """For example "epoch 2/10 split 3/20"."""
    ends = trainer.datamodule.train_windows.split_ends()
    done = trainer.fit_loop.epoch_loop.batch_progress.current.processed
    split = min(len(ends), 1 + sum(end < done for end in ends))
    epochs = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
    return f"epoch {trainer.current_epoch + 1}{epochs} split {split}/{len(ends)}"


def planned_steps(trainer: Trainer) -> int | None:
    """How many optimizer steps the run will have made at its end, if that is known."""
    limits = []
    if trainer.max_steps > 0:
        limits.append(trainer.max_steps)
    if (trainer.max_epochs or -1) > 0:
        limits.append(
            math.ceil(len(trainer.datamodule.train_windows) / trainer.accumulate_grad_batches) * trainer.max_epochs
        )
    return min(limits, default=None)
