"""Generates a sample of text after each validation, for the loggers that take texts."""

import logging

from lightning.pytorch import Callback, LightningModule, Trainer

from lmtrain.inference.generation import generate, readable
from lmtrain.model.language_model import LanguageModel
from lmtrain.training.loggers.run_logger import RunLogger

log = logging.getLogger(__name__)


class TextSamples(Callback):
    """Gives a sample to each `RunLogger` that takes texts.

    Args:
        language_model: the model in training, sampled with the weights that were validated. The text of a backward
            model is turned round, so that it reads forwards.
        length: items of a sample.
    """

    def __init__(self, language_model: LanguageModel, length: int = 200) -> None:
        self.language_model = language_model
        self.length = length
        self._has_failed = False

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, RunLogger) and logger.takes_text]
        if not trainer.is_global_zero or not loggers:
            return
        try:
            text = sample_text(self.language_model, self.length)
        except Exception as error:  # such as too little memory; the run does not need samples
            if not self._has_failed:
                log.warning("No sample could be written: %s: %s. The run goes on", type(error).__name__, error)
            self._has_failed = True
            return
        for logger in loggers:
            logger.add_text("sample", text, trainer.global_step)


def sample_text(language_model: LanguageModel, length: int) -> str:
    """A text that the model generates after the end of a document, always with the same random numbers."""
    text, _ = generate(language_model, language_model.document_delimiter, length, temperature=0.7, seed=1)[0]
    return readable(text).strip()
