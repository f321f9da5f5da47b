"""Tables, of which one column is the text: Parquet, Arrow, CSV and TSV."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from lmtrain.errors import MissingPackage, UserError
from lmtrain.formats.reader import LONGEST, TEXT_FIELDS, Reader, Tally, Wanted, beginning, documents_of_value
from lmtrain.formats.streams import HEAD_BYTES, as_file, decoded, peeked

_BATCH = 4096
_COLUMN_NAMES = {*TEXT_FIELDS, "sentence", "body", "document", "article", "transcript", "transcription", "review"}
_TABLE_NAME = re.compile(r"\.(?:csv|tsv|tab)(?:\.\w{1,4})?$", re.IGNORECASE)


class Parquet(Reader):
    name, title = "parquet", "Parquet"
    is_text = False

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        return head.startswith(b"PAR1")

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        pa = _pyarrow(place, self.title)
        from pyarrow.parquet import ParquetFile

        try:
            with as_file(stream) as stored, ParquetFile(stored) as file:
                column = _column(file.schema_arrow.names, wanted, place)
                for batch in file.iter_batches(batch_size=_BATCH, columns=[column], use_threads=False):
                    yield _values(batch.column(0), wanted, tally)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{place} cannot be read as Parquet: {error}.") from None


class Arrow(Reader):
    """Arrow's file format, which is Feather's, and its stream format, in which `datasets` saves."""

    name, title = "arrow", "Arrow"
    is_text = False

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        return head.startswith((b"ARROW1\0\0", b"\xff\xff\xff\xff")) and len(head) > 8

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        pa = _pyarrow(place, self.title)
        try:
            head, stream = peeked(stream, 8)
            if head.startswith(b"ARROW1"):
                with as_file(stream) as stored:
                    file = pa.ipc.open_file(stored)
                    column = _top(_column(file.schema.names, wanted, place), file.schema.names)
                    for number in range(file.num_record_batches):
                        yield _values(file.get_batch(number).column(column), wanted, tally)
                return
            with pa.ipc.open_stream(stream) as batches:
                column = _top(_column(batches.schema.names, wanted, place), batches.schema.names)
                for batch in batches:
                    yield _values(batch.column(column), wanted, tally)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{place} cannot be read as Arrow: {error}.") from None


def _pyarrow(place: str, title: str):
    try:
        import pyarrow
    except ImportError:
        raise MissingPackage(f"{place}: {title}", "pyarrow") from None
    return pyarrow


def _column(names: list[str], wanted: Wanted, place: str) -> str:
    choices = (wanted.field,) if wanted.field else TEXT_FIELDS
    for choice in choices:
        if choice in names or choice.split(".")[0] in names:
            return choice
    raise UserError(
        f"{place} has no column {choices[0]!r}, only {beginning(', '.join(names))}: choose one with --field."
    )


def _top(column: str, names: list[str]) -> str:
    return column if column in names else column.split(".")[0]


def _values(array, wanted: Wanted, tally: Tally) -> list[str]:
    documents = []
    rest = (wanted.field or "").split(".")[1:]
    for value in array.to_pylist():
        for name in rest if isinstance(value, dict) else ():
            value = value.get(name) if isinstance(value, dict) else None
        documents += documents_of_value(value, wanted, tally)
    return documents


@dataclass(frozen=True)
class _Dialect:
    """How a table is written.

    Args:
        delimiter: between cells.
        quoting: csv's constant: whether quotation marks enclose cells or are part of the text.
        rows: the first rows of it.
    """

    delimiter: str
    quoting: Any
    rows: list[list[str]]

    def regular(self) -> float:
        """The share of the rows that have as many cells as the first."""
        return sum(len(row) == len(self.rows[0]) for row in self.rows) / len(self.rows)


def _dialect(head: bytes) -> _Dialect | None:
    """The way of writing in which the first rows look most like a table; None if in none."""
    text = head.decode("utf-8", "ignore").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    cut = len(head) >= HEAD_BYTES
    found: list[tuple[bool, int, float, int, _Dialect]] = []
    for delimiter in "\t,;|":
        for rank, (quoting, strict) in enumerate(
            ((csv.QUOTE_MINIMAL, False), (csv.QUOTE_NONE, False), (csv.QUOTE_MINIMAL, True))
        ):
            rows = _first_rows(text, cut, delimiter=delimiter, quoting=quoting, strict=strict)
            if len(rows) > (not cut) and len(rows[0]) > 1:  # a first text may be longer than the head
                dialect = _Dialect(delimiter, quoting, rows)
                regular = dialect.regular()
                found.append((regular >= 0.8, rank, regular, len(rows[0]), dialect))
    if not found and _is_name(text.split("\n", 1)[0]):  # a table of one column
        return _Dialect(",", csv.QUOTE_MINIMAL, _first_rows(text, cut, delimiter=","))
    return max(found, key=lambda one: one[:-1])[-1] if found else None


def _is_name(line: str) -> bool:
    return line.strip().strip('"').casefold() in _COLUMN_NAMES


def _first_rows(text: str, cut: bool, **how) -> list[list[str]]:
    """The rows of the beginning of a table; none if it is not written so."""
    rows = []
    try:
        for row in csv.reader(text.splitlines(keepends=True), **how):
            rows.append(row)
    except csv.Error as error:
        if not (cut and "unexpected end" in str(error)):
            return []
        rows.append([])  # in place of the last, which is not whole either
    return [row for row in (rows[:-1] if cut else rows) if row]


class Csv(Reader):
    """Cells between commas, semicolons, tabs or bars, with a row of names, or none if --field is a number.

    Rows with another number of cells than the first are passed over: their text may be cut, or another column's.
    """

    name, title = "csv", "a table (CSV)"

    def recognises(self, head: bytes, name: str) -> bool:
        dialect = _dialect(head) if head.count(b"\n") + head.count(b"\r") else None
        if dialect is None or not dialect.rows or any("\0" in cell for cell in dialect.rows[0]):
            return False
        if _TABLE_NAME.search(name):
            return dialect.regular() >= 0.8
        names = [cell.strip().casefold() for cell in dialect.rows[0]]
        if len(names) == 1:
            return False
        named = len(set(names)) == len(names) and all(re.fullmatch(r"[\w .:-]{1,40}", cell) for cell in names)
        return named and not _COLUMN_NAMES.isdisjoint(names) and dialect.regular() == 1

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        head, stream = peeked(stream)
        dialect = _dialect(head)
        if dialect is None:
            raise UserError(f"{place} is no table: its lines have no cells between tabs, commas, semicolons or bars.")
        csv.field_size_limit(LONGEST)
        rows = csv.reader(
            _lines(decoded(stream, place, wanted.errors)), delimiter=dialect.delimiter, quoting=dialect.quoting
        )
        column, width, held = None, 0, []
        try:
            for row in rows:
                if column is None:
                    width = len(row)
                    column, is_text = _place_of(row, wanted, place)
                    if not is_text:
                        continue
                if len(row) != width:
                    if row:
                        tally.leave_out("a row with another number of cells", f"{len(row)}, and {width} in the first")
                    continue
                held += wanted.documents_of(row[column])
                if len(held) >= _BATCH:
                    yield held
                    held = []
        except csv.Error as error:
            raise UserError(f"{place}, line {rows.line_num}: {error}. Is a quotation mark never closed?") from None
        yield held


def _place_of(row: list[str], wanted: Wanted, place: str) -> tuple[int, bool]:
    """The column of the text, and whether the first row has text as well."""
    if wanted.field and wanted.field.isdigit() and wanted.field not in row:
        if not 1 <= int(wanted.field) <= len(row):
            raise UserError(f"{place} has {len(row)} columns, and no --field {wanted.field}.")
        return int(wanted.field) - 1, True
    names = [cell.strip() for cell in row]
    if wanted.field is None and not set(TEXT_FIELDS) & set(names):
        others = [name for name in names if name.casefold() in _COLUMN_NAMES]
        names = ["text" if [name] == others else name for name in names]
    try:
        return names.index(_column(names, wanted, place)), False
    except UserError as error:
        raise UserError(f"{error} Where there are no names, by the number: --field {len(row)}.") from None


def _lines(pieces: Iterator[str]) -> Iterator[str]:
    held = ""
    for piece in pieces:
        *ended, held = (held + piece).split("\n")
        yield from (f"{line}\n" for line in ended)
    if held:
        yield held
