"""Reads the text that a script is given (a file, a URL or standard input) as training reads it."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator

from lmtrain.data.corpus import TextFile, document_blocks, read_text
from lmtrain.data.formats.streams import decoded, decompressed, in_utf8, place_in

STANDARD_INPUT = "-"
_STANDARD = "Standard input"


def input_text(
    name: str,
    errors: str = "strict",
    encoding: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[str]:
    """The text in pieces of bounded size: decompressed, without a byte-order mark, with `\\n` for every line end.

    Args:
        name: a path or fsspec URL, or "-" for standard input.
        errors: "strict", or "replace" to read bytes that are not in the encoding as U+FFFD.
        encoding: of text without a byte-order mark; None for UTF-8.
        progress: called with the number of bytes read so far of the file as it is stored.

    Raises:
        UserError: the text cannot be read, or (strict) is not in the encoding.
    """
    if name != STANDARD_INPUT:
        yield from read_text(TextFile(name, name, -1, ""), errors, encoding, progress)
        return
    if sys.stdin.buffer.isatty():
        print("Reading the text from the terminal; Ctrl-D ends it.", file=sys.stderr)
    for piece in decoded(in_utf8(decompressed(sys.stdin.buffer), _STANDARD, encoding, errors), _STANDARD, errors):
        progress(place_in(sys.stdin.buffer))
        yield piece


def size_as_stored(name: str) -> int:
    """The bytes of a local file, or of one on standard input; 0 for anything else."""
    if name == STANDARD_INPUT:
        name = "/dev/stdin"
    return os.path.getsize(name) if os.path.isfile(name) else 0


def input_lines(
    name: str,
    errors: str = "strict",
    encoding: str | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Iterator[str]:
    """The lines of `input_text`, without their ends.

    Args:
        progress: called now and then with about how many bytes of the stored file the lines so far come from.
    """
    tail, before, place = "", 0, 0

    def at(now: int) -> None:
        nonlocal place
        place = now

    for piece in input_text(name, errors, encoding, at):
        *lines, tail = (tail + piece).split("\n")
        for number, line in enumerate(lines):
            if number % 256 == 0:
                progress(before + (place - before) * number / len(lines))
            yield line
        before = place
    if tail:
        yield tail


def without_empty_documents(pieces: Iterable[str], delimiter: str) -> tuple[str, int]:
    """The text without empty documents, which training leaves out, too, and how many there were."""
    read, end = 0, ""

    def counted() -> Iterator[str]:
        nonlocal read, end
        for piece in pieces:
            read += len(piece)
            end = (end + piece)[-len(delimiter) :]
            yield piece

    text = "".join("".join(block) for block in document_blocks(counted(), delimiter))
    if read and end != delimiter:
        text = text.removesuffix(delimiter)  # added by `document_blocks` to a last document without one
    return text, (read - len(text)) // len(delimiter)
