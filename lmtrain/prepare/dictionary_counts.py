"""Counts the items of texts, and says how many of the most frequent ones cover which share of the text.

`build_dictionary` chooses from these figures which items a dictionary gets.
"""

import logging
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

from lmtrain.data.cache.text_cache import count_items
from lmtrain.data.corpus import TextFile, file_at, find_corpus
from lmtrain.data.dictionary import Dictionary
from lmtrain.data.formats.lines import Text
from lmtrain.data.formats.registry import READERS
from lmtrain.data.formats.stores import store_of
from lmtrain.data.id_cache import TextFormat
from lmtrain.errors import UserError, raise_if_any
from lmtrain.prepare.once import read_once
from lmtrain.prepare.sources import find_sources
from lmtrain.program.command import script

log = logging.getLogger(__name__)

CURVE = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 1.0)


@dataclass(frozen=True)
class Row:
    """An item of a table that is sorted by frequency.

    Args:
        count: how often the item occurs.
        share: of all occurrences.
        cumulative: the share of all occurrences of this item and of those before it.
    """

    item: str
    count: int
    share: float
    cumulative: float


@dataclass(frozen=True)
class CurvePoint:
    """How many items it takes to cover a share of all occurrences, and how often the rarest of them occurs."""

    coverage: float
    items: int
    rarest: int


def count_texts(
    inputs: Sequence[str | Path],
    text_format: TextFormat,
    cache_dir: Path,
    format: str = "auto",
    progress: Callable[[str, float, float], None] = lambda *_: None,
) -> Counter[str]:
    """How often each item occurs in the training files of corpus folders, and in text files, patterns and URLs.

    Counts are kept in the cache, where training finds them, except those of standard input ("-") and pipes. If the
    cache cannot be written, a temporary folder takes its place, with a warning.

    Args:
        format: "auto" refuses files that are recognised as something else than plain text; "text" reads any file.
        progress: called with "Counting", and how many bytes, as stored, are read and how many there are.

    Raises:
        UserError: every problem of the inputs.
    """
    with _writable(cache_dir) as cache_dir, read_once(inputs, cache_dir / "inputs") as names:
        files, problems = [], []
        for place, name in names.items():
            try:
                files += [
                    (file, cache_dir if place == name else Path(place).parent)
                    for file in _files(place, format, text_format.encoding)
                ]
            except UserError as error:
                problems += error.problems
        raise_if_any(problems)
        return _counted(dict.fromkeys(files), text_format, progress)


def _counted(
    files: Iterable[tuple[TextFile, Path]], text_format: TextFormat, progress: Callable[[str, float, float], None]
) -> Counter[str]:
    """The counts of files, each given with the cache folder that keeps its counts."""
    counts: Counter[str] = Counter()
    total, done, problems = sum(max(0, file.size) for file, _ in files), 0, []
    for file, cache_dir in files:
        size = max(0, file.size)

        def show(place: int, done: int = done, size: int = size) -> None:
            progress("Counting", done + min(place, size), total)

        try:
            counts.update(count_items(file, text_format, cache_dir, show))
        except UserError as error:
            problems += error.problems
        done += size
    raise_if_any(problems)
    raise_if_any([] if counts else ["The inputs have no text to count."])
    return counts


@contextmanager
def _writable(cache_dir: Path) -> Iterator[Path]:
    """The cache, or a temporary folder if the cache cannot be made or written."""
    problem = _problem_of(cache_dir)
    if problem is None:
        yield cache_dir.expanduser()
        return
    log.warning("Doing without the cache %s: %s. --cache-dir FOLDER takes another one.", cache_dir, problem)
    with TemporaryDirectory() as temporary:
        yield Path(temporary)


def _problem_of(cache_dir: Path) -> str | None:
    try:
        folder = cache_dir.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
    except RuntimeError:
        return "there is no home directory"
    except OSError as error:
        return error.strerror or str(error)
    return None if os.access(folder, os.W_OK) else "it cannot be written"


def _files(place: str, format: str, encoding: str | None) -> Iterable[TextFile]:
    if "://" not in place and (Path(place).expanduser() / "train").is_dir():
        return find_corpus(place, format=format, encoding=encoding).train
    sources, _ = find_sources([place], format, encoding)
    problems = [
        f"{source.url} is {READERS[source.format].title}, not plain text. Make a corpus of it first: "
        f"{script('prepare_corpus')} {shlex.quote(source.url)} --output CORPUS"
        for source in sources
        if source.format != Text.name
    ]
    raise_if_any(problems)
    files = []
    for source in sources:
        filesystem, path = store_of(source.url)
        files.append(file_at(filesystem, path, source.url.rsplit("/", 1)[-1]))
    return files


def table(counts: Counter[str]) -> list[Row]:
    """All items, most frequent first, in the order in which `Dictionary.from_counts` takes them."""
    total = counts.total()
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    sums = accumulate(count for _, count in ordered)
    return [Row(item, count, count / total, upto / total) for (item, count), upto in zip(ordered, sums, strict=True)]


def coverage_curve(counts: Counter[str], shares: Iterable[float] = CURVE) -> list[CurvePoint]:
    """How many of the most frequent items cover each share."""
    ordered = sorted(counts.values(), reverse=True)
    sums, total = list(accumulate(ordered)), counts.total()
    needed = (next(number for number, upto in enumerate(sums, 1) if upto >= share * total) for share in shares)
    return [CurvePoint(share, number, ordered[number - 1]) for share, number in zip(shares, needed, strict=True)]


def covered(counts: Counter[str], dictionary: Dictionary) -> float:
    """The share of all occurrences whose item is in the dictionary."""
    return sum(count for item, count in counts.items() if item in dictionary.ids) / max(1, counts.total())
