"""Texts for TensorBoard and wandb: a sample of what the model writes after each validation, and the configuration."""

import logging
from textwrap import wrap

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from lmtrain.config.saved import saved
from lmtrain.config.schema import Config
from lmtrain.inference.generation import generate, readable
from lmtrain.model.language_model import LanguageModel
from lmtrain.training.loggers.tensorboard import tensorboards

log = logging.getLogger(__name__)

_WIDTH = 100


class TextSamples(Callback):
    """Writes samples to TensorBoard and wandb, and the configuration to TensorBoard, if they are among the loggers.

    Args:
        language_model: the model in training, sampled with the weights that are validated; a backward model's text
            reads forwards, too.
        config: the run's configuration.
        length: items of a sample.
    """

    def __init__(self, language_model: LanguageModel, config: Config, length: int = 200) -> None:
        self.language_model = language_model
        self.config = config
        self.length = length
        self._has_failed = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        text = yaml.safe_dump(saved(self.config), allow_unicode=True, sort_keys=False)
        self._write(trainer, "settings", text)  # TensorBoard sorts by name: below the samples

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        wandbs = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if trainer.is_global_zero and (wandbs or tensorboards(trainer)):
            try:
                text = sample_text(self.language_model, self.length)
            except Exception as error:  # such as too little memory: the run is as good without
                if not self._has_failed:
                    log.warning("No sample could be written: %s: %s. The run goes on", type(error).__name__, error)
                self._has_failed = True
                return
            self._write(trainer, "sample", text)
            for logger in wandbs:
                logger.log_text("sample", ["text"], [[text]], step=trainer.global_step)

    def _write(self, trainer: Trainer, name: str, text: str) -> None:
        if trainer.is_global_zero:
            for logger in tensorboards(trainer):
                logger.experiment.add_text(name, as_markdown(text), trainer.global_step)


def as_markdown(text: str) -> str:
    """A code block, which TensorBoard shows letter by letter; it shows no more of a line than fits."""
    lines = [part for line in text.splitlines() for part in wrap(line, _WIDTH, drop_whitespace=False) or [""]]
    return "".join(f"    {line}\n" for line in lines)


def sample_text(language_model: LanguageModel, length: int) -> str:
    """A text as the model writes it after a document's end, always from the same random numbers."""
    text, _ = generate(language_model, language_model.document_delimiter, length, temperature=0.7, seed=1)[0]
    return readable(text).strip()
