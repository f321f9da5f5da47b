"""Treebanks and tagged text: a token a line with its columns, an empty line between sentences."""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from lmtrain.errors import UserError
from lmtrain.formats.lines import head_lines
from lmtrain.formats.reader import Reader, Tally, Wanted, beginning, split_text
from lmtrain.formats.streams import decoded

_ID = re.compile(r"\d+(?:[-.]\d+)?")
_TAG = re.compile(r"O|[BIESLU]-\S+")
_DOCUMENT_START = "-DOCSTART-"


def _token_lines(head: bytes) -> list[str]:
    return [line for line in head_lines(head, 200) if not re.match(r"#(?:\s|$)", line)]


class Conllu(Reader):
    """CoNLL-U (and Plus): a sentence's `# text`, else its tokens, with spaces where SpaceAfter doesn't deny them.

    Of a range (2-3) the form that stands in the text is read, not its words; empty nodes (3.1) are in no text.
    """

    name, title = "conllu", "CoNLL-U"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        lines = [line.split("\t") for line in _token_lines(head)]
        fits = [cells for cells in lines if len(cells) == 10 and _ID.fullmatch(cells[0])]
        return bool(lines) and len(fits) >= 0.9 * len(lines)

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        try:
            import conllu
        except ImportError:
            raise UserError(f"{place}: CoNLL-U needs conllu. Install it: pip install 'lmtrain[prepare]'.") from None
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
    """Tokens and their tags as in CoNLL-2003: the first column is the token, the last a tag such as O or B-LOC."""

    name, title = "columns", "tokens with tags in columns"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        lines = [line.split() for line in _token_lines(head) if not line.startswith(_DOCUMENT_START)]
        widths = {len(cells) for cells in lines}
        return len(lines) > 2 and len(widths) == 1 and widths != {1} and all(_TAG.fullmatch(c[-1]) for c in lines)

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:  # noqa: ARG002
        for blocks in split_text(decoded(stream, place, wanted.errors), "\n\n", place):
            sentences = [[line.split() for line in block.split("\n") if not line.startswith("# ")] for block in blocks]
            yield [
                " ".join(cells[0] for cells in sentence if cells and cells[0] != _DOCUMENT_START)
                for sentence in sentences
            ]
