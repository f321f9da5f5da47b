"""From a corpus folder to splits of ids: finds, counts and encodes the text, and reports all problems with it."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lmtrain.config.schema import Config
from lmtrain.data.cache.text_cache import May, NotThere, TextCache
from lmtrain.data.cache.turns import in_turn
from lmtrain.data.corpus import Corpus, TextFile, find_corpus
from lmtrain.data.demo_corpus import demo_folder, make_demo_corpus
from lmtrain.data.dictionary import Dictionary
from lmtrain.data.id_cache import EncodedText, TextFormat
from lmtrain.data.splits import FileRange, Split, cut_splits
from lmtrain.errors import UserError, raise_if_any
from lmtrain.program.pool import Here, Pool, Processes
from lmtrain.program.processors import processors
from lmtrain.program.time_left import time_left
from lmtrain.runs.contents import Contents
from lmtrain.training.dictionary_choice import make_dictionary, report_coverage

log = logging.getLogger(__name__)

_SHOWN_FROM = 32 << 20  # bytes of text for which a progress bar is shown


@dataclass(frozen=True)
class PreparedText:
    """The text of a corpus as ids, and the dictionary that the ids belong to."""

    corpus: Corpus
    dictionary: Dictionary
    train: tuple[Split, ...]
    valid: Split
    test: Split

    def unknown_rates(self) -> dict[str, float]:
        """The share of the items that are not in the dictionary, as `train/unknown_rate` and `val/unknown_rate`."""
        rates = {}
        for part, splits in (("train", self.train), ("val", (self.valid,))):
            texts = {piece.text.name: piece.text for split in splits for piece in split.ranges}.values()
            rates[f"{part}/unknown_rate"] = sum(text.unknown_total for text in texts) / sum(
                text.items for text in texts
            )
        return rates

    def contents(self, init_from: str | None = None) -> Contents:
        """Checksums of the text and the dictionary, by which a run notices that it would go on with another text.

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
    texts = {piece.text.name: piece.text for split in splits for piece in split.ranges}
    return {name: [text.items, text.checksum()] for name, text in texts.items()}


def prepare_text(config: Config, devices: int, initial: Dictionary | None = None) -> PreparedText:
    """Prepares the corpus of a configuration; the work is done once and cached.

    Of several processes that prepare the same text, one does the work and the others wait for it.

    Args:
        devices: the number of devices that share the lanes.
        initial: the dictionary of the model to start from, used instead of the configured one.

    Raises:
        UserError: every problem of the corpus and the dictionary.
    """
    data = config.data
    cache_dir = Path(data.cache_dir).expanduser()
    try:
        corpus, dictionary, encoded = in_turn(cache_dir, _Preparation(config, cache_dir, initial))
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
    problems = report_coverage(config.dictionary, initial is not None, dictionary, train, valid)
    problems += _check_lengths(prepared, data.batch_size, devices)
    raise_if_any(problems)
    return prepared


class _Preparation:
    """Corpus, dictionary and ids, from the cache or into it."""

    def __init__(self, config: Config, cache_dir: Path, initial: Dictionary | None) -> None:
        data = config.data
        self.config, self.cache_dir, self.initial = config, cache_dir, initial
        self.text_format = TextFormat(data.level, data.document_delimiter, data.errors, data.encoding)
        self._corpus: Corpus | None = None

    def __call__(self, may: May) -> tuple[Corpus, Dictionary, dict[TextFile, EncodedText]]:
        if self._corpus is None:
            self._corpus = _find(self.config, self.cache_dir, may)
        corpus, files = self._corpus, list(self._corpus.files())
        if may < May.MAKE:
            cache = TextCache(self.cache_dir, may)
            dictionary = self._dictionary(cache, corpus)
            return corpus, dictionary, cache.encoded(files, self.text_format, dictionary)
        with processes() as pool:
            return self._make(TextCache(self.cache_dir, may, pool), corpus, files)

    def _make(
        self, cache: TextCache, corpus: Corpus, files: list[TextFile]
    ) -> tuple[Corpus, Dictionary, dict[TextFile, EncodedText]]:
        cache.hash_all(files)
        uncounted = cache.uncounted(corpus.train, self.text_format) if self._is_counted() else []
        dictionary = None if uncounted else self._dictionary(cache, corpus)
        unencoded = files if dictionary is None else cache.unencoded(files, self.text_format, dictionary)
        with _showing_progress(uncounted, unencoded) as cache.advance:
            dictionary = dictionary or self._dictionary(cache, corpus)
            return corpus, dictionary, cache.encoded(files, self.text_format, dictionary)

    def _is_counted(self) -> bool:
        """Whether the dictionary is made from counts of the training text."""
        if self.initial is not None:
            return self.config.dictionary.expand
        return self.config.dictionary.source == "corpus"

    def _dictionary(self, cache: TextCache, corpus: Corpus) -> Dictionary:
        return make_dictionary(
            self.config.dictionary,
            self.text_format.level,
            lambda: cache.counts(corpus.train, self.text_format),
            self.initial,
        )


@contextmanager
def processes() -> Iterator[Pool]:
    """A pool of one process for each processor, or of this process alone where no others can be started."""
    count = processors()
    if count == 1 or not sys.executable:
        yield Here()
        return
    with Processes(count) as pool:
        yield pool


@contextmanager
def _showing_progress(
    uncounted: Sequence[TextFile], unencoded: Sequence[TextFile]
) -> Iterator[Callable[[float], None]]:
    """Logs which files are read, and shows the progress of long reading.

    Yields:
        a function to call with the number of bytes that have been read since its last call.
    """
    files = list(dict.fromkeys([*uncounted, *unencoded]))
    total = sum(max(0, file.size) for file in [*uncounted, *unencoded])
    if files:
        what = "Encoding" if unencoded else "Counting"
        more = f" and {len(files) - 1:,} more files" if len(files) > 1 else ""
        size = sum(max(0, file.size) for file in files)
        log.info("%s %s%s (%s bytes)", what, files[0].name, more, f"{size:,}")
    if total < _SHOWN_FROM:
        yield lambda _: None
        return
    with time_left("Preparing text", total) as advance:
        yield advance


def _find(config: Config, cache_dir: Path, may: May) -> Corpus:
    data = config.data
    path = data.path
    if data.name == "demo" and path is None:
        if may < May.MAKE and not demo_folder(cache_dir).exists():
            raise NotThere
        path = str(make_demo_corpus(cache_dir))
    if path is None:
        how = data.how_to_get or "Give the folder that holds train/, valid.txt and test.txt: data.path=FOLDER"
        raise UserError(f"data={data.name} needs data.path. {how}.")
    try:
        return find_corpus(path, data.train, data.valid, data.test, data.format, data.encoding)
    except UserError as error:
        raise UserError(*error.problems, *([f"{data.how_to_get}."] if data.how_to_get else [])) from None


def _joined(name: str, texts: list[EncodedText]) -> Split:
    return Split(name, tuple(FileRange(text, 0, text.items) for text in texts))


def _check_lengths(prepared: PreparedText, lanes: int, devices: int) -> list[str]:
    """Sentences about too few lanes for the devices, and about texts that are shorter than two items a lane, one of
    which is read and one predicted."""
    problems = []
    if lanes < devices:
        problems.append(
            f"data.batch_size={lanes} lanes are too few for {devices} devices: each must have one. Use "
            f"data.batch_size={devices} or more, or fewer trainer.devices."
        )
    named = [*((f"training split {split.name}", split) for split in prepared.train)]
    named += [("validation text", prepared.valid), ("test text", prepared.test)]
    largest = min(len(split) for _, split in named) // 2
    for name, split in named:
        if len(split) < 2 * lanes:
            is_possible = largest >= devices
            remedy = f"the largest that works is data.batch_size={largest}" if is_possible else "put more text into it"
            problems.append(
                f"The {name} is too short for data.batch_size={lanes} lanes: it has {len(split):,} items, and must "
                f"have at least {2 * lanes:,}; {remedy}."
            )
    return problems
