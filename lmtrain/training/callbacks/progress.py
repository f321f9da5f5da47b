"""Shows the progress of training: a bar on a terminal, else a line now and then."""

import logging
import math
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from lmtrain.data.windows import Window
from lmtrain.training.callbacks.best_model import BestModel
from lmtrain.training.callbacks.monitor import Monitor
from lmtrain.training.callbacks.run_length import planned_steps
from lmtrain.training.lightning_internals.attributes import annotated, own_module, window_progress
from lmtrain.training.muon import Muon

log = logging.getLogger(__name__)

_REFRESH_SECONDS = 0.5
_LINE_SECONDS = 30  # until the first line where there is no bar; the time doubles with each line
_MAX_LINE_SECONDS = 600  # the longest time between two lines


class RunProgress(Callback):
    """Shows epoch, split, loss, bpc, characters per second, learning rate, the best so far and the time left.

    Each validation is a line of the log as well.

    Args:
        monitor, best: have the figures.
        console: of the bar. If it is no terminal, lines go to the log instead.
    """

    def __init__(self, monitor: Monitor, best: BestModel, console: Console) -> None:
        self.monitor = monitor
        self.best = best
        self.console = console
        self._bar: _Bar | None = None
        self._drawn = 0.0
        self._pause = _LINE_SECONDS
        self._has_warned = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = self._drawn = time.monotonic()
        self._began_step = trainer.global_step
        self._planned = planned_steps(trainer, annotated(trainer).datamodule)
        if not (trainer.is_global_zero and self.console.is_terminal):
            return
        self._bar = _Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("steps ·"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            auto_refresh=False,
            transient=True,
            speed_estimate_period=600,  # seconds; rich's 30 may all fall into a validation
        )
        self._task = self._bar.add_task(position(trainer), total=self._planned, completed=trainer.global_step)
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Window, batch_idx: int
    ) -> None:
        seconds = time.monotonic() - self._drawn
        if self._bar is not None and seconds > _REFRESH_SECONDS:
            self._draw(trainer)
        elif self._bar is None and seconds > self._pause and "train/loss" in self.monitor.latest:
            log.info(
                "%s · step %s%s · %s",
                position(trainer),
                f"{trainer.global_step:,}",
                self._left(trainer),
                self._figures(),
            )
            self._drawn = time.monotonic()
            self._pause = min(2 * self._pause, _MAX_LINE_SECONDS)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._bar is not None:
            self._draw(trainer, " · validating")

    def _draw(self, trainer: Trainer, activity: str = "") -> None:
        self._bar.update(
            self._task,
            completed=trainer.global_step,
            description=position(trainer) + activity,
        )
        self._bar.figures = self._figures()
        self._bar.refresh()
        self._drawn = time.monotonic()

    def _figures(self) -> str:
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
        return " · ".join(shown)

    def _left(self, trainer: Trainer) -> str:
        """For example " of 20,000 · 1:02:03 left", from the speed since this start of the run, with validations."""
        if self._planned is None:
            return ""
        pace = (time.monotonic() - self._began) / (trainer.global_step - self._began_step)
        left = timedelta(seconds=round(pace * (self._planned - trainer.global_step)))
        return f" of {self._planned:,} · {left} left"

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
        guessing = math.log(own_module(pl_module).model.sizes.vocabulary_size)
        if figures["val/loss"] > guessing and not self._has_warned:
            self._has_warned = True
            has_muon = isinstance(trainer.optimizers[0], Muon)
            log.warning(
                "A model that takes all items for equally probable has a lower loss, %.4f. If it stays so, the "
                "learning rate is too high: lower optimizer.lr%s",
                guessing,
                "" if has_muon else ", or take optimizer=muon, which has its own",
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class _Bar(Progress):
    """A bar with a line of figures below it: both fit into 80 columns."""

    figures = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.figures, no_wrap=True, overflow="ellipsis")


def position(trainer: Trainer) -> str:
    """For example "epoch 2/10 split 3/20"."""
    windows = annotated(trainer).datamodule.train_windows
    done = window_progress(trainer).processed
    splits = len(windows.split_ends)
    split = min(splits, 1 + windows.split_at(done - 1))
    epochs = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
    return f"epoch {trainer.current_epoch + 1}{epochs} split {split}/{splits}"
