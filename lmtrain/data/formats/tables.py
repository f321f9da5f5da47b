"""Tables, of which one column is the text: Parquet, Arrow, CSV and TSV."""

import csv
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from lmtrain.data.formats.foreign import table_of_numbers
from lmtrain.data.formats.reader import (
    LONGEST,
    TEXT_FIELDS,
    NoColumn,
    Reader,
    Tally,
    Wanted,
    beginning,
    documents_of_value,
    with_line_ends,
)
from lmtrain.data.formats.streams import HEAD_BYTES, as_file, decoded, peeked
from lmtrain.data.formats.table_rows import rows_of
from lmtrain.errors import UserError, importing

_BATCH = 4096
_FIRST_BYTES = 4096  # which are enough to see of most texts that they are no table
_COLUMN_NAMES = {*TEXT_FIELDS, "sentence", "body", "document", "article", "transcript", "transcription", "review"}
_DELIMITER = re.compile(r'"?sep=(.)"?\n')  # Excel's
_TABLE_NAME = re.compile(r"\.(?:csv|tsv|tab)(?:\.\w{1,4})?$", re.IGNORECASE)


class Parquet(Reader):
    name, title = "parquet", "Parquet"
    is_text = False

    def recognises(self, head: bytes, name: str) -> bool:
        return head.startswith(b"PAR1")

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        pa = _pyarrow(place, self.title)
        from pyarrow.parquet import ParquetFile

        try:
            with as_file(stream) as stored, ParquetFile(stored) as file:
                column = _Column(pa, file.schema_arrow, wanted, place)
                for batch in file.iter_batches(batch_size=_BATCH, columns=[column.name], use_threads=False):
                    yield column.documents(batch.column(0), wanted, tally)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{place} cannot be read as Parquet: {error}.") from None


class Arrow(Reader):
    """Arrow's file format, which is Feather's, and its stream format, in which `datasets` saves."""

    name, title = "arrow", "Arrow"
    is_text = False

    def recognises(self, head: bytes, name: str) -> bool:
        return head.startswith((b"ARROW1\0\0", b"\xff\xff\xff\xff")) and len(head) > 8

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        pa = _pyarrow(place, self.title)
        try:
            head, stream = peeked(stream, 8)
            if head.startswith(b"ARROW1"):
                with as_file(stream) as stored:
                    file = pa.ipc.open_file(stored)
                    column = _Column(pa, file.schema, wanted, place)
                    for number in range(file.num_record_batches):
                        yield column.documents(file.get_batch(number).column(column.place), wanted, tally)
                return
            with pa.ipc.open_stream(stream) as batches:
                column = _Column(pa, batches.schema, wanted, place)
                for batch in batches:
                    yield column.documents(batch.column(column.place), wanted, tally)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{place} cannot be read as Arrow: {error}.") from None


def _pyarrow(place: str, title: str):
    with importing("pyarrow", f"{place}: {title}"):
        import pyarrow
        import pyarrow.compute
    return pyarrow


def _column(names: list[str], wanted: Wanted, place: str) -> str:
    choices = (wanted.field,) if wanted.field else TEXT_FIELDS
    for choice in choices:
        if choice in names or choice.split(".")[0] in names:
            return choice
    raise NoColumn(
        f"{place} has no column {choices[0]!r}, only {beginning(', '.join(names))}: choose one with --field."
    )


class _Column:
    """The column of the text, or a field of records in a column.

    Args:
        pa: the module pyarrow.

    Raises:
        NoColumn: there is no such column or field.
    """

    def __init__(self, pa, schema, wanted: Wanted, place: str) -> None:
        self._pa, self._file = pa, place
        self.name = _column(schema.names, wanted, place)
        top, *self._within = [self.name] if self.name in schema.names else self.name.split(".")
        self.place = schema.names.index(top)  # of several with a name the first
        kind = schema.field(self.place).type
        for name in self._within:
            names = [kind.field(number).name for number in range(kind.num_fields)] if pa.types.is_struct(kind) else []
            if name not in names:
                only = f"only {beginning(', '.join(names))}" if names else "and it holds no records"
                raise NoColumn(f"{place} has no column {self.name!r}: there is {top}, {only}.")
            kind = kind.field(names.index(name)).type

    def documents(self, array, wanted: Wanted, tally: Tally) -> list[str]:
        for name in self._within:
            array = self._pa.compute.struct_field(array, name)
        try:
            values = array.to_pylist()
        except UnicodeDecodeError:
            plain = array.dictionary_decode() if self._pa.types.is_dictionary(array.type) else array
            values = plain.cast(self._pa.large_binary()).to_pylist()
        return [
            document
            for value in values
            for document in documents_of_value(
                self._decoded(value, wanted.errors) if isinstance(value, bytes) else value, wanted, tally
            )
        ]

    def _decoded(self, value: bytes, errors: str) -> str:
        try:
            return value.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self._file}: a text in the column {self.name!r} is not UTF-8 ({error}). Read it with --errors "
                "replace."
            ) from None


@dataclass(frozen=True)
class _Dialect:
    """How a table is written.

    Args:
        how: the arguments of csv.reader: the delimiter, whether quotation marks enclose cells or are text, ...
        rows: the first rows of the table.
    """

    how: dict[str, Any]
    rows: list[list[str]]

    def regular(self) -> float:
        """The share of the rows that have the most frequent number of cells; 0 if that is one cell."""
        ((width, count),) = Counter(map(len, self.rows)).most_common(1)
        return count / len(self.rows) if width > 1 else 0

    def is_named(self) -> bool:
        """Whether a cell of the first row is a usual name for a text."""
        return not _COLUMN_NAMES.isdisjoint(cell.strip().casefold() for cell in self.rows[0])

    def looks_like_a_table(self) -> bool:
        """Whether it is hardly plain text: every row has as many cells, between tabs or below a row of short names."""
        if len(self.rows) < 3 or self.regular() < 1 or len(self.rows[0]) != len(self.rows[1]):
            return False
        if self.how["delimiter"] == "\t":
            return sum(bool(row[0].strip()) for row in self.rows) >= 0.9 * len(self.rows)
        names = self.rows[0]
        is_short = all(re.fullmatch(r"[^\W\d][\w-]{0,29}", name) for name in names)
        return is_short and len(names) == len(set(names)) > (self.how["delimiter"] == ",") + 1


def _dialect(head: bytes) -> _Dialect | None:
    """The dialect in which the first rows look most like a table, or None."""
    text = with_line_ends(head.decode("utf-8", "ignore").removeprefix("\ufeff"))
    cut = len(head) >= HEAD_BYTES
    delimiters = "\t,;|"
    if declared := _DELIMITER.match(text):
        delimiters, text = declared[1], text[declared.end() :]
    if _is_name(text.split("\n", 1)[0]):  # a table of one column
        how = {"delimiter": "\x1f"}
        return _Dialect(how, _first_rows(text, cut, **how))
    found: list[tuple[bool, int, float, int, _Dialect]] = []
    for delimiter in delimiters:
        for rank, how in enumerate(_ways(text, delimiter)):
            rows = _first_rows(text, cut, **how)
            if rows and (len(rows) > (not cut) or _Dialect(how, rows).is_named()):  # a text may be longer than the head
                dialect = _Dialect(how, rows)
                regular = dialect.regular()
                if regular:
                    found.append((regular >= 0.8, rank, regular, len(rows[0]), dialect))
    return max(found, key=lambda one: one[:-1])[-1] if found else None


def _begins_irregularly(head: bytes) -> bool:
    """Whether in every dialect the first lines have different numbers of cells, so that they are no table.

    Most texts are none, and to try all dialects on all of `head` takes much longer.
    """
    text = with_line_ends(head[:_FIRST_BYTES].decode("utf-8", "ignore").removeprefix("\ufeff"))
    if len(head) <= _FIRST_BYTES or text.count("\n") < 4 or _DELIMITER.match(text) or _is_name(text.split("\n", 1)[0]):
        return False
    ways = ((how, _first_rows(text, True, **how)) for delimiter in "\t,;|" for how in _ways(text, delimiter))
    return all(not rows or (len(rows) > 2 and _Dialect(how, rows).regular() < 1) for how, rows in ways)


def _ways(text: str, delimiter: str) -> Iterator[dict[str, Any]]:
    """The arguments of csv.reader to try for a delimiter, from the least to the most telling.

    Strict reading fails where it does not fit.
    """
    spaces = {"delimiter": delimiter, "skipinitialspace": f'{delimiter} "' in text}
    yield {"delimiter": delimiter, "quoting": csv.QUOTE_MINIMAL, "strict": False}
    between = rf"(?:^|{re.escape(delimiter)})"
    opened = len(re.findall(f'{between}"', text, re.MULTILINE))
    closed = len(re.findall(rf'{between}"(?:[^"\n]|"")*"(?={re.escape(delimiter)}|$)', text, re.MULTILINE))
    if closed <= opened / 2:
        yield {"delimiter": delimiter, "quoting": csv.QUOTE_NONE, "strict": False}
    if '\\"' in text:
        yield spaces | {"quoting": csv.QUOTE_MINIMAL, "strict": True, "escapechar": "\\"}
    yield spaces | {"quoting": csv.QUOTE_MINIMAL, "strict": True}


def _is_name(line: str) -> bool:
    return line.strip().strip('"').casefold() in _COLUMN_NAMES


def _first_rows(text: str, cut: bool, **how) -> list[list[str]]:
    """The first rows of a table; none if csv.reader fails with these arguments."""
    rows = []
    try:
        lines = (f"{line}\n" for line in text.split("\n"))
        for row in csv.reader(lines, **how) if how.get("strict") else rows_of(lines, how, "", Tally()):
            rows.append(row)
    except UserError:
        return []
    except csv.Error as error:
        if not (cut and "unexpected end" in str(error)):
            return []
        rows.append([])  # in place of the last row, which is cut off and removed below
    return [row for row in (rows[:-1] if cut else rows) if row]


class Csv(Reader):
    """Cells between commas, semicolons, tabs or bars, with a row of names, or none if --field is a number.

    Rows with another number of cells than the first are left out: their text may be cut, or of another column.
    """

    name, title = "csv", "a table (CSV)"

    def recognises(self, head: bytes, name: str) -> bool:
        is_quoted = head.removeprefix(BOM_UTF8).startswith(b'"')
        if not is_quoted and not _TABLE_NAME.search(name) and _begins_irregularly(head):
            return False
        dialect = _dialect(head) if head.count(b"\n") + head.count(b"\r") else None
        if dialect is None or not dialect.rows or any("\0" in cell for cell in dialect.rows[0]):
            return False
        if _TABLE_NAME.search(name):
            return dialect.regular() >= 0.8 or dialect.is_named()
        if len(dialect.rows[0]) == 1 and is_quoted:
            return dialect.is_named()  # each text in quotation marks
        if dialect.regular() < 1 or (len(dialect.rows) < 2 and len(head) < HEAD_BYTES):
            return False
        names = [cell.strip() for cell in dialect.rows[0]]
        are_names = len(set(names)) == len(names) and all(re.fullmatch(r"[\w .:-]{0,40}", name) for name in names)
        return (are_names and dialect.is_named()) or (dialect.looks_like_a_table() and not table_of_numbers(head))

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        head, stream = peeked(stream)
        dialect = _dialect(head)
        if dialect is None:
            raise UserError(f"{place} is no table: its lines have no cells between tabs, commas, semicolons or bars.")
        csv.field_size_limit(LONGEST)
        lines, number = _lines(decoded(stream, place, wanted.errors)), 1
        if _DELIMITER.match(with_line_ends(head.decode("utf-8", "ignore").removeprefix("\ufeff"))):
            next(lines)
            number = 2
        column, width, held = None, 0, []
        for row in rows_of(lines, dialect.how, place, tally, number):
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
        yield held


def _place_of(row: list[str], wanted: Wanted, place: str) -> tuple[int, bool]:
    """The position of the column of the text, and whether the first row is text, too, instead of names."""
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
    except NoColumn as error:
        raise NoColumn(
            f"{error} Where there are no names, by the number: --field {len(row)}. If all of it is the text that you "
            "want: --format text."
        ) from None


def _lines(pieces: Iterator[str]) -> Iterator[str]:
    held = ""
    for piece in pieces:
        *ended, held = (held + piece).split("\n")
        yield from (f"{line}\n" for line in ended)
    if held:
        yield held
