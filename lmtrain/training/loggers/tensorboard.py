"""Writes figures to TensorBoard: by step, by characters seen, and as a row in the table of all runs."""

from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from textwrap import wrap
from typing import Any

import yaml
from lightning.fabric.loggers import TensorBoardLogger as ScalarLogger
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from lmtrain.training.loggers.run_logger import RunInfo, RunLogger

# HPARAMS shows the latest values of these scalars
_TABLE_FIGURES = ("val/loss_best", "test/loss", "test/ppl", "test/bpc")
# The columns are those of whichever run TensorBoard reads first, so all runs must name all of them.
_COLUMNS_OF_SOME_RUNS = {"init_from": "", "model.nout": 0, "optimizer.momentum": 0, "optimizer.weight_decay": 0}


_WIDTH = 100  # characters of a line of text


class _Scalars(ScalarLogger):
    """Lightning's logger without the traceback that TensorBoard's writing thread prints: the next call raises the
    exception anyway, and it becomes a warning."""

    @property
    def experiment(self) -> SummaryWriter:
        writer = super().experiment
        if isinstance(writer, SummaryWriter) and writer.file_writer is not None:
            writer.file_writer.event_writer._async_writer._worker._invoke_excepthook = lambda *_: None
        return writer


class TensorBoard(_Scalars, TensorBoardLogger, RunLogger):
    """Lightning's logger in the folder `tensorboard`, with the scalars a second time by characters seen.

    The second ones are called `by_chars/...` and have a folder of their own, `tensorboard/by_chars`: when a run is
    resumed, TensorBoard drops everything in a folder from one step on, and there the steps are characters.

    Args:
        run: figures that were written after the checkpoint that it goes on from are dropped.
    """

    name = ""
    version = "tensorboard"  # with `name`, the folder
    takes_text = True

    def __init__(self, run: RunInfo) -> None:
        place: dict[str, Any] = {"name": self.name, "version": self.version}
        super().__init__(run.folder, default_hp_metric=False, **place, **_purge(run.resume_step))
        self._by_chars = _Scalars(run.folder, sub_dir="by_chars", **place, **_purge(run.resume_chars))
        self._run = run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        if "chars" in metrics:
            by_chars = {f"by_chars/{name}": value for name, value in metrics.items() if name != "chars"}
            self._by_chars.log_metrics(by_chars, int(metrics["chars"]))

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_args: Any, **_more: Any) -> None:
        """Makes the run a row of the HPARAMS table from its beginning on, and writes the configuration as a text."""
        settings = yaml.safe_dump(self._run.config, allow_unicode=True, sort_keys=False)
        self.add_text("settings", settings, self._run.resume_step or 0)
        known = {name: value for name, value in params.items() if value is not None}
        figures = dict.fromkeys(_TABLE_FIGURES, 0.0)
        columns, _, _ = hparams(_COLUMNS_OF_SOME_RUNS | known, figures)
        _, row, _ = hparams(known, figures)
        for summary in (columns, row):
            self.experiment._get_file_writer().add_summary(summary)

    @rank_zero_only
    def add_text(self, name: str, text: str, step: int) -> None:
        self.experiment.add_text(name, as_markdown(text), step)

    @rank_zero_only
    def save(self) -> None:
        """Writes what is in memory; Lightning's would add a hparams.yaml, but config.yaml says more."""
        self.experiment.flush()

    def reopen(self) -> None:
        """Begins new files, since TensorBoard's writing thread ends with its first error."""
        for logger in (self, self._by_chars):
            if logger._experiment is not None:
                with suppress(Exception):
                    logger._experiment.close()
                logger._experiment = None
            logger._kwargs.pop("purge_step", None)  # it would drop what was written since the run was resumed

    def finalize(self, status: str) -> None:  # noqa: ARG002  # as Lightning calls it
        """Writes what is in memory, and keeps the files open for the test after training: TensorBoard reads files in
        the order of their names, which is wrong for files that were opened within the same second."""
        self._flush()

    @rank_zero_only
    def close(self) -> None:
        """Closes the files of a run that ends."""
        for logger in (self, self._by_chars):
            if logger._experiment is not None:
                logger._experiment.close()

    @rank_zero_only
    def _flush(self) -> None:
        for logger in (self, self._by_chars):
            if logger._experiment is not None:
                logger._experiment.flush()


def tensorboards(trainer: Trainer) -> list[TensorBoardLogger]:
    """Those among the loggers that write to TensorBoard."""
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def as_markdown(text: str) -> str:
    """The text as a code block of wrapped lines: TensorBoard formats anything else, and cuts off long lines."""
    lines = [part for line in text.splitlines() for part in wrap(line, _WIDTH, drop_whitespace=False) or [""]]
    return "".join(f"    {line}\n" for line in lines)


def _purge(resumed_after: int | None) -> dict[str, Any]:
    return {} if resumed_after is None else {"purge_step": resumed_after + 1}
