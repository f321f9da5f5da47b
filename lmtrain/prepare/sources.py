"""What people have → documents: text files, JSON Lines and Parquet, compressed or not, at any fsspec URL."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import infer_compression

from lmtrain.corpus import TextFile, document_blocks, read_text
from lmtrain.errors import UserError, raise_if_any

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
_SURROGATES = re.compile("[\ud800-\udfff]")  # half characters, which JSON can write and UTF-8 cannot
_READ_BYTES = 8 << 20
_LONGEST = 64 << 20  # bytes or characters of one document: what bounds the memory


@dataclass(frozen=True)
class Source:
    """A file that documents are read from.

    Args:
        url: where it is.
        format: "text", "jsonl" or "parquet".
        size: bytes as stored; None if the server doesn't say.
        local: whether it is a file of this machine's file system.
    """

    url: str
    format: str
    size: int | None
    local: bool


@dataclass(frozen=True)
class Block:
    """The documents of a source that begin in a range of bytes; all of them if `stop` is None."""

    source: Source
    start: int = 0
    stop: int | None = None


def find_sources(inputs: Iterable[str | Path], format: str = "auto") -> list[Source]:
    """Finds the files that paths, patterns, folders (and the folders in them) and fsspec URLs name, each once.

    Args:
        format: "text", "jsonl" or "parquet"; "auto" goes by the names' endings.

    Raises:
        UserError: every input that names no file, or cannot be looked at.
    """
    problems: list[str] = []
    found: dict[str, Source] = {}
    for place in map(str, inputs):
        try:
            for source in _find(place, format):
                found.setdefault(source.url, source)
        except UserError as error:
            problems += error.problems
        except (OSError, ValueError, ImportError) as error:
            problems.append(f"{place} cannot be read: {error}.")
    raise_if_any(problems)
    return sorted(found.values(), key=lambda source: source.url)


def _find(place: str, format: str) -> Iterator[Source]:
    filesystem, path = url_to_fs(os.path.expanduser(place))
    local = isinstance(filesystem, LocalFileSystem)
    web = urlsplit(place).scheme in ("http", "https")  # where a page with links in it would pass for a folder
    if filesystem.isfile(path) if not web else "*" not in path:
        files = [path]
    elif not web and filesystem.isdir(path):
        files = [file for file in filesystem.find(path) if not _is_hidden(file[len(path) :])]
        if not files:
            raise UserError(f"The folder {place} has no files.")
    else:
        files = [file for file in filesystem.glob(path) if filesystem.isfile(file)]
        if not files:
            raise UserError(
                f"{place} does not exist: it is neither a file nor a folder, nor a pattern that matches a file."
            )
    for file in files:
        url = file if local else filesystem.unstrip_protocol(file)
        size = filesystem.info(file).get("size")
        if size != 0:
            yield Source(url, _format_of(file) if format == "auto" else format, size, local)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(path.lstrip("/")).parts)


def _format_of(path: str) -> str:
    suffixes = PurePosixPath(urlsplit(path).path if "://" in path else path).suffixes
    return next((FORMATS[suffix.lower()] for suffix in reversed(suffixes[-2:]) if suffix.lower() in FORMATS), "text")


def cut_blocks(source: Source, split_at: str, block_size: int) -> list[Block]:
    """The pieces of a source that can be read independently: ranges of lines of a plain local file, else all of it."""
    lines = source.format == "jsonl" or (source.format == "text" and split_at == "\n")
    if not (source.local and lines and infer_compression(source.url) is None):
        return [Block(source)]
    return [Block(source, start, start + block_size) for start in range(0, source.size, block_size)]


def hash_file(url: str, copy_to: Path | None = None) -> tuple[int, str]:
    """The size and the SHA-256 of a file as stored; on request it is copied on the way."""
    digest, size = hashlib.sha256(), 0
    with fsspec.open(url, "rb") as stream, open(copy_to or os.devnull, "wb") as copy:
        while data := stream.read(_READ_BYTES):
            size += len(data)
            digest.update(data)
            if copy_to:
                copy.write(data)
    return size, digest.hexdigest()


def read_block(block: Block, field: str, split_at: str, errors: str) -> Iterator[list[str]]:
    """The documents of a block of a local file, in pieces of bounded size.

    Args:
        field: which field of a JSON record or Parquet row is the document.
        split_at: what separates the documents of a text.
        errors: "strict" or "replace", for bytes that are not UTF-8.

    Raises:
        UserError: the file is not what its format says; names the place.
    """
    source = block.source
    if source.format == "parquet":
        yield from _read_parquet(source, field)
        return
    delimiter = split_at if source.format == "text" else "\n"
    if block.stop is None:
        file = TextFile(source.url, source.url, source.size or 0, "")
        pieces = _whole_documents(document_blocks(read_text(file, errors), delimiter), delimiter, source.url)
    else:
        pieces = iter([_read_lines(block, errors).split("\n")])
    if source.format == "text":
        yield from pieces
    else:
        for lines in pieces:
            yield _records(lines, field, source.url)


def _read_lines(block: Block, errors: str) -> str:
    """The text of the lines that begin in a range of bytes."""
    url = block.source.url
    try:
        with open(url, "rb") as file:
            begin, end = (_next_line(file, place, url) for place in (block.start, block.stop))
            file.seek(begin)
            text = file.read(end - begin).decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{url}: byte 0x{error.object[error.start]:02x} at offset {begin + error.start} is not UTF-8 "
            f"({error.reason}). Convert the file (iconv -f OLD -t utf-8), or read it with --errors replace."
        ) from None
    except OSError as error:
        raise UserError(f"{url} cannot be read: {error.strerror}.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _next_line(file, place: int, url: str) -> int:
    """Where the first line begins that begins at `place` or later."""
    if place == 0:
        return 0
    file.seek(place - 1)
    line = file.readline(_LONGEST)
    if len(line) == _LONGEST and not line.endswith(b"\n"):
        raise _too_long(url)
    return file.tell()


def _too_long(url: str) -> UserError:
    return UserError(
        f"{url}: no document ends within {_LONGEST >> 20} MiB. Name what separates its documents with --split-at, "
        "or its format with --format."
    )


def _whole_documents(blocks: Iterable[list[str]], delimiter: str, url: str) -> Iterator[list[str]]:
    """Documents without their delimiters; one that comes in several pieces is put together."""
    held: list[str] = []
    for documents in blocks:
        held.append(documents[0])
        if documents[0].endswith(delimiter):
            documents[0], held = "".join(held), []
        else:
            documents = []
        if len(documents) > 1 and not documents[-1].endswith(delimiter):
            held.append(documents.pop())
        if sum(map(len, held)) > _LONGEST:
            raise _too_long(url)
        if documents:
            yield [document[: -len(delimiter)] for document in documents]


def _records(lines: Sequence[str], field: str, url: str) -> list[str]:
    documents = []
    for line in lines:
        if not line or line.isspace():
            continue
        try:
            record = json.loads(line.removeprefix("\ufeff"))
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{url}: a line is not JSON ({error}): {_beginning(line)}. Mend it, or use --format text."
            ) from None
        if not isinstance(record, dict):
            raise UserError(
                f"{url}: a line is no JSON object: {_beginning(line)}. Each must be one with a field {field!r}."
            )
        document = record.get(field, record)
        if document is record:
            raise UserError(
                f"{url}: a record has no field {field!r}, only {', '.join(record)}: choose one with --field."
            )
        if document is not None:
            text = _text_of(document, field, url)
            documents.append(_SURROGATES.sub("\ufffd", text) if "\\ud" in line or "\\uD" in line else text)
    return documents


def _text_of(value, field: str, url: str) -> str:
    if isinstance(value, str):
        return value
    raise UserError(f"{url}: the field {field!r} holds {_beginning(repr(value))}, not a text. Choose one with --field.")


def _beginning(text: str) -> str:
    return text[:60] + ("..." if len(text) > 60 else "")


def _read_parquet(source: Source, field: str) -> Iterator[list[str]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UserError(f"{source.url}: Parquet needs pyarrow. Install it: pip install 'lmtrain[prepare]'.") from None
    try:
        with ParquetFile(source.url) as file:
            names = file.schema_arrow.names
            if field not in names:
                raise UserError(
                    f"{source.url} has no column {field!r}, only {', '.join(names)}: choose one with --field."
                )
            for batch in file.iter_batches(batch_size=4096, columns=[field], use_threads=False):
                values = batch.column(0).to_pylist()
                yield [_text_of(value, field, source.url) for value in values if value is not None]
    except (ArrowException, OSError) as error:
        raise UserError(f"{source.url} cannot be read as Parquet: {error}.") from None
