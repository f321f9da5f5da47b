"""Texts for TensorBoard: a sample of what the model writes after each validation, and the configuration."""

import logging
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from lmtrain.generation import generate
from lmtrain.model import LanguageModel

log = logging.getLogger(__name__)


class TextSamples(Callback):
    """Writes samples and the configuration as texts to TensorBoard, if that is among the loggers.

    Args:
        language_model: the model in training; a backward model's text reads forwards, too.
        config: the run's configuration.
        length: items of a sample.
    """

    def __init__(self, language_model: LanguageModel, config: dict[str, Any], length: int = 200) -> None:
        self.language_model = language_model
        self.config = config
        self.length = length

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        text = yaml.safe_dump(self.config, allow_unicode=True, sort_keys=False)
        self._write(trainer, "config", text)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and self._tensorboards(trainer):
            self._write(trainer, "sample", sample_text(self.language_model, self.length))

    def _write(self, trainer: Trainer, name: str, text: str) -> None:
        if trainer.is_global_zero:
            for logger in self._tensorboards(trainer):
                indented = "".join(f"    {line}\n" for line in text.splitlines())  # Markdown: as it is
                logger.experiment.add_text(name, indented, trainer.global_step)

    @staticmethod
    def _tensorboards(trainer: Trainer) -> list[TensorBoardLogger]:
        return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def sample_text(language_model: LanguageModel, length: int) -> str:
    """A text as the model writes it after a document's end, always from the same random numbers."""
    text, _ = generate(language_model, language_model.document_delimiter, length, temperature=0.7, seed=1)[0]
    return text.strip()
