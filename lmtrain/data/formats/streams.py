"""Reads files the same way everywhere: stored bytes → decompressed content → text with `\\n` at line ends."""

import bz2
import codecs
import gzip
import io
import lzma
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO

import zstandard

from lmtrain.data.formats.encodings import encoding_of, not_utf8, recoded
from lmtrain.data.formats.stores import stored

HEAD_BYTES = 1 << 16  # by which a file's format is recognised
_READ_BYTES = 4 << 20
_DECODED_BYTES = 256 << 10  # at once, so that the text stays in the processor's cache
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Stretch:
    """The bytes from `start` to `stop` of a file."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file, self._left = file, stop - start
        file.seek(start)

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data


class _Pieces(io.RawIOBase):
    """Pieces of bytes as a stream."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._held = iter(pieces), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._held = memoryview(piece)
        count = min(len(buffer), len(self._held))
        buffer[:count], self._held = self._held[:count], self._held[count:]
        return count


def _read_on(stream: IO[bytes], size: int = _READ_BYTES) -> Iterator[bytes]:
    return iter(lambda: stream.read(size), b"")


def peeked(stream: Any, size: int = HEAD_BYTES) -> tuple[bytes, BinaryIO]:
    """The first bytes of a stream, and a stream that still begins with them."""
    is_plain = _is_plain_file(stream)
    start = stream.tell() if is_plain else 0  # standard input may have been read in part
    head = stream.read(size)
    while len(head) < size and (more := stream.read(size - len(head))):
        head += more
    if is_plain:
        stream.seek(start)
        return head, stream
    return head, io.BufferedReader(_Pieces(piece for part in ([head], _read_on(stream)) for piece in part))


def _is_plain_file(stream: IO[bytes]) -> bool:
    return isinstance(getattr(stream, "raw", None), io.FileIO) and stream.seekable()  # unlike a pipe


def compression(head: bytes) -> str | None:
    """How data that begins with `head` is compressed: "gzip", "bzip2", "xz", "zstd", or None."""
    name = next((name for magic, name in _COMPRESSIONS.items() if head.startswith(magic)), None)
    return None if name == "bzip2" and head[4:10] not in (b"1AY&SY", b"\x17rE8P\x90") else name


def decompressed(stream: Any) -> BinaryIO:
    """The content of a stream, decompressed if its first bytes (not its name) are those of compressed data."""
    head, stream = peeked(stream, 10)
    kind = compression(head)
    if kind == "zstd":
        return io.BufferedReader(_Pieces(_decompress_zst(_read_on(stream, _READ_BYTES // 16))), 1 << 20)
    open_as: dict[str, Callable] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    return open_as[kind](stream, "rb") if kind else stream


def _decompress_zst(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """All frames of a .zst file. (fsspec's reader stops after the first one, and does not notice a truncated file.)"""
    frame = None
    for piece in pieces:
        while piece:
            frame = frame or zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
            yield frame.decompress(piece)
            piece, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame:
        raise EOFError("it ends before its compressed data does")


@contextmanager
def opened(url: str) -> Iterator[BinaryIO]:
    """The content of a file at a path or fsspec URL, decompressed."""
    with stored(url) as stream:
        yield decompressed(stream)


def place_in(stream: Any) -> int:
    """How many bytes of a stored file have been read; 0 for a pipe or store that does not tell."""
    try:
        return stream.tell()
    except (OSError, AttributeError):
        return 0


@contextmanager
def as_file(stream: BinaryIO) -> Iterator[BinaryIO]:
    """A seekable stream: the same one, or else a temporary file with its content."""
    if _is_plain_file(stream):
        yield stream
        return
    with tempfile.TemporaryFile() as file:
        for piece in _read_on(stream):
            file.write(piece)
        file.seek(0)
        yield file


def in_utf8(stream: Any, place: str, chosen: str | None = None, errors: str = "strict") -> BinaryIO:
    """Text in UTF-8, recoded from the encoding of its byte-order mark, or else the chosen one.

    Args:
        place: where the stream is from, for messages.
        chosen: an encoding; None for UTF-8.
        errors: "strict", or "replace" to read bytes that are not in the encoding as U+FFFD.
    """
    head, stream = peeked(stream, HEAD_BYTES if chosen else 4)
    encoding = encoding_of(head, place, chosen) if head else None
    return io.BufferedReader(_Pieces(recoded(stream, place, encoding, errors)), 1 << 20) if encoding else stream


def decoded(stream: BinaryIO | Stretch, url: str, errors: str = "strict", offset: int = 0) -> Iterator[str]:
    """The text of a stream in pieces of bounded size, without a byte-order mark; `\\r\\n` and `\\r` become `\\n`.

    Args:
        url: of the file, for messages.
        errors: "strict", or "replace" to read bytes that are not UTF-8 as U+FFFD.
        offset: the byte of the file at which the stream begins; not within a character, nor after a `\\r`.

    Raises:
        UserError: (strict) the stream is not UTF-8; names the byte offset.
    """
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(errors), translate=True)
    fed, begun = offset, offset > 0
    try:
        while data := stream.read(_DECODED_BYTES):
            fed += len(data)
            text = decoder.decode(data)
            yield text if begun else text.removeprefix("\ufeff")
            begun = begun or bool(text)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise not_utf8(url, error, fed - len(error.object)) from None
