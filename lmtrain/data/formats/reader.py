"""The base classes of readers, what a reader is asked for (`Wanted`), and its account of what it left out (`Tally`)."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from lmtrain.data.formats.streams import decoded
from lmtrain.errors import UserError

LONGEST = 64 << 20  # bytes or characters of one document, which bounds the memory
TEXT_FIELDS = ("text", "content", "raw_content")  # names of the text in the records of most collections
_SURROGATES = re.compile("[\ud800-\udfff]")  # which JSON can write and UTF-8 cannot


@dataclass(frozen=True)
class Wanted:
    """What to read of a source.

    Args:
        format: the name of the reader for the files of an archive; "auto" to recognise each.
        field: the name of a record's text, `name.name` for one in a record within it, or the number of a table's
            column, from 1; None for the first of `TEXT_FIELDS` that is there.
        language: which of the languages of a source with several, as the source writes it.
        split_at: what separates documents in a text or record; None to cut texts at line ends, and no records.
        errors: "strict" or "replace", for bytes that are not in the encoding.
        encoding: of text without a byte-order mark, as Python calls it; None for UTF-8.
    """

    format: str = "auto"
    field: str | None = None
    language: str | None = None
    split_at: str | None = None
    errors: str = "strict"
    encoding: str | None = None

    def separator(self) -> str:
        return self.split_at or "\n"

    def documents_of(self, record: str) -> list[str]:
        """The documents of a record: one, unless `split_at` cuts it."""
        return with_line_ends(record).split(self.split_at) if self.split_at else [record]

    def documents_of_text(self, text: str) -> list[str]:
        """The documents of a text, which is always cut."""
        return with_line_ends(text).split(self.separator())


def with_line_ends(text: str) -> str:
    """The text with `\\n` for every `\\r\\n` and `\\r`, as `decoded` reads files."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


@dataclass
class Tally:
    """An account of what was read of a source.

    Args:
        used: how many documents were found, empty ones not counted.
        left_out: how many records were left out, by the reason.
        examples: one such record, by the reason.
        members: how many files of an archive were read, by format.
        replaced: how many U+FFFD stand for bytes that could not be decoded (with --errors replace).
    """

    used: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    members: Counter[str] = field(default_factory=Counter)
    replaced: int = 0

    def leave_out(self, reason: str, example: str = "", count: int = 1) -> None:
        self.left_out[reason] += count
        self.examples.setdefault(reason, example)

    def add(self, other: "Tally") -> None:
        self.used += other.used
        self.replaced += other.replaced
        self.left_out.update(other.left_out)
        self.members.update(other.members)
        self.examples = other.examples | self.examples

    def reasons(self) -> str:
        """How many records were left out and why, as text."""
        return "; ".join(
            f"{count:,} × {reason}" + (f" ({self.examples[reason]})" if self.examples.get(reason) else "")
            for reason, count in self.left_out.most_common()
        )


class NoColumn(UserError):
    """A table has no column of the text. A file in an archive is then left out, as a table of something else."""


class Reader(ABC):
    """A format: how it is recognised, and how its documents are read.

    Args:
        name: for --format and the manifest.
        title: for messages: "HTML".
        is_text: whether it consists of characters, so that somebody may want to train on it unchanged.
    """

    name: str
    title: str
    is_text = True

    @abstractmethod
    def recognises(self, head: bytes, name: str) -> bool:
        """Whether content that begins with `head` is of this format; the file's name is no more than a hint."""

    @abstractmethod
    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        """The documents of a stream, in pieces of bounded size.

        Args:
            place: where the stream is from, for messages.
            tally: counts every record that is left out.

        Raises:
            UserError: the content is not of this format; names the place.
        """

    def cuts_lines(self, wanted: Wanted) -> bool:
        """Whether every line can be read without the others, so that several processes can share a file."""
        return False


class LineReader(Reader):
    """A format in which each line can be read by itself."""

    def cuts_lines(self, wanted: Wanted) -> bool:
        return True

    def separator(self, wanted: Wanted) -> str:
        return "\n"

    @abstractmethod
    def of_lines(self, lines: list[str], wanted: Wanted, tally: Tally) -> list[str]:
        """The documents of some lines."""

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        for lines in split_text(stream, place, wanted, self.separator(wanted)):
            yield self.of_lines(lines, wanted, tally)


def split_text(stream: BinaryIO, place: str, wanted: Wanted, separator: str = "\n") -> Iterator[list[str]]:
    """The parts of a stream's text between separators, some at a time."""
    held = ""
    for piece in decoded(stream, place, wanted.errors):
        *ended, held = (held + piece).split(separator)
        if len(held) > LONGEST:
            raise too_long(place)
        if ended:
            yield ended
    yield [held]


def too_long(place: str) -> UserError:
    return UserError(
        f"{place}: no document ends within {LONGEST >> 20} MiB. Name what separates its documents with --split-at, "
        "or its format with --format."
    )


def field_of(record: Any, wanted: Wanted, tally: Tally) -> list[str]:
    """The documents of a record: none, which the tally counts, if the field has no text."""
    value = _value(record, wanted.field)
    if value is _MISSING:
        names = ", ".join(map(str, record)) if isinstance(record, dict) else beginning(repr(record))
        tally.leave_out(f"no field {wanted.field or 'text'!r}", f"only {beginning(names)}: choose one with --field")
        return []
    return documents_of_value(value, wanted, tally)


def documents_of_value(value: Any, wanted: Wanted, tally: Tally) -> list[str]:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            value = _SURROGATES.sub("\ufffd", value)
        return wanted.documents_of(value)
    if value is None:
        tally.leave_out("the field is null")
    else:
        tally.leave_out("the field holds no text", f"but {beginning(repr(value))}: choose another with --field")
    return []


_MISSING = object()


def _value(record: Any, name: str | None) -> Any:
    if not isinstance(record, dict):
        return record if isinstance(record, str) and name is None else _MISSING
    if name is None:
        return next((record[field] for field in TEXT_FIELDS if field in record), _MISSING)
    if name in record:
        return record[name]
    first, _, rest = name.partition(".")
    return _value(record[first], rest) if rest and isinstance(record.get(first), dict) else _MISSING


def beginning(text: str) -> str:
    return text[:60] + ("..." if len(text) > 60 else "")
