"""Measures after each validation what the model's embeddings are worth for tagging words."""

import logging
import time
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from lmtrain.data.dictionary import Dictionary
from lmtrain.errors import UserError
from lmtrain.inference.embeddings import StringEmbeddings
from lmtrain.model.language_model import LanguageModel
from lmtrain.probing.experiment import SEED_OF_TEST, found_by_vectors
from lmtrain.probing.features import vectors_of
from lmtrain.probing.material import Figures, check_installed, drawn, judged, read_material
from lmtrain.training.lightning_internals.attributes import own_module
from lmtrain.training.module import LanguageModelModule

log = logging.getLogger(__name__)

_SEED = 1


class Probe(Callback):
    """After each validation, trains and tests a linear probe over vectors from the weights that were validated.

    Logs `probe/accuracy`, the share of right tags, and for tags of entities `probe/f1`. The sentences are always the
    same. Rank 0 alone computes; the model, its state and all random states stay as they are.

    Args:
        train, test: files of tagged sentences.
        column, token_column, comment, encoding: see `lmtrain.probing.tagged_text.read_tagged_sentences`.
        sentences: how many are learned from, and how many tested on, at most.
        tokenized_lm: whether the text that the model was trained on is tokenized.
        is_lower: whether that text is in lower case.

    Raises:
        UserError: scikit-learn is missing, or the files have no tagged sentences to probe with.
    """

    def __init__(  # noqa: PLR0913  # one for each key of its configuration
        self,
        train: str | Path | None = None,
        test: str | Path | None = None,
        column: int | None = None,
        token_column: int = 0,
        comment: str | None = None,
        encoding: str | None = None,
        sentences: int = 500,
        tokenized_lm: bool = True,
        is_lower: bool = False,
    ) -> None:
        check_installed("callbacks=probe")
        files = {"train": train, "test": test}
        missing = [f"callbacks.probe.{name}=FILE" for name, path in files.items() if path is None]
        if missing:
            raise UserError(f"a probe needs tagged sentences: {' '.join(missing)}.")
        if sentences < 2:
            raise UserError(f"sentences is {sentences}; it must be at least 2.")
        material = read_material(train, test, column, token_column, comment, encoding)
        self.train, self.test = drawn(material.train, sentences, _SEED), drawn(material.test, sentences, SEED_OF_TEST)
        self.has_entities = material.has_entities
        self.tokenized_lm = tokenized_lm
        self.is_lower = is_lower
        self._has_failed = False

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        module = own_module(pl_module)
        began = time.monotonic()
        try:
            figures = self.measure(module)
        except Exception as error:  # such as too little memory: the run is as good without
            if not self._has_failed:
                log.warning("The probe failed: %s: %s. The run goes on", type(error).__name__, error)
            self._has_failed = True
            return
        named = {"probe/accuracy": figures.accuracy} | ({} if figures.f1 is None else {"probe/f1": figures.f1})
        for logger in trainer.loggers:
            logger.log_metrics({**named, "chars": module.items_seen}, step=trainer.global_step)
        said = " · ".join(f"{name.removeprefix('probe/')} {value:.3f}" for name, value in named.items())
        log.info("Probe: %s (%.0f s)", said, time.monotonic() - began)

    def measure(self, module: LanguageModelModule) -> Figures:
        """The figures of a probe over the module's present weights."""
        description = module.description
        language_model = LanguageModel(
            model=module.model,
            dictionary=Dictionary(description["items"]),
            is_forward_lm=description["is_forward_lm"],
            document_delimiter=description["document_delimiter"],
            level=description["level"],
        )
        embeddings = StringEmbeddings(language_model, tokenized_lm=self.tokenized_lm, is_lower=self.is_lower)
        vectors = vectors_of(embeddings, self.train), vectors_of(embeddings, self.test)
        found, _ = found_by_vectors(self.train, *vectors)
        return judged(self.test, found, self.has_entities)
