"""Treebanks and tagged text: a token a line with its columns, an empty line between sentences."""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from lmtrain.errors import MissingPackage
from lmtrain.formats.lines import head_lines
from lmtrain.formats.reader import Reader, Tally, Wanted, beginning, split_text
from lmtrain.formats.streams import decoded

_ID = re.compile(r"\d+(?:[-.]\d+)?")
_ENTITY = re.compile(r"O|[BIESLU]-\S+")
_PART_OF_SPEECH = re.compile(r"[A-Z$#.,:;'`()-]{1,8}")
_DOCUMENT_START = "-DOCSTART-"


def _token_lines(head: bytes) -> list[str]:
    return [line for line in head_lines(head, 200) if not re.match(r"#(?:\s|$)", line)]


class Conllu(Reader):
    """CoNLL-U, Plus, and older forms that begin with an id: of each sentence its `# text`.

    Else its tokens are joined, with spaces where SpaceAfter does not deny them.

    Of a range (2-3) the form that stands in the text is read, not its words; empty nodes (3.1) are in no text.
    """

    name, title = "conllu", "CoNLL-U"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"# global.columns"):
            return True
        lines = [line.split("\t") for line in _token_lines(head)]
        fits = [cells for cells in lines if len(cells) >= 10 and _ID.fullmatch(cells[0])]
        return bool(lines) and len(fits) >= 0.9 * len(lines)

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        try:
            import conllu
        except ImportError:
            raise MissingPackage(f"{place}: CoNLL-U", "conllu") from None
        fields = None
        for blocks in split_text(decoded(stream, place, wanted.errors), "\n\n", place):
            sentences = []
            for block in filter(str.strip, blocks):
                try:
                    fields = fields or _declared_fields(block)
                    sentences += [_text(sentence) for sentence in conllu.parse(block.strip("\n") + "\n\n", fields)]
                except (conllu.exceptions.ParseException, KeyError) as error:
                    tally.leave_out("a sentence that is not CoNLL-U", beginning(str(error)))
            yield sentences


def _declared_fields(block: str) -> list[str] | None:
    declared = re.match(r"# global\.columns = (.+)", block.lstrip())
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
    """Tokens and their tags, as in CoNLL-2003: the first column that is no number is the token.

    It is known by its last column: O and B-LOC, or parts of speech in capitals.
    """

    name, title = "columns", "tokens with tags in columns"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        rows = [line.split() for line in _token_lines(head) if not line.startswith(_DOCUMENT_START)]
        if len(rows) < 3 or len({len(cells) for cells in rows}) > 1 or len(rows[0]) < 2:
            return False
        has_sentences = b"\n\n" in head.replace(b"\r\n", b"\n")
        is_tagged = len(rows) > 4 and has_sentences and all(_PART_OF_SPEECH.fullmatch(cells[-1]) for cells in rows)
        return is_tagged or all(_ENTITY.fullmatch(cells[-1]) for cells in rows)

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:  # noqa: ARG002
        for blocks in split_text(decoded(stream, place, wanted.errors), "\n\n", place):
            yield [_tokens([line.split() for line in block.split("\n") if line[:2] != "# "]) for block in blocks]


def _tokens(rows: list[list[str]]) -> str:
    rows = [cells for cells in rows if cells and cells[0] != _DOCUMENT_START]
    column = 1 if rows and [cells[0] for cells in rows] == [str(number) for number in range(1, len(rows) + 1)] else 0
    return " ".join(cells[column] for cells in rows)
