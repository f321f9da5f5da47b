"""The cache of a corpus: what is there is taken, what is not is made, in as many processes as there are.

- `content-KEY.json`: the hash of a file's bytes, for a file at a place with a stamp.
- `counts-KEY.json`: how often each item occurs in a content.
- `KEY/`: the ids of a content (`id_cache.py`).
- `checked-HOST.json`: which of those were found whole (`checked.py`).

Names are hashes of all that determines what is in them, and everything appears whole.
"""

import hashlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import TypeVar

from lmtrain.data.cache.checked import Checked, state
from lmtrain.data.cache.pieces import PIECE_BYTES, cut_pieces, is_whole, join_pieces
from lmtrain.data.cache.records import write_record
from lmtrain.data.cache.stamps import local_stamp
from lmtrain.data.corpus import TextFile
from lmtrain.data.dictionary import Dictionary
from lmtrain.data.id_cache import (
    FORMAT,
    EncodedPiece,
    EncodedText,
    TextFormat,
    count_piece,
    encode_piece,
    open_encoded,
    read_checked,
)
from lmtrain.errors import UserError, raise_if_any
from lmtrain.program.files import claimed, unfinished_name
from lmtrain.program.pool import Here, Pool, ProcessEnded, Processes

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
_HASHED_BYTES = 64 << 20  # at once
_HERE = Here()
_WORTH_STARTING = 48 << 20  # bytes of text that are worth the start of processes
_WORTH_HASHING = 1 << 30


class May(IntEnum):
    """How far a process may go for what it needs."""

    LOOK = 0  # take what is there and was found whole
    CHECK = 1  # read what is there
    MAKE = 2  # make what is not there


class NotThere(Exception):
    """Something must be checked or made, which this process may not."""


class TextCache:
    """Contents, counts and ids of files.

    Args:
        cache_dir: the folder; it exists, or nothing is made there.
        may: how far to go. Otherwise `NotThere` is raised.
        pool: where text is read.
        advance: called with the bytes of text that were counted or encoded.
        progress: called with how many bytes of a file were read, while it is counted in this process.
        is_needed: False if what cannot be written is only read again the next time.
    """

    def __init__(
        self,
        cache_dir: Path,
        may: May = May.MAKE,
        pool: Pool = _HERE,
        advance: Callable[[int], None] = lambda _: None,
        progress: Callable[[int], None] = lambda _: None,
        is_needed: bool = True,
    ) -> None:
        self.cache_dir, self.is_needed = cache_dir, is_needed
        self.checked = Checked(cache_dir)
        self.may, self.pool, self.advance, self.progress = may, pool, advance, progress
        self._used: Pool = _HERE  # the pool, while there is enough to do
        self._contents: dict[TextFile, str] = {}
        self._stamps: dict[TextFile, str] = {}  # when their contents were known

    def counts(self, files: Sequence[TextFile], text_format: TextFormat) -> Counter[str]:
        """How often each item occurs in the files; all their problems together."""
        places = {file: self._counts(file, text_format) for file in files}
        found = {place: self._known_counts(place) for place in places.values()}
        missing = {place: file for file, place in places.items() if found[place] is None}
        if missing:
            found |= self._each(missing, lambda place, file: self._count(place, file, text_format))
        counts: Counter[str] = Counter()
        for place in places.values():  # a sum of counters would copy them all for each file
            counts.update(found[place])
        return counts

    def encoded(
        self, files: Sequence[TextFile], text_format: TextFormat, dictionary: Dictionary
    ) -> dict[TextFile, EncodedText]:
        """The ids of the files; all their problems together.

        Raises:
            UserError: a file cannot be read, or has items that a dictionary without `<unk>` does not know.
        """
        entries = {file: self._entry(file, text_format, dictionary) for file in files}
        missing = {entry: file for file, entry in entries.items() if not self._is_there(entry, file)}
        if missing:
            self._each(missing, lambda entry, file: self._encode(entry, file, text_format, dictionary))
        self.checked.save()
        return {file: open_encoded(entry, file.name) for file, entry in entries.items()}

    def uncounted(self, files: Sequence[TextFile], text_format: TextFormat) -> list[TextFile]:
        """Which of the files `counts` would read."""
        return [file for file in files if not self._counts(file, text_format).exists()]

    def unencoded(self, files: Sequence[TextFile], text_format: TextFormat, dictionary: Dictionary) -> list[TextFile]:
        """Which of the files `encoded` would read, if no entry is damaged."""
        return [file for file in files if not self._entry(file, text_format, dictionary).exists()]

    def hash_all(self, files: Iterable[TextFile]) -> None:
        """Learns the contents of the files, all at once; otherwise each is hashed when it is needed."""
        missing = {file: file for file in files if self._known_content(file) is None}
        self._each(missing, lambda _, file: self._hash(file), _WORTH_HASHING)

    # --- contents ---

    def _known_content(self, file: TextFile) -> str | None:
        if "://" in file.url:  # to hash it would be to transfer it once more
            self._contents[file] = _key(file.url, file.stamp)
            return self._contents[file]
        try:
            known = read_checked(self._content_record(file))
            self._contents[file], self._stamps[file] = known["sha256"], known["stamp"]
        except (OSError, ValueError):
            self._needs(May.MAKE)
            return None
        return self._contents[file]

    def _content_record(self, file: TextFile) -> Path:
        return self.cache_dir / f"content-{_key(file.url, file.stamp)}.json"

    def _content(self, file: TextFile) -> str:
        if file not in self._contents and self._known_content(file) is None:
            self._hash(file)
        return self._contents[file]

    def _hash(self, file: TextFile) -> None:
        try:
            status = os.stat(file.url)
            starts = range(0, max(1, status.st_size), _HASHED_BYTES)
            with closing(self._pool_for(file).map(hash_stretch, file.url, starts)) as digests:
                self._contents[file] = hashlib.sha256(b"".join(digests)).hexdigest()
        except OSError as error:
            raise UserError(f"{file.url} cannot be read: {error.strerror or error}.") from None
        self._stamps[file] = local_stamp(status)
        self._check_unchanged(file)
        record = {"sha256": self._contents[file], "stamp": self._stamps[file], "source": file.url}
        write_record(self._content_record(file), record, self.is_needed)

    def _check_unchanged(self, file: TextFile) -> None:
        """What was made of a file must not be kept under the name of what it held before."""
        if file in self._stamps and local_stamp(os.stat(file.url)) != self._stamps[file]:
            raise UserError(f"{file.url} was changed while it was read. Run the same command again.")

    # --- counts ---

    def _counts(self, file: TextFile, text_format: TextFormat) -> Path:
        return self.cache_dir / f"counts-{_key(self._content(file), *_values(text_format))}.json"

    def _known_counts(self, place: Path) -> Counter[str] | None:
        try:
            return Counter(read_checked(place))
        except (OSError, ValueError):
            self._needs(May.MAKE)
            return None

    def _count(self, place: Path, file: TextFile, text_format: TextFormat) -> Counter[str]:
        pieces = self._pieces(file, text_format)
        counts: Counter[str] = Counter()
        pool = self._pool_for(file)
        count = partial(count_piece, progress=self.progress) if pool is _HERE else count_piece
        with closing(pool.map(count, text_format, pieces)) as results:
            for piece, part in zip(pieces, results, strict=True):
                counts.update(part)
                self.advance(max(0, piece.size))
        self._check_unchanged(file)
        write_record(place, dict(sorted(counts.items())), self.is_needed)  # in one order, however it was counted
        return counts

    # --- ids ---

    def _entry(self, file: TextFile, text_format: TextFormat, dictionary: Dictionary) -> Path:
        return self.cache_dir / _key(self._content(file), *_values(text_format), dictionary.fingerprint)

    def _is_there(self, entry: Path, file: TextFile) -> bool:
        """Whether an entry is there and whole; one that is damaged is removed."""
        if not entry.exists():
            self._needs(May.MAKE)
            return False
        before = state(entry)
        encoded = open_encoded(entry, file.name)
        if encoded and self.checked.holds(entry):
            return True
        self._needs(May.CHECK)
        if encoded and is_whole(encoded):
            self.checked.add(entry, before)
            return True
        self._needs(May.MAKE)
        log.warning("The cache of %s in %s is damaged and is built again", file.name, entry)
        shutil.rmtree(entry)
        return False

    def _encode(self, entry: Path, file: TextFile, text_format: TextFormat, dictionary: Dictionary) -> None:
        unfinished = self.cache_dir / unfinished_name(entry.name)
        try:
            unfinished.mkdir(parents=True, exist_ok=True)
            with claimed(unfinished):
                self._write(unfinished, file, text_format, dictionary)
                written = state(unfinished)
                try:
                    unfinished.rename(entry)
                    self.checked.add(entry, written)
                except OSError:
                    if open_encoded(entry, file.name) is None:  # else another run was first, with the same content
                        raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _write(self, folder: Path, file: TextFile, text_format: TextFormat, dictionary: Dictionary) -> None:
        pieces = self._pieces(file, text_format)
        tasks = [(piece, folder / str(number)) for number, piece in enumerate(pieces)]
        with closing(self._pool_for(file).map(encode_piece, (text_format, dictionary), tasks)) as results:

            def finished() -> Iterator[tuple[Path, EncodedPiece]]:
                for (piece, place), result in zip(tasks, results, strict=True):
                    self.advance(max(0, piece.size))
                    yield place, result

            join_pieces(folder, file, dictionary, finished())
        self._check_unchanged(file)

    # --- work ---

    def _needs(self, level: May) -> None:
        if self.may < level:
            raise NotThere

    def _pool_for(self, file: TextFile) -> Pool:
        """Stores may be known to this process only, and are waited for more than worked at."""
        return _HERE if "://" in file.url else self._used

    def _pieces(self, file: TextFile, text_format: TextFormat) -> list[TextFile]:
        if text_format.encoding:
            return [file]
        try:
            return cut_pieces(file, text_format.document_delimiter, PIECE_BYTES)
        except OSError as error:
            raise UserError(f"{file.url} cannot be read: {error.strerror or error}.") from None

    def _each(
        self, items: Mapping[Item, TextFile], work: Callable[[Item, TextFile], Result], worth: int | None = None
    ) -> dict[Item, Result]:
        """The results of all; all their problems together, in the order of the items.

        Args:
            worth: how many bytes are worth the start of processes, if that is not `_WORTH_STARTING`.
        """
        worth = _WORTH_STARTING if worth is None else worth
        if isinstance(self.pool, Processes) and sum(max(0, file.size) for file in items.values()) >= worth:
            return self._at_once(self.pool, items, work)
        results, problems = {}, []
        for item, file in items.items():
            try:
                results[item] = work(item, file)
            except UserError as error:
                problems += error.problems
        raise_if_any(problems)
        return results

    def _at_once(
        self, pool: Processes, items: Mapping[Item, TextFile], work: Callable[[Item, TextFile], Result]
    ) -> dict[Item, Result]:
        """In threads, which wait for processes; whatever ends this one's waiting ends them all."""
        threads = ThreadPoolExecutor(2 * pool.count, thread_name_prefix="prepare a file")
        self._used = pool
        try:
            futures = {item: threads.submit(work, item, file) for item, file in items.items()}
            problems = []
            for future in as_completed(futures.values()):
                if isinstance(error := future.exception(), UserError) and not isinstance(error, ProcessEnded):
                    continue
                future.result()
            for future in futures.values():
                if isinstance(error := future.exception(), UserError):
                    problems += error.problems
            raise_if_any(problems)
            return {item: future.result() for item, future in futures.items()}
        except BaseException:
            pool.close()
            raise
        finally:
            self._used = _HERE
            threads.shutdown(wait=True, cancel_futures=True)


def hash_stretch(url: str, start: int) -> bytes:
    """The hash of some of a local file's bytes."""
    digest, left = hashlib.sha256(), _HASHED_BYTES
    with open(url, "rb") as file:
        file.seek(start)
        while data := file.read(min(left, 1 << 20)):
            digest.update(data)
            left -= len(data)
    return digest.digest()


def _values(text_format: TextFormat) -> list[str]:
    values = [text_format.level, text_format.document_delimiter, text_format.errors]
    return [*values, f"encoding {text_format.encoding}"] if text_format.encoding else values


def _key(*parts: str) -> str:
    return hashlib.sha256(json.dumps([FORMAT, *parts]).encode()).hexdigest()[:24]


def count_items(
    file: TextFile, text_format: TextFormat, cache_dir: Path, progress: Callable[[int], None] = lambda _: None
) -> Counter[str]:
    """How often each item occurs in a file; counted once, then taken from the cache, if that takes anything."""
    return TextCache(cache_dir, progress=progress, is_needed=False).counts([file], text_format)


def encode_file(file: TextFile, text_format: TextFormat, dictionary: Dictionary, cache_dir: Path) -> EncodedText:
    """Encodes a file, or finds it encoded in the cache.

    Raises:
        UserError: the file cannot be read, or has items that a dictionary without `<unk>` does not know.
    """
    return TextCache(cache_dir).encoded([file], text_format, dictionary)[file]
