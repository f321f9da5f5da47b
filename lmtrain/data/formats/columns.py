"""Treebanks and tagged text: a token a line with its columns, an empty line between sentences."""

import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from lmtrain.data.formats.conllu_words import COLUMNS
from lmtrain.data.formats.lines import head_lines
from lmtrain.data.formats.reader import LONGEST, Reader, Tally, Wanted, beginning, split_text, too_long
from lmtrain.data.formats.streams import peeked
from lmtrain.errors import importing

_ID = re.compile(r"\d+(?:[-.]\d+)?")
_ENTITY = re.compile(r"O|[BIESLU]-\S+")
_PART_OF_SPEECH = re.compile(r"[A-Z$#.,:;'`()-]{1,8}")
_COMMENT = re.compile(r"#(?:\s|$)")
_ABOUT_SENTENCES = re.compile(r"# ?(?:sent_id|text|newdoc|newpar)\b")
_DOCUMENT_START, _ONTONOTES = "-DOCSTART-", "#begin document"
_MARKS = (_DOCUMENT_START, _ONTONOTES, "#end document")


def _token_lines(head: bytes) -> list[str]:
    return [line for line in head_lines(head, len(head)) if not _COMMENT.match(line)][:200]


def _sentences(stream: BinaryIO, place: str, wanted: Wanted) -> Iterator[list[list[str]]]:
    """The lines of each sentence; sentences are between blank lines, and come some at a time."""
    rows: list[str] = []
    size = 0
    for lines in split_text(stream, place, wanted):
        ended = []
        for line in lines:
            if line.strip():
                rows.append(line)
                size += len(line)
            elif rows:
                ended.append(rows)
                rows, size = [], 0
        if size > LONGEST:
            raise too_long(place)
        yield ended
    yield [rows] if rows else []


class Conllu(Reader):
    """CoNLL-U, CoNLL-U Plus, and older forms that begin with an id: the `# text` of each sentence.

    Where a sentence has none, its tokens are joined, with a space after each unless it has SpaceAfter=No. Of a range
    (2-3) the form is taken, not its words; empty nodes (3.1) are left out.
    """

    name, title = "conllu", "CoNLL-U"

    def recognises(self, head: bytes, name: str) -> bool:
        if head.removeprefix(BOM_UTF8).lstrip().startswith(b"# global.columns"):
            return True
        lines = [line.split("\t") for line in _token_lines(head)]
        if not lines:
            return any(map(_ABOUT_SENTENCES.match, head_lines(head)))  # the comments may fill the head
        fits = [cells for cells in lines if len(cells) >= 10 and _ID.fullmatch(cells[0])]
        return len(fits) >= 0.9 * len(lines)

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        with importing("conllu", f"{place}: CoNLL-U"):
            import conllu
        fields: list[str] | None = None
        for blocks in _sentences(stream, place, wanted):
            sentences = []
            for rows in blocks:
                fields = fields or _declared_fields(rows[0])
                width = len(fields or COLUMNS)
                rows = [row for row in rows if not row.startswith("# global.columns")]
                short = [row for row in rows if row[0] != "#" and row.count("\t") < width - 1]
                if short:
                    tally.leave_out("a sentence that is not CoNLL-U", f"not {width} columns: {beginning(short[0])}")
                    continue
                try:
                    sentences += [_text(sentence) for sentence in conllu.parse("\n".join(rows) + "\n\n", fields)]
                except (conllu.exceptions.ParseException, KeyError) as error:
                    tally.leave_out("a sentence that is not CoNLL-U", beginning(str(error)))
            yield sentences


def _declared_fields(line: str) -> list[str] | None:
    declared = re.match(r"# global\.columns = (.+)", line)
    return declared[1].lower().split() if declared else None


def _text(sentence: Any) -> str:
    if text := sentence.metadata.get("text"):
        return text
    written, upto = "", 0
    for token in sentence:
        number = token["id"]
        if isinstance(number, tuple):
            if number[1] != "-":
                continue  # an empty node
            upto = number[2]
        elif number <= upto:
            continue  # a word of the range before
        no_space = (token.get("misc") or {}).get("SpaceAfter") == "No"
        written += token["form"] + ("" if no_space else " ")
    return written.strip()


class TaggedColumns(Reader):
    """Tokens and their tags, as in CoNLL-2003 and OntoNotes: the first column that is no number is the token.

    Such a file is recognised by its last column: entities (O, B-LOC), or parts of speech in capitals.
    """

    name, title = "columns", "tokens with tags in columns"

    def recognises(self, head: bytes, name: str) -> bool:
        lines = head_lines(head, len(head))
        if lines and lines[0].startswith(_ONTONOTES):
            return True
        rows = [_cells(line) for line in _token_lines(head) if not line.startswith(_DOCUMENT_START)]
        if len(rows) < 3 or len({len(cells) for cells in rows}) > 1 or len(rows[0]) < 2:
            return False
        has_sentences = re.search(rb"\n\s*\n", head.replace(b"\r", b"\n"))
        is_tagged = len(rows) > 4 and has_sentences and all(_PART_OF_SPEECH.fullmatch(cells[-1]) for cells in rows)
        return bool(is_tagged) or all(_ENTITY.fullmatch(cells[-1]) for cells in rows)

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        head, stream = peeked(stream)
        column = 3 if head.removeprefix(BOM_UTF8).lstrip().startswith(_ONTONOTES.encode()) else None
        for blocks in _sentences(stream, place, wanted):
            rows = [[_cells(line) for line in block if not line.startswith(_MARKS)] for block in blocks]
            yield [_tokens(block, column) for block in rows]


def _cells(line: str) -> list[str]:
    """The cells between tabs, or else between spaces; a no-break space is part of a token."""
    cells = [cell.strip(" ") for cell in line.split("\t")] if "\t" in line else line.split(" ")
    return [cell for cell in cells if cell]


def _tokens(rows: list[list[str]], column: int | None) -> str:
    """The tokens of a sentence. A line that begins with # and has another number of columns is a comment."""
    widths = Counter(len(cells) for cells in rows if cells and not cells[0].startswith("#"))
    width = widths.most_common(1)[0][0] if widths else 2
    rows = [cells for cells in rows if cells and (not cells[0].startswith("#") or len(cells) == width)]
    if column is None:
        numbers = [str(number) for number in range(1, len(rows) + 1)]
        column = 1 if width > 1 and [cells[0] for cells in rows] == numbers else 0
    return " ".join(cells[min(column, len(cells) - 1)] for cells in rows)
