"""Cuts a large file of text where one document ends and the next begins, so that its pieces can be read at once."""

from dataclasses import replace
from typing import BinaryIO

from lmtrain.data.corpus import TextFile
from lmtrain.data.formats.encodings import encoding_of
from lmtrain.data.formats.streams import compression

PIECE_BYTES = 16 << 20
_LOOKED_AT = 1 << 16  # bytes at once


def cut_pieces(file: TextFile, delimiter: str, size: int = PIECE_BYTES) -> list[TextFile]:
    """A very large file in pieces of about equal size, which one after another give the same documents as the whole.

    A compressed or remote file, or one in UTF-16, is one piece, and so is a stretch without a place to cut.

    Args:
        delimiter: what ends a document.
        size: of a piece, in bytes.

    Raises:
        OSError: the file cannot be read.
    """
    mark = delimiter.encode("utf-8", "surrogatepass")
    if "://" in file.url or file.size <= 4 * size or set(delimiter) & {"\r", "\ufffd"}:  # reading makes these
        return [file]
    with open(file.url, "rb") as stream:
        head = stream.read(10)
        if compression(head) or encoding_of(head, file.url):
            return [file]
        cuts, place = [0], size
        while place < file.size:
            cut = _next_cut(stream, place, mark)
            if cut is None or cut >= file.size:
                break
            cuts.append(cut)
            place = cut + size
    stops = [*cuts[1:], file.size]
    if len(cuts) == 1:
        return [file]
    return [replace(file, stretch=stretch, size=stretch[1] - stretch[0]) for stretch in zip(cuts, stops, strict=True)]


def _next_cut(stream: BinaryIO, place: int, mark: bytes) -> int | None:
    """Where the first delimiter ends that begins at a place or behind it and that nothing before it can overlap."""
    length = len(mark)
    begin = max(0, place - length)  # of the block: a delimiter is looked at with what stands before it
    stream.seek(begin)
    block = stream.read(length)
    while data := stream.read(_LOOKED_AT):
        block += data
        found = block.find(mark, length)
        while found >= 0:
            before = block[found - length : found]
            if mark not in (before + mark)[1:-1] and (length == 1 or b"\r" not in before):
                return begin + found + length
            found = block.find(mark, found + 1)
        begin += len(block[: -2 * length])
        block = block[-2 * length :]
    return None
