"""Trains Flair's SequenceTagger (BiLSTM-CRF) over frozen language models, and over characters that it learns itself."""

import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lmtrain.errors import UserError
from lmtrain.model.language_model import LanguageModel
from lmtrain.model_files.flair import save_language_model
from lmtrain.probing.entities import entities_of
from lmtrain.probing.experiment import EMBEDDINGS, SEED_OF_TEST, Result
from lmtrain.probing.material import Material, drawn, judged, tags_of
from lmtrain.probing.tagged_text import TaggedSentence

if TYPE_CHECKING:
    from flair.data import Dictionary, Sentence
    from flair.embeddings import TokenEmbeddings
    from flair.models import SequenceTagger

CHARACTERS, TOGETHER = "characters", "embeddings + characters"
_HELD_OUT = 0.1  # of the training sentences, on which Flair anneals the rate and selects the epoch
_TAG, _FOUND = "tag", "found"


def check_flair() -> None:
    """Raises `UserError` if Flair is missing."""
    if find_spec("flair") is None:
        raise UserError("--tagger needs Flair. Install it: pip install 'lmtrain[flair]'.")


def tagger_curve(  # noqa: PLR0913
    material: Material,
    language_models: Sequence[LanguageModel],
    sizes: Sequence[int],
    seeds: Sequence[int],
    test_sentences: int,
    epochs: int,
    progress: Callable[[float], None] = lambda _: None,
) -> Iterator[Result]:
    """As `experiment.curve`, with a tagger in place of each linear probe.

    It is Flair's recipe for sequence labelling: 256 hidden units, a CRF, SGD with a rate of 0.1 that is halved when
    the score on the held-out tenth of the training sentences stalls, batches of 32. Words are read with one space
    between them.

    Args:
        language_models: the frozen models.
        epochs: the largest number of epochs.
    """
    import flair

    logging.getLogger("flair").handlers.clear()  # it prints every batch
    device, flair.device = flair.device, language_models[0].model.encoder.weight.device
    test = [_as_flair_reads(one, material.has_entities) for one in drawn(material.test, test_sentences, SEED_OF_TEST)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            places = [Path(folder, f"{number}.pt") for number in range(len(language_models))]
            for language_model, place in zip(language_models, places, strict=True):
                save_language_model(language_model, place)
            for seed in seeds:
                for size in sizes:
                    train = drawn(material.train, size, seed)
                    train = [_as_flair_reads(one, material.has_entities) for one in train]
                    for features in (CHARACTERS, EMBEDDINGS, TOGETHER):
                        flair.set_seed(seed)
                        tagger = _trained(train, _embeddings(features, places, train), epochs, material.has_entities)
                        figures = judged(test, _found(tagger, test, material.has_entities), material.has_entities)
                        yield Result(features, size, sum(len(one.tags) for one in train), seed, figures)
                        progress(size)
    finally:
        flair.device = device


def _as_flair_reads(sentence: TaggedSentence, has_entities: bool) -> TaggedSentence:
    """The sentence with its entities in BIO, as Flair returns them."""
    if not has_entities:
        return sentence
    tags = ["O"] * len(sentence.tags)
    for kind, first, last in entities_of(sentence.tags):
        tags[first : last + 1] = [f"B-{kind}", *[f"I-{kind}"] * (last - first)]
    return TaggedSentence(sentence.tokens, sentence.whitespace_after, tags)


def _embeddings(features: str, places: list[Path], train: list[TaggedSentence]) -> "TokenEmbeddings":
    """Flair's embeddings for a kind of features; `places` are the files of the language models."""
    from flair.data import Dictionary
    from flair.embeddings import CharacterEmbeddings, FlairEmbeddings, StackedEmbeddings

    parts: list[TokenEmbeddings] = []
    if features != CHARACTERS:
        parts += [FlairEmbeddings(str(place)) for place in places]
    if features != EMBEDDINGS:
        dictionary = Dictionary()
        for character in sorted({character for one in train for token in one.tokens for character in token}):
            dictionary.add_item(character)
        parts.append(CharacterEmbeddings(dictionary))
    return StackedEmbeddings(parts)


def _trained(
    train: list[TaggedSentence], embeddings: "TokenEmbeddings", epochs: int, has_entities: bool
) -> "SequenceTagger":
    from flair.data import Corpus
    from flair.datasets import FlairDatapointDataset
    from flair.models import SequenceTagger
    from flair.trainers import ModelTrainer

    sentences = [_flair_sentence(one, has_entities) for one in train]
    learned = len(sentences) - max(1, round(_HELD_OUT * len(sentences)))
    corpus: Corpus = Corpus(
        FlairDatapointDataset(sentences[:learned]),
        FlairDatapointDataset(sentences[learned:]),
        sample_missing_splits=False,
    )
    tagger = SequenceTagger(
        embeddings=embeddings,
        tag_dictionary=_dictionary(train, has_entities),
        tag_type=_TAG,
        hidden_size=256,
    )
    # Flair draws a progress bar for every evaluation, and warns of deprecations in its own code
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ModelTrainer(tagger, corpus).train(
            folder,
            learning_rate=0.1,
            mini_batch_size=32,
            max_epochs=epochs,
            save_final_model=False,
            create_file_logs=False,
            create_loss_file=False,
        )
    return tagger


def _dictionary(train: list[TaggedSentence], has_entities: bool) -> "Dictionary":
    """The dictionary of entity types, or of tags. (Flair's own function for it draws progress bars.)"""
    from flair.data import Dictionary

    dictionary = Dictionary(add_unk=False)
    dictionary.span_labels = has_entities
    for tag in sorted(set(tags_of(train)) - ({"O"} if has_entities else set())):
        dictionary.add_item(tag[2:] if has_entities else tag)
    return dictionary


def _flair_sentence(sentence: TaggedSentence, has_entities: bool) -> "Sentence":
    from flair.data import Sentence

    made = Sentence(list(sentence.tokens))
    if has_entities:
        for kind, first, last in entities_of(sentence.tags):
            made[first : last + 1].add_label(_TAG, kind)
    else:
        for token, tag in zip(made.tokens, sentence.tags, strict=True):
            token.add_label(_TAG, tag)
    return made


def _found(tagger: "SequenceTagger", test: list[TaggedSentence], has_entities: bool) -> list[str]:
    """The tags of all tokens, entities in BIO."""
    from flair.data import Sentence

    tags: list[str] = []
    for one in test:
        sentence = Sentence(list(one.tokens))
        tagger.predict(sentence, label_name=_FOUND)
        if not has_entities:
            tags += [token.get_label(_FOUND).value for token in sentence]
            continue
        found = ["O"] * len(one.tokens)
        for span in sentence.get_spans(_FOUND):
            first, last = span.tokens[0].idx - 1, span.tokens[-1].idx
            kind = span.get_label(_FOUND).value
            found[first:last] = [f"B-{kind}", *[f"I-{kind}"] * (last - first - 1)]
        tags += found
    return tags
