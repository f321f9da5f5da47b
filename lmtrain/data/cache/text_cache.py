"""The cache of a corpus: takes the counts and ids of files that are there, and makes the others, in several processes.

- `content-KEY.json`: the hash of a file's bytes; KEY is of its path and stamp (`stamps.py`).
- `counts-KEY.json`: how often each item occurs in a text; KEY is of its bytes and how they are read.
- `KEY/`: the ids of a text (`id_cache.py`); KEY is of the dictionary, too.
- `checked-HOST.json`: which of those entries were found undamaged on a host (`checked.py`).

Everything is written under another name and renamed when it is whole.
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
from lmtrain.program.files import atomic_folder
from lmtrain.program.pool import Here, Pool, ProcessEnded, Processes

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
_HASHED_BYTES = 64 << 20  # that one process hashes
_HERE = Here()
_WORTH_STARTING = 48 << 20  # bytes of text below which starting processes costs more than it saves
_WORTH_HASHING = 1 << 30  # likewise, of bytes that are only hashed


class May(IntEnum):
    """What a process may do for an entry that it needs; each level includes those before it."""

    LOOK = 0  # take entries that this host has found undamaged
    CHECK = 1  # read the other entries that are there, to find out
    MAKE = 2  # make those that are missing or damaged


class NotThere(Exception):
    """An entry must be checked or made, and `May` does not allow that."""


class TextCache:
    """Contents, counts and ids of files.

    Args:
        cache_dir: the folder of the cache.
        may: what may be done for an entry; `NotThere` is raised where that is not enough.
        pool: runs what reads text.
        advance: called with the number of bytes that were counted or encoded since the last call.
        progress: called with the number of bytes read so far of a file that this process counts.
        is_needed: raise `OSError` where a record cannot be written; otherwise it is only logged.
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
        self._used: Pool = _HERE  # `pool`, while there is enough to do
        self._contents: dict[TextFile, str] = {}
        self._stamps: dict[TextFile, str] = {}  # of local files, when they were hashed

    def counts(self, files: Sequence[TextFile], text_format: TextFormat) -> Counter[str]:
        """How often each item occurs in all the files together.

        Raises:
            UserError: files that cannot be read, all at once.
        """
        places = {file: self._counts(file, text_format) for file in files}
        found = {place: self._known_counts(place) for place in places.values()}
        missing = {place: file for file, place in places.items() if found[place] is None}
        if missing:
            found |= self._each(missing, lambda place, file: self._count(place, file, text_format), _WORTH_STARTING)
        counts: Counter[str] = Counter()
        for place in places.values():  # sum() would copy the counter for each file
            counts.update(found[place])
        return counts

    def encoded(
        self, files: Sequence[TextFile], text_format: TextFormat, dictionary: Dictionary
    ) -> dict[TextFile, EncodedText]:
        """The ids of each file.

        Raises:
            UserError: files that cannot be read or have items that a dictionary without `<unk>` lacks, all at once.
        """
        entries = {file: self._entry(file, text_format, dictionary) for file in files}
        missing = {entry: file for file, entry in entries.items() if not self._is_there(entry, file)}
        if missing:
            self._each(missing, lambda entry, file: self._encode(entry, file, text_format, dictionary), _WORTH_STARTING)
        self.checked.save()
        return {file: open_encoded(entry, file.name) for file, entry in entries.items()}

    def uncounted(self, files: Sequence[TextFile], text_format: TextFormat) -> list[TextFile]:
        """Which of the files `counts` would read."""
        return [file for file in files if not self._counts(file, text_format).exists()]

    def unencoded(self, files: Sequence[TextFile], text_format: TextFormat, dictionary: Dictionary) -> list[TextFile]:
        """Which of the files `encoded` would read; more, if entries are damaged."""
        return [file for file in files if not self._entry(file, text_format, dictionary).exists()]

    def hash_all(self, files: Iterable[TextFile]) -> None:
        """Hashes the files that were not hashed before, side by side; otherwise each is hashed when it is needed."""
        missing = {file: file for file in files if self._known_content(file) is None}
        self._each(missing, lambda _, file: self._hash(file), _WORTH_HASHING)

    # --- contents ---

    def _known_content(self, file: TextFile) -> str | None:
        if "://" in file.url:  # hashing would download it once more: the stamp has to do
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
        """Raises `UserError` if a file changed since it was hashed: its ids would get the name of the former text."""
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
        write_record(place, dict(sorted(counts.items())), self.is_needed)  # the same, however it was counted
        return counts

    # --- ids ---

    def _entry(self, file: TextFile, text_format: TextFormat, dictionary: Dictionary) -> Path:
        return self.cache_dir / _key(self._content(file), *_values(text_format), dictionary.fingerprint)

    def _is_there(self, entry: Path, file: TextFile) -> bool:
        """Whether an entry is there and undamaged; a damaged one is removed."""
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
        log.warning("%s, the cache of %s, is damaged: it is made again", entry, file.name)
        shutil.rmtree(entry)
        return False

    def _encode(self, entry: Path, file: TextFile, text_format: TextFormat, dictionary: Dictionary) -> None:
        with atomic_folder(entry) as unfinished:
            self._write(unfinished, file, text_format, dictionary)
            written = state(unfinished)
        self.checked.add(entry, written)

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
        """This process for a file in a store: others may lack its credentials, and the network is what takes time."""
        return _HERE if "://" in file.url else self._used

    def _pieces(self, file: TextFile, text_format: TextFormat) -> list[TextFile]:
        if text_format.encoding:
            return [file]
        try:
            return cut_pieces(file, text_format.document_delimiter, PIECE_BYTES)
        except OSError as error:
            raise UserError(f"{file.url} cannot be read: {error.strerror or error}.") from None

    def _each(
        self, items: Mapping[Item, TextFile], work: Callable[[Item, TextFile], Result], worth: int
    ) -> dict[Item, Result]:
        """The results for all items, in several processes if the files have at least `worth` bytes.

        Raises:
            UserError: the problems of all files, in the order of the items.
        """
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
        """Each item in a thread that waits for the pool's processes; an error other than a file's ends them all."""
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
    """The SHA-256 of up to `_HASHED_BYTES` bytes of a local file."""
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
    """How often each item occurs in a file; counted once, then taken from the cache, if that can be written."""
    return TextCache(cache_dir, progress=progress, is_needed=False).counts([file], text_format)


def encode_file(file: TextFile, text_format: TextFormat, dictionary: Dictionary, cache_dir: Path) -> EncodedText:
    """Encodes a file, or finds it encoded in the cache.

    Raises:
        UserError: the file cannot be read, or has items that a dictionary without `<unk>` does not know.
    """
    return TextCache(cache_dir).encoded([file], text_format, dictionary)[file]
