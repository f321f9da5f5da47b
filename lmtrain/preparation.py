"""From a corpus folder to splits of ids: finds, counts and encodes the text, and says all that is wrong with it."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lmtrain.config import Config, DictionaryConfig
from lmtrain.contents import Contents
from lmtrain.corpus import Corpus, TextFile, find_corpus
from lmtrain.demo_corpus import make_demo_corpus
from lmtrain.dictionary import Dictionary
from lmtrain.encoding import EncodedText, Reading, count_items, encode_file
from lmtrain.errors import UserError, raise_if_any
from lmtrain.files import remove_left
from lmtrain.fine_tuning import expanded
from lmtrain.flair_format import load_dictionary
from lmtrain.locks import CANNOT_WRITE, Lock
from lmtrain.windows import Part, Split, cut_splits

log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class PreparedText:
    """The text of a corpus as ids, and the dictionary they belong to."""

    corpus: Corpus
    dictionary: Dictionary
    train: tuple[Split, ...]
    valid: Split
    test: Split

    def unknown_rates(self) -> dict[str, float]:
        """The share of the items that the dictionary does not have, in train and in valid."""
        rates = {}
        for part, splits in (("train", self.train), ("val", (self.valid,))):
            texts = {piece.text.name: piece.text for split in splits for piece in split.parts}.values()
            rates[f"{part}/unknown_rate"] = sum(text.unknown_total for text in texts) / sum(
                text.items for text in texts
            )
        return rates

    def contents(self, init_from: str | None = None) -> Contents:
        """What the text is, whatever its files are called and wherever they stand.

        Args:
            init_from: the fingerprint of the model that training begins with.
        """
        return Contents(
            train=_contents(self.train),
            valid=_contents([self.valid]),
            test=_contents([self.test]),
            dictionary=self.dictionary.fingerprint,
            init_from=init_from,
        )


def _contents(splits: Iterable[Split]) -> dict[str, list[int]]:
    texts = {part.text.name: part.text for split in splits for part in split.parts}
    return {name: [text.items, text.checksum()] for name, text in texts.items()}


def prepare_text(config: Config, devices: int, initial: Dictionary | None = None) -> PreparedText:
    """Prepares the corpus of a configuration; the work is done once and cached.

    Processes that prepare at the same time wait for the first, and take its work over.

    Args:
        devices: over how many the lanes are shared.
        initial: the dictionary of the model to start from, used instead of the configured one.

    Raises:
        UserError: all that is wrong with the corpus and the dictionary.
    """
    data = config.data
    cache_dir = Path(data.cache_dir).expanduser()
    try:
        with _locked(cache_dir):
            corpus = _find(config, cache_dir)
            reading = Reading(data.level, data.document_delimiter, data.errors, data.encoding)
            dictionary = make_dictionary(config.dictionary, corpus.train, reading, cache_dir, initial)
            encoded = _each(corpus.files(), lambda file: encode_file(file, reading, dictionary, cache_dir))
    except OSError as error:
        raise UserError(f"data.cache_dir={data.cache_dir} cannot be written: {error.strerror}. Give another.") from None
    train = [encoded[file] for file in corpus.train]
    valid = [encoded[file] for file in corpus.valid]
    test = [encoded[file] for file in corpus.test]
    prepared = PreparedText(
        corpus,
        dictionary,
        tuple(split for text in train for split in cut_splits(text, data.max_split_size)),
        _joined("valid", valid),
        _joined("test", test),
    )
    problems = _report_coverage(config.dictionary, initial is not None, dictionary, train, valid)
    problems += _check_lengths(prepared, data.batch_size, devices)
    raise_if_any(problems)
    return prepared


@contextmanager
def _locked(cache_dir: Path) -> Iterator[None]:
    """Within the block no other process works on the cache. One that cannot be written is used without a lock."""
    lock = Lock(cache_dir / ".lock", "Give another data.cache_dir")
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire(f"the cache {cache_dir}, where text is prepared")
    except OSError as error:
        if error.errno not in CANNOT_WRITE or not cache_dir.is_dir():
            raise
        log.info("The cache %s cannot be written (%s): what is there is used", cache_dir, error.strerror)
        yield
        return
    try:
        remove_left(cache_dir)
        yield
    finally:
        lock.release()


def _find(config: Config, cache_dir: Path) -> Corpus:
    data = config.data
    path = str(make_demo_corpus(cache_dir)) if data.name == "demo" and data.path is None else data.path
    if path is None:
        how = data.how_to_get or "Give the folder that holds train/, valid.txt and test.txt: data.path=FOLDER"
        raise UserError(f"data={data.name} needs data.path. {how}.")
    try:
        return find_corpus(path, data.train, data.valid, data.test, data.format, data.encoding)
    except UserError as error:
        raise UserError(*error.problems, *([f"{data.how_to_get}."] if data.how_to_get else [])) from None


def _each(files: Iterable[TextFile], work: Callable[[TextFile], Result]) -> dict[TextFile, Result]:
    """The work's result for every file; all their problems together."""
    results, problems = {}, []
    for file in files:
        try:
            results[file] = work(file)
        except UserError as error:
            problems += error.problems
    raise_if_any(problems)
    return results


def make_dictionary(
    config: DictionaryConfig,
    train: Sequence[TextFile],
    reading: Reading,
    cache_dir: Path,
    initial: Dictionary | None = None,
) -> Dictionary:
    """The dictionary that the configuration asks for, or the initial one, expanded if that is asked for."""
    if initial is not None and not config.expand:
        return initial
    if initial is None and config.source == "chars":
        if reading.level == "word":
            raise UserError("dictionary=chars holds characters; with data.level=word use dictionary=corpus or file.")
        return Dictionary.general()
    if initial is None and config.source == "file":
        if config.path is None:
            raise UserError("dictionary=file needs dictionary.path=FILE, a dictionary.json or a Flair dictionary.")
        return load_dictionary(config.path)
    counts = sum(_each(train, lambda file: count_items(file, reading, cache_dir)).values(), Counter())
    if initial is not None:
        return expanded(initial, counts, config.min_count)
    return Dictionary.from_counts(
        counts, min_count=config.min_count, coverage=config.coverage, max_size=config.max_size
    )


def _joined(name: str, texts: list[EncodedText]) -> Split:
    return Split(name, tuple(Part(text, 0, text.items) for text in texts))


def _report_coverage(
    config: DictionaryConfig,
    is_brought: bool,
    dictionary: Dictionary,
    train: list[EncodedText],
    valid: list[EncodedText],
) -> list[str]:
    log.info("Dictionary: %s items", f"{len(dictionary):,}")
    problems = []
    for part, texts in (("train", train), ("valid", valid)):
        items = sum(text.items for text in texts)
        unknown = sum(text.unknown_total for text in texts)
        if not unknown:
            log.info("  covers all of %s (%s items)", part, f"{items:,}")
            continue
        counts: Counter[str] = Counter()
        for text in texts:  # a sum of counters would copy them all for each text
            counts.update(text.unknown)
        examples = " ".join(f"{item!r}×{count:,}" for item, count in counts.most_common(10))
        covered = 100 - 100 * unknown / items
        log.info("  covers %.4f %% of %s (%s items); unknown: %s", covered, part, f"{items:,}", examples)
        if unknown > config.max_unknown * items:
            problems.append(
                f"{unknown / items:.2%} of the items of {part} are not in the dictionary ({len(dictionary):,} items), "
                f"above dictionary.max_unknown={config.max_unknown}; the most frequent: {examples}. "
                + _remedy(config, is_brought)
            )
    return problems


def _remedy(config: DictionaryConfig, is_brought: bool) -> str:
    if is_brought:
        remedy = "Add them to the model's dictionary with dictionary.expand=true"
    elif config.source != "corpus":
        remedy = "Use dictionary=corpus, which counts the training files"
    elif (config.min_count, config.coverage, config.max_size) == (1, 1, None):
        remedy = "The training files do not have them: train on text that does"
    else:
        remedy = "Cut the dictionary less (dictionary.min_count, dictionary.coverage, dictionary.max_size)"
    return f"{remedy}, or allow more with dictionary.max_unknown."


def _check_lengths(prepared: PreparedText, lanes: int, devices: int) -> list[str]:
    """Every device must have a lane, and every run of text two rows: one to read, one to predict."""
    problems = []
    if lanes < devices:
        problems.append(
            f"data.batch_size={lanes} lanes are too few for {devices} devices: each must have one. Use "
            f"data.batch_size={devices} or more, or fewer trainer.devices."
        )
    named = [*((f"training split {split.name}", split) for split in prepared.train)]
    named += [("validation text", prepared.valid), ("test text", prepared.test)]
    works = min(len(split) for _, split in named) // 2
    works = works if works >= devices else 0
    for name, split in named:
        if len(split) < 2 * lanes:
            remedy = f"the largest that works is data.batch_size={works}" if works else "put more text into it"
            problems.append(
                f"The {name} is too short for data.batch_size={lanes} lanes: it has {len(split):,} items, and must "
                f"have at least {2 * lanes:,}; {remedy}."
            )
    return problems
