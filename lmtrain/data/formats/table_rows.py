"""Reads the rows of a CSV table, also those that a quotation mark which is never closed would put into one cell."""

import csv
from collections.abc import Iterator
from typing import Any

from lmtrain.data.formats.reader import Tally, beginning
from lmtrain.errors import UserError


class _Lines:
    """An iterator over lines, which can be given back; `number` is that of the first line."""

    def __init__(self, lines: Iterator[str], number: int) -> None:
        self._lines, self._back = lines, list[str]()
        self.number, self.taken = number, list[str]()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._back.pop() if self._back else next(self._lines)
        self.taken.append(line)
        return line

    def keep(self, count: int) -> None:
        """Gives back all lines that were taken, except the first `count`."""
        self._back += reversed(self.taken[count:])
        self.number += count
        self.taken = []


def rows_of(
    lines: Iterator[str], how: dict[str, Any], place: str, tally: Tally, number: int = 1
) -> Iterator[list[str]]:
    """The rows of a table, each with its cells.

    Args:
        lines: with their ends.
        how: the arguments of csv.reader.
        place: of the table, for messages.
        number: of the first line.

    Raises:
        UserError: a line cannot be read; names its number.
    """
    source, width = _Lines(lines, number), None
    reader = csv.reader(source, **how | {"strict": False})
    while True:
        try:
            row = next(reader, None)
            swallows = row is not None and _swallows(source.taken, how, width)
        except csv.Error as error:
            row, swallows = None, len(source.taken) > 1
            if not swallows:
                raise UserError(f"{place}, line {source.number}: {error}.") from None
        if swallows:
            line = f"line {source.number}: {beginning(source.taken[0].strip())}"
            tally.leave_out("a row with a quotation mark that is never closed", line)
        elif row is None:
            return
        else:
            width = width or len(row)
            yield row
        source.keep(1 if swallows else len(source.taken))


def _swallows(lines: list[str], how: dict[str, Any], width: int | None) -> bool:
    """Whether a row of several lines has other rows in a cell, because a quotation mark is never closed.

    The next quotation mark then closes the cell. Mostly that one was to open another cell, and strict reading fails on
    what follows it. Otherwise the lines look like rows: each has `width` cells, and there are tabs, numbers in front,
    or at least five of them.
    """
    if len(lines) < 2:
        return False
    try:
        for _ in csv.reader(lines, **how | {"strict": True}):
            pass
    except csv.Error:
        return True
    delimiter = how["delimiter"]
    within = [*lines[1:-1], lines[-1].replace('""', "").split('"')[0]]  # of the last, what is before the mark
    fit = sum(line.count(delimiter) + 1 == width for line in within)
    if width in (None, 1) or fit < 0.8 * len(within):
        return False
    is_numbered = all(line.split(delimiter)[0].strip().isdigit() for line in [lines[0], *within])
    return delimiter == "\t" or is_numbered or len(within) >= 5
