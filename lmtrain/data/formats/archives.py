"""Archives (tar, zip): every file in them is recognised and read by itself."""

import gzip
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import IO, BinaryIO

import zstandard

from lmtrain.data.formats.reader import Reader, Tally, Wanted, beginning
from lmtrain.data.formats.streams import as_file
from lmtrain.errors import UserError

SIDE_FILE = re.compile(
    r"(?:readme|licen[cs]e|copying|copyright|notice)(?:[._-][\w-]*)?(?:\.(?:txt|md|rst|html))?"
    r"|info|dataset_infos?\.json|dataset_dict\.json|state\.json|thumbs\.db|\.ds_store",
    re.IGNORECASE,
)
"""Names of files that accompany texts and are none."""
_PAIR = re.compile(
    r"(.*\.([A-Za-z_]{2,8})-([A-Za-z_]{2,8})\.)([A-Za-z_]{2,8})((?:\.(?:gz|bz2|xz|zst))?)"
)  # OPUS: Europarl.de-en.de

ReadMember = Callable[[IO[bytes], str, str, Wanted, Tally], Iterator[list[str]]]
"""Reads a file in an archive: its content, its place for messages, its name; `read_member` of the registry."""


class _Archive(Reader):
    def __init__(self, read: ReadMember) -> None:
        self._read = read

    def _members(self, stream: BinaryIO) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
        raise NotImplementedError

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        try:
            for name, open_member in self._members(stream):
                if reason := not_a_text(name, place, wanted.language):
                    tally.leave_out(reason, beginning(name))
                    continue
                try:
                    with open_member() as member:
                        yield from self._read(member, f"{place}: {name}", name, wanted, tally)
                except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, gzip.BadGzipFile) as error:
                    raise UserError(f"{place}: {name} cannot be decompressed: {error}.") from None
        except (tarfile.TarError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            is_locked = "encrypted" in str(error)
            remedy = " Unpack it first, with its password: 7z x." if is_locked else ""
            what = "a file in it is encrypted" if is_locked else str(error)
            raise UserError(f"{place} cannot be read as {self.title}: {what}.{remedy}") from None


def not_a_text(name: str, place: str, language: str | None) -> str | None:
    """Why a file in an archive or folder is left out by its name; None if it is not.

    Args:
        name: of the file in there.
        place: of the archive or folder, for messages.

    Raises:
        UserError: the file is one of a pair in two languages, and no language is chosen.
    """
    path, pair = PurePosixPath(name), _PAIR.fullmatch(name)
    if SIDE_FILE.fullmatch(path.name) or any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
        return "a file beside the texts"
    if pair and pair[4] in ("ids", "scores"):
        return "a file of numbers beside the texts"
    if pair and pair[4] in pair.group(2, 3):
        if language is None:
            raise UserError(f"{place} has texts in {pair[2]} and {pair[3]}: choose one with --language.")
        if _same(pair[4]) != _same(language):
            return "a text in another language"
    return None


def pair_of(name: str) -> set[str]:
    """The names of both texts of a pair in two languages, if the file is one of them or has numbers about them."""
    pair = _PAIR.fullmatch(name)
    if pair is None or pair[4] not in (*pair.group(2, 3), "ids", "scores"):
        return set()
    return {pair[1] + language + pair[5] for language in pair.group(2, 3)}


def _same(language: str) -> str:
    return language.casefold().replace("_", "-")


class Tar(_Archive):
    name, title = "tar", "a tar archive"
    is_text = False

    def recognises(self, head: bytes, name: str) -> bool:
        if head[257:262] == b"ustar":
            return True
        if len(head) < 512 or not head[0] or b"\0" not in head[:100]:
            return False
        try:  # the oldest form of tar has a checksum instead of a mark
            tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
            return True
        except tarfile.TarError:
            return False

    def _members(self, stream: BinaryIO) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, partial(archive.extractfile, member)


class Zip(_Archive):
    name, title = "zip", "a zip archive"
    is_text = False

    def recognises(self, head: bytes, name: str) -> bool:
        return head.startswith((b"PK\3\4", b"PK\5\6"))

    def _members(self, stream: BinaryIO) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
        with as_file(stream) as stored, zipfile.ZipFile(stored) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    yield member.filename, partial(archive.open, member)
