"""Finds the files of a corpus folder, refuses what is no plain text, and reads their text as documents."""

import glob
import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import BinaryIO
from urllib.parse import urlsplit

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from lmtrain.data.cache.manifest import are_as_prepared
from lmtrain.data.cache.stamps import local_stamp, remote_stamp
from lmtrain.data.formats.reader import Reader
from lmtrain.data.formats.registry import READERS, recognise
from lmtrain.data.formats.stores import kind_of, protocol_of, reason, store_of, stored
from lmtrain.data.formats.streams import Stretch, decoded, decompressed, in_utf8, opened, peeked, place_in
from lmtrain.errors import UserError, raise_if_any
from lmtrain.program.command import script

_LONGEST_TAIL = 1 << 20  # characters of an unfinished document that are held back


@dataclass(frozen=True)
class TextFile:
    """A file of text, plain or compressed (gzip, bzip2, xz, zstd), local or at any fsspec URL.

    Args:
        url: where it is.
        name: its place within the corpus, for messages.
        size: bytes as stored.
        stamp: changes when the file does: size, times and number, or what the remote store says of it.
        stretch: which bytes of a local, uncompressed file are meant; None for all. See `cut_pieces`.
    """

    url: str
    name: str
    size: int
    stamp: str
    stretch: tuple[int, int] | None = None


@dataclass(frozen=True)
class Corpus:
    """The files to train on, each a split or more, and to validate and test on, each a text in one or more files."""

    path: str
    train: tuple[TextFile, ...]
    valid: tuple[TextFile, ...]
    test: tuple[TextFile, ...]

    def files(self) -> Iterator[TextFile]:
        yield from self.train
        yield from self.valid
        yield from self.test


def find_corpus(
    path: str,
    train: str = "train",
    valid: str = "valid",
    test: str = "test",
    format: str = "auto",
    encoding: str | None = None,
) -> Corpus:
    """Finds the files of a corpus folder, and looks at their beginnings.

    Args:
        path: the folder, or an fsspec URL of one.
        train, valid, test: where in the folder: the name of a folder, of a file with or without `.txt` and a
            compression's ending, or a pattern like `news.en-*`. Names that begin with a dot are passed over.
        format: "auto" refuses what is recognised as no plain text, unless scripts/prepare_corpus.py wrote it as that;
            "text" takes all for text.
        encoding: of text without a byte-order mark; None for UTF-8.

    Raises:
        UserError: all that is wrong: no folder, a part that is missing or has no files, a folder or something
            unreadable among the files, an empty file, one that is no plain text.
    """
    filesystem, root, problem = _open_folder(path)
    if problem:
        raise UserError(
            f"data.path={path} {problem}. It must be a folder with train/ (any number of text files), valid.txt and "
            "test.txt; scripts/prepare_corpus.py makes one from raw text."
        )
    problems: list[str] = []
    parts = {
        part: _find_part(filesystem, root, path, part, name, problems)
        for part, name in (("train", train), ("valid", valid), ("test", test))
    }
    corpus = Corpus(path, **parts)
    if format == "auto":
        found = {file.name: no_plain_text(file, encoding) for file in corpus.files()}
        odd = {name: problem for name, problem in found.items() if problem}
        prepared = are_as_prepared(path, odd) if odd else set()
        problems += [problem for name, problem in odd.items() if name not in prepared]
    raise_if_any(problems)
    return corpus


def _open_folder(path: str) -> tuple[AbstractFileSystem, str, str | None]:
    """The file system of a corpus, the folder's path in it, and why it is no folder, or None."""
    try:
        filesystem, root = store_of(path)
        filesystem.invalidate_cache()  # fsspec keeps listings of folders, which may have changed since
        if filesystem.isdir(root):
            return filesystem, root, None
        return filesystem, root, "does not exist" if kind_of(filesystem, root) is None else "is not a folder"
    except UserError as error:
        raise UserError(f"data.path={error}") from None
    except Exception as error:  # every kind of remote store has exceptions of its own
        raise UserError(f"data.path={path} cannot be opened: {reason(error, protocol_of(path))}.") from None


def no_plain_text(file: TextFile, encoding: str | None = None) -> str | None:
    """Why a file is not plain text, judged by its first bytes, and what to do; None if it is."""
    try:
        with opened(file.url) as stream:
            found = recognise(peeked(stream)[0], file.url, encoding)
    except UserError as error:
        return str(error)
    except Exception:  # each decompressor and store has its own; reading the whole file reports it
        return None
    if found is READERS["text"]:
        return None
    remedy = (
        f"Make a corpus of it: {script('prepare_corpus')} {shlex.quote(file.url)} --output FOLDER"
        if isinstance(found, Reader)
        else found.remedy.format(file=shlex.quote(file.url))
    )
    as_it_is = ", or read it as it is: data.format=text (scripts: --format text)" if found.is_text else ""
    return f"{file.url} is {found.title}, not plain text. {remedy}{as_it_is}."


def _find_part(filesystem, root: str, path: str, part: str, name: str, problems: list[str]) -> tuple[TextFile, ...]:
    place = f"{root.rstrip('/')}/{name}"
    is_pattern = glob.has_magic(name)
    if is_pattern:
        found = filesystem.glob(f"{glob.escape(root.rstrip('/'))}/{name}")
    elif _is_folder(filesystem, place):
        found = [item for item in filesystem.ls(place, detail=False) if _is_in(item, place)]
    elif filesystem.exists(place):
        found = [place]
    else:
        found = filesystem.glob(f"{glob.escape(place)}.txt*")
    found = sorted(item for item in found if not PurePosixPath(item).name.startswith("."))
    if not found:
        state = f"{name}/ has no files" if _is_folder(filesystem, place) else f"there is no {name}"
        if is_pattern:
            expected = f"files whose names match {name}"
        elif part == "train":
            expected = f"{name}/ with text files; scripts/prepare_corpus.py makes such a folder from raw text"
        else:
            expected = f"{name}.txt or a folder {name}/ with text files"
        problems.append(f"{path}: {state} for data.{part}={name}. It must have {expected}.")
    if part != "train" and len(found) > 1 and not _is_folder(filesystem, place) and not is_pattern:
        names = ", ".join(PurePosixPath(item).name for item in found)
        problems.append(f"{path}: several files could be data.{part}={name}: {names}. Name one of them in full.")
    return tuple(filter(None, (_check_file(filesystem, root, item, problems) for item in found)))


def _is_folder(filesystem: AbstractFileSystem, path: str) -> bool:
    """Whether a path is a folder; over HTTP, a name with a dot is none.

    To find out, fsspec would download the file, and takes any page with links in it for a folder.
    """
    if "http" in filesystem.protocol and "." in PurePosixPath(urlsplit(path).path).name:
        return False
    return filesystem.isdir(path)


def _is_in(item: str, folder: str) -> bool:
    """Whether an item of a listing is directly in the folder: a web server may list links to other places."""
    name = item.rstrip("/")[len(folder.rstrip("/")) + 1 :]
    return item.startswith(folder) and bool(name) and not set(name) & set("/?#" if "://" in item else "/")


def in_part(name: str, part: str) -> bool:
    """Whether `find_corpus(train=part)` takes a file of that name, names that begin with a dot aside."""
    if glob.has_magic(part):
        return fnmatchcase(name, part)
    return name == part or str(PurePosixPath(name).parent) == part or fnmatchcase(name, f"{glob.escape(part)}.txt*")


def _check_file(filesystem, root: str, item: str, problems: list[str]) -> TextFile | None:
    name = item[len(root.rstrip("/")) + 1 :]
    try:
        if _is_folder(filesystem, item):
            problems.append(
                f"{item} is a folder; only text files may be there. Move it away, or its files one folder up."
            )
            return None
        text_file = file_at(filesystem, item, name)
        if isinstance(filesystem, LocalFileSystem):
            if not os.path.isfile(item):
                problems.append(f"{item} is neither a file nor a folder. Remove it.")
                return None
            with open(item, "rb"):
                pass
        if text_file.size == 0:
            problems.append(f"{item} is empty. Remove it, or put text into it.")
        return text_file
    except UserError as error:
        problems += error.problems
    except Exception as error:  # every kind of remote store has exceptions of its own
        why = reason(error, protocol_of(item))
        problems.append(f"{item} cannot be read: {why}. Make it readable, or remove it.")
    return None


def file_at(filesystem, path: str, name: str) -> TextFile:
    """A file as its fsspec file system knows it; a store that does not know the size gives -1."""
    if isinstance(filesystem, LocalFileSystem):
        status = os.stat(path)
        return TextFile(path, name, status.st_size, local_stamp(status))
    info = filesystem.info(path)
    size = -1 if info.get("size") is None else info["size"]
    return TextFile(filesystem.unstrip_protocol(path), name, size, remote_stamp(filesystem, path, info))


def read_text(
    file: TextFile,
    errors: str = "strict",
    encoding: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[str]:
    """The text of a file in pieces of bounded size; `\\r\\n` and `\\r` become `\\n`, as when Flair reads it.

    A byte-order mark at the beginning is left out. (Flair trains on it.)

    Args:
        errors: "strict", or "replace" to read bytes that are not in the encoding as U+FFFD.
        encoding: of text without a byte-order mark; None for UTF-8.
        progress: called with the number of bytes read so far of the file as it is stored.

    Raises:
        UserError: the file cannot be read, or (strict) is not in the encoding: names the byte offset in the text
            (after decompression).
    """
    try:
        with stored(file.url) as stream:
            content: BinaryIO | Stretch
            if file.stretch is None:
                content, offset = in_utf8(decompressed(stream), file.url, encoding, errors), 0
            else:
                content, offset = Stretch(stream, *file.stretch), file.stretch[0]
            for piece in decoded(content, file.url, errors, offset):
                progress(place_in(stream))
                yield piece
    except UserError:
        raise
    except Exception as error:  # every decompressor and every kind of remote store has exceptions of its own
        raise UserError(f"{file.url} cannot be read: {getattr(error, 'strerror', None) or error}.") from None


def document_blocks(pieces: Iterable[str], delimiter: str, keep_whole: bool = False) -> Iterator[list[str]]:
    """Cuts text into documents: what is between two delimiters, if anything, with the delimiter at its end.

    As in Flair, empty documents are left out, and a last document without a delimiter gets one.

    Args:
        pieces: the text.
        delimiter: what ends a document.
        keep_whole: never cut a document, so that all of it is in memory; otherwise one of more than 2^20 characters
            comes in several pieces.

    Yields:
        documents, a block at a time. A string that does not end with the delimiter is the beginning of a document
        that continues in the next block.
    """
    tail, begun = "", False
    for piece in pieces:
        *ended, tail = (tail + piece).split(delimiter)
        documents = [document + delimiter for document in ended if document]
        if ended and begun:
            if not ended[0]:
                documents.insert(0, delimiter)
            begun = False
        if len(tail) > _LONGEST_TAIL and not keep_whole:
            cut = len(tail) - len(delimiter) + 1  # the tail may end with the beginning of a delimiter
            documents.append(tail[:cut])
            tail, begun = tail[cut:], True
        if documents:
            yield documents
    if tail or begun:
        yield [tail + delimiter]
