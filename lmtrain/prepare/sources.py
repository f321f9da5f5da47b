"""Inputs → sources → blocks → documents: finds the files that inputs name, cuts them into blocks, and reads a block.

Inputs are paths, patterns, folders and fsspec URLs of every format that `lmtrain.data.formats` reads.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from lmtrain.data.formats.archives import SIDE_FILE, not_a_text, pair_of
from lmtrain.data.formats.encodings import encoding_of, not_utf8
from lmtrain.data.formats.lines import LineReader
from lmtrain.data.formats.markup import Html
from lmtrain.data.formats.mediawiki import MediaWiki
from lmtrain.data.formats.reader import LONGEST, Reader, Tally, Wanted, too_long
from lmtrain.data.formats.registry import READERS, SAYS_ITS_ENCODING, reader_of, text_of
from lmtrain.data.formats.stores import WEB, kind_of, protocol_of, reason, store_of, stored
from lmtrain.data.formats.streams import compression, decompressed, peeked, place_in
from lmtrain.errors import UserError, raise_if_any

_READ_BYTES = 8 << 20
_NO_PAGE = re.compile(
    r"\.(?:gz|bz2|xz|zst|zip|tar|tgz|parquet|arrow|jsonl?|csv|tsv|xml|txt|conllu?|tmx|warc)$", re.IGNORECASE
)


@dataclass(frozen=True)
class Source:
    """A file that documents are read from.

    Args:
        url: the path of a local file, else the fsspec URL.
        format: the name of its reader.
        size: bytes as stored; None if the server doesn't say.
        local: whether the file is in this machine's file system.
        compression: as fsspec names it; None for none.
        encoding: of the text, as Python names it; None for UTF-8.
    """

    url: str
    format: str
    size: int | None
    local: bool
    compression: str | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class Block:
    """The documents of a source that begin in a range of bytes; all of them if `stop` is None."""

    source: Source
    start: int = 0
    stop: int | None = None


def find_sources(
    inputs: Iterable[str | Path], format: str = "auto", encoding: str | None = None, language: str | None = None
) -> tuple[list[Source], list[str]]:
    """Finds the files that paths, patterns, folders (and the folders in them) and fsspec URLs name, each once.

    Args:
        format: a reader's name; "auto" goes by the content.
        encoding: of text without a byte-order mark; None for UTF-8.
        language: of pairs of texts in folders, the one that is read.

    Returns:
        the files; and the names of those in folders that are no texts but lie beside them, such as licences.

    Raises:
        UserError: every input that names no file, cannot be looked at, or holds nothing that is read here.
    """
    problems: list[str] = []
    found: dict[str, Source | None] = {}
    beside: set[str] = set()
    for place in map(str, inputs):
        try:
            filesystem, paths = _find(place, beside, language)
        except UserError as error:
            problems += error.problems
            continue
        except Exception as error:  # every kind of remote store has exceptions of its own
            problems.append(f"{place} cannot be read: {reason(error, protocol_of(place))}.")
            continue
        for path in paths:
            is_local = isinstance(filesystem, LocalFileSystem)
            url = path if is_local else filesystem.unstrip_protocol(path)
            file = os.path.realpath(path) if is_local else url  # of several names of a file the first is read
            try:
                found[file] = found[file] if file in found else _source(filesystem, path, url, format, encoding)
            except UserError as error:
                problems += error.problems
            except Exception as error:  # every decompressor and every kind of remote store has exceptions of its own
                problems.append(f"{url} cannot be read: {reason(error, protocol_of(url))}.")
    raise_if_any(problems)
    return sorted(filter(None, found.values()), key=lambda source: source.url), sorted(beside)


def _find(place: str, beside: set[str], language: str | None) -> tuple[fsspec.AbstractFileSystem, list[str]]:
    """The paths of the files that an input names."""
    filesystem, path = store_of(place)
    filesystem.invalidate_cache()  # of what it remembers of earlier questions
    web = protocol_of(place) in WEB
    if web:  # the server is not asked: it would take any page with links in it for a folder
        kind = None if "*" in path else "file"
    else:
        kind = kind_of(filesystem, path)
    if kind == "file":
        return filesystem, [path]
    is_folder = kind == "directory"
    if is_folder:
        files, base = filesystem.find(path), path
    else:
        files = [file for file in filesystem.glob(path) if not (web and "?" in file) and filesystem.isfile(file)]
        base = re.split(r"[*?[]", path, maxsplit=1)[0].rpartition("/")[0]
    if is_folder or not _is_hidden(path[len(base) :]):
        files = [file for file in files if not _is_hidden(file[len(base) :])]
    texts = [file for file in files if not SIDE_FILE.fullmatch(PurePosixPath(file).name)]
    texts = _in_language(texts, place, language)
    if texts or is_folder:
        beside.update(set(files) - set(texts))
        files = texts
    if not files:
        raise UserError(
            f"The folder {place} has no files."
            if is_folder
            else f"{place} does not exist: it is neither a file nor a folder, nor a pattern that matches a file."
        )
    return filesystem, files


def _in_language(files: list[str], place: str, language: str | None) -> list[str]:
    """The files without the texts in the other language of pairs, and without the numbers about pairs."""
    all_files = set(files)
    kept = []
    for file in files:
        pair = pair_of(file)
        is_paired = bool(pair) and pair <= all_files
        if not (is_paired and not_a_text(PurePosixPath(file).name, place, language)):
            kept.append(file)
    return kept


def _source(
    filesystem: fsspec.AbstractFileSystem, path: str, url: str, format: str, encoding: str | None
) -> Source | None:
    """A file, recognised by its beginning; None if it is empty."""
    local, size = isinstance(filesystem, LocalFileSystem), filesystem.info(path).get("size")
    begin = head = b""
    with stored(url) as stream:
        begin, stream = peeked(stream, 16)
        try:
            head, _ = peeked(decompressed(stream))
        except UserError:
            raise
        except Exception:  # every decompressor has its own; the task that reads the whole file reports it
            head = b""
    if not begin:
        return None
    reader = reader_of(head, url, format, encoding)
    if (
        format == "auto"
        and reader.name == Html.name
        and protocol_of(url) in WEB
        and _NO_PAGE.search(urlsplit(url).path)
    ):
        raise UserError(
            f"{url} is a web page, though its name is that of another file: the server may want a login, or have no "
            "such file. Get it with your browser, and give the file; if the page is what you want: --format html."
        )
    written_in = None if reader.name in SAYS_ITS_ENCODING else encoding_of(head, url, encoding)
    return Source(url, reader.name, size, local, compression(begin), written_in)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(path.lstrip("/")).parts)


def cut_blocks(source: Source, wanted: Wanted, block_size: int) -> list[Block]:
    """The pieces of a source that can be read independently.

    A plain local file of which each line is read by itself is cut between lines, a MediaWiki dump that is plain or
    compressed in several bzip2 streams between pages. Every other source is one block.
    """
    by_lines = source.compression is None and source.encoding is None and READERS[source.format].cuts_lines(wanted)
    by_pages = source.format == MediaWiki.name and source.compression in (None, "bzip2")
    if not (source.local and (by_lines or by_pages)):
        return [Block(source)]
    return [Block(source, start, start + block_size) for start in range(0, source.size, block_size)]


def hash_file(url: str, copy_to: Path | None = None) -> tuple[int, str]:
    """The size in bytes and the SHA-256 of a file as stored; with `copy_to` the file is copied in the same pass."""
    digest, size = hashlib.sha256(), 0
    with stored(url) as stream, open(copy_to or os.devnull, "wb") as copy:
        while data := stream.read(_READ_BYTES):
            size += len(data)
            digest.update(data)
            if copy_to:
                copy.write(data)
    return size, digest.hexdigest()


def read_block(
    block: Block, wanted: Wanted, tally: Tally, progress: Callable[[int], None] = lambda _: None
) -> Iterator[list[str]]:
    """The documents of a block of a local file, in pieces of bounded size.

    Args:
        tally: counts the documents, and what is passed over with the reason.
        progress: called with how many bytes, as stored, have been read; only for a block that is a whole file.

    Raises:
        UserError: the content is not in the source's format; the message names the place.
    """
    reader, url = READERS[block.source.format], block.source.url
    if block.stop is None:
        with stored(url) as stream:
            documents = _documents(reader, decompressed(stream), url, wanted, tally)
            for some in _tallied(documents, block, wanted, tally):
                progress(place_in(stream))
                yield some
    elif isinstance(reader, MediaWiki):
        yield from _tallied(reader.documents_between(url, block.start, block.stop, wanted, tally), block, wanted, tally)
    elif isinstance(reader, LineReader):
        lines = _read_lines(block, wanted.errors).split("\n")
        yield from _tallied(iter([reader.of_lines(lines, wanted, tally)]), block, wanted, tally)


def _documents(reader: Reader, stream: BinaryIO, url: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
    yield from reader.documents(text_of(stream, reader, url, wanted), url, wanted, tally)


def _tallied(pieces: Iterator[list[str]], block: Block, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
    try:
        for documents in pieces:
            tally.used += len(documents) - documents.count("")
            if wanted.errors == "replace":
                tally.replaced += sum(document.count("\ufffd") for document in documents)
            yield documents
    except (UserError, OSError):
        raise
    except Exception as error:  # every decompressor and every library of a format has exceptions of its own
        raise UserError(f"{block.source.url} cannot be read: {error}.") from None


def _read_lines(block: Block, errors: str) -> str:
    """The text of the lines that begin in a range of bytes."""
    url = block.source.url
    try:
        with open(url, "rb") as file:
            begin, end = (_next_line(file, place, url) for place in (block.start, block.stop))
            file.seek(begin)
            text = file.read(end - begin).decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise not_utf8(url, error, begin) from None
    except OSError as error:
        raise UserError(f"{url} cannot be read: {error.strerror}.") from None
    text = text.removeprefix("\ufeff") if begin == 0 else text
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _next_line(file, place: int, url: str) -> int:
    """The first byte offset at or after `place` at which a line begins."""
    if place == 0:
        return 0
    file.seek(place - 1)
    line = file.readline(LONGEST)
    if len(line) == LONGEST and not line.endswith(b"\n"):
        raise too_long(url)
    return file.tell()
