"""The steps that make a document to train on of a document as it was found: repairs first, then filters.

All are optional but `delimiter`, which removes the document delimiter from within documents.
"""

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import compress
from typing import Literal

import numpy as np

from lmtrain.data.dictionary import code_points
from lmtrain.data.formats.reader import with_line_ends
from lmtrain.errors import importing
from lmtrain.prepare.languages import Scripts, in_languages

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufdd0-\ufdef\ufffe\uffff]")
_LINE_BREAKS = re.compile("[\x0b\x0c\x85\u2028\u2029]")
_INVISIBLE = re.compile("[\xad\u200b\u2060-\u2064\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f]")  # not ZWJ, ZWNJ
_NEWLINES = re.compile(r"\s*\n\s*")
# tags, entities, curly brackets, and links in ASCII: in scripts without spaces, text follows a link directly
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|&(?:[a-zA-Z]{2,8}|#\d{1,6});|[{}]|(?:https?://|www\.)[!-~]+")
_LETTER, _SPACE = 1, 2

NormalForm = Literal["NFC", "NFD", "NFKC", "NFKD"]
Step = tuple[str, Callable[[list[str]], list[str]]]


@dataclass(frozen=True)
class Cleaning:
    """The cleaning steps and their limits; `steps` gives their order. None, False and () leave a step out.

    Args:
        remove_control: removes control characters (not tab and newline), byte-order marks and code points that
            Unicode reserves; form feeds and Unicode's own line separators become spaces.
        fix_mojibake: turns back what was decoded with the wrong encoding ("FranÃ§ais"), by ftfy.
        remove_invisible: removes soft hyphens, zero-width spaces and marks of direction; never the joiners U+200C
            and U+200D, which scripts need.
        normalize: the Unicode normal form: "NFC", "NFD", "NFKC" or "NFKD".
        trim: removes whitespace at both ends.
        min_length, max_length: characters that a document must and may have; others are left out.
        min_letters: leaves out documents of whose characters, spaces not counted, a smaller share are letters,
            combining marks or ideographs: tables of numbers, rulers, symbols.
        max_repeats: leaves out documents of whose characters a larger share are the same as the one before:
            "-----", "........".
        max_markup: leaves out documents of whose characters a larger share belong to tags, entities, curly
            brackets and links.
        scripts, script_share: leaves out documents of whose letters, as far as they belong to a script, a smaller
            share belong to these.
        languages, other_languages, language_threshold: leaves out documents that are in none of `languages`, or in
            one of `other_languages`, with at least this probability. A language that the identifier does not know
            cannot be among `languages`: name those around it as `other_languages`.
    """

    fix_mojibake: bool = False
    remove_control: bool = True
    remove_invisible: bool = False
    normalize: NormalForm | None = "NFC"
    trim: bool = True
    min_length: int | None = None
    max_length: int | None = None
    min_letters: float | None = None
    max_repeats: float | None = None
    max_markup: float | None = None
    scripts: tuple[str, ...] = ()
    script_share: float = 0.5
    languages: tuple[str, ...] = ()
    other_languages: tuple[str, ...] = ()
    language_threshold: float = 0.9

    def steps(self, delimiter: str) -> list[Step]:
        """The steps with their names, in order.

        Args:
            delimiter: the text that ends documents. The step "delimiter" removes it from within documents, and leaves
                out documents that are empty by then, so that the filters after that step see none.
        """
        form = self.normalize
        steps: list[tuple[str, object, Callable]] = [
            ("mojibake", self.fix_mojibake, _without_mojibake),
            ("control_characters", self.remove_control, _without_control),
            ("invisible", self.remove_invisible, _without_invisible),
            ("normalize", form, lambda documents: _normalized(documents, form)),
            ("trim", self.trim, lambda documents: [document.strip() for document in documents]),
            ("delimiter", True, lambda documents: _delimited(documents, delimiter, self.trim)),
            ("min_length", self.min_length, lambda documents: [d for d in documents if len(d) >= self.min_length]),
            ("max_length", self.max_length, lambda documents: [d for d in documents if len(d) <= self.max_length]),
            ("letters", self.min_letters, lambda documents: _with_letters(documents, self.min_letters)),
            ("repeats", self.max_repeats, lambda documents: _without_repeats(documents, self.max_repeats)),
            ("markup", self.max_markup, lambda documents: _without_markup(documents, self.max_markup)),
            ("scripts", self.scripts, lambda documents: _in_scripts(documents, self.scripts, self.script_share)),
            ("languages", self.languages or self.other_languages, self._in_languages),
        ]
        # a limit of 0 is one, though Python takes 0 for equal to False
        return [(name, step) for name, chosen, step in steps if not (chosen is None or chosen is False or chosen == ())]

    def _in_languages(self, documents: list[str]) -> list[str]:
        return in_languages(documents, self.languages, self.other_languages, self.language_threshold)


CHANGING = ("mojibake", "control_characters", "invisible", "normalize", "trim")
"""The steps that change documents and leave none out."""

BOILERPLATE = {"min_letters": 0.6, "max_repeats": 0.2, "max_markup": 0.2}
"""The recommended limits of the filters against boilerplate, those of `--boilerplate`."""


def _without_mojibake(documents: list[str]) -> list[str]:
    with importing("ftfy", "--fix-mojibake"):
        from ftfy import fix_encoding
    return [document if document.isascii() else fix_encoding(document) for document in documents]


def _without_invisible(documents: list[str]) -> list[str]:
    return [document if document.isascii() else _INVISIBLE.sub("", document) for document in documents]


def _in_scripts(documents: list[str], names: tuple[str, ...], share: float) -> list[str]:
    scripts = Scripts(names)
    return [document for document in documents if scripts.share(document) >= share]


def _normalized(documents: list[str], form: NormalForm) -> list[str]:
    return [document if document.isascii() else unicodedata.normalize(form, document) for document in documents]


def _without_control(documents: list[str]) -> list[str]:
    characters = _characters(documents)
    if _LINE_BREAKS.search(characters):
        documents = [_LINE_BREAKS.sub(" ", document) for document in documents]
    if _CONTROL.search(characters):
        documents = [_CONTROL.sub("", document) for document in documents]
    return documents


def _chunks(documents: list[str]) -> Iterator[list[str]]:
    """The documents in groups of 4,096, which bounds the size of the arrays that have an entry for each character."""
    return (documents[start : start + 4096] for start in range(0, len(documents), 4096))


def _characters(documents: list[str]) -> str:
    """Every character that occurs in the documents, once."""
    occurs = np.zeros(sys.maxunicode + 1, dtype=bool)
    for chunk in _chunks(documents):
        occurs[code_points("".join(chunk))] = True
    return "".join(map(chr, np.flatnonzero(occurs).tolist()))


def _delimited(documents: list[str], delimiter: str, trim: bool) -> list[str]:
    """The documents that are not empty, with `\\n` for every line break, and without the delimiter in them."""
    documents = [with_line_ends(document) for document in documents]
    if delimiter == "\n":
        documents = [_NEWLINES.sub(" ", document) if "\n" in document else document for document in documents]
    else:
        documents = [_without_delimiter(document, delimiter, trim) for document in documents]
    return [document for document in documents if document]


def _without_delimiter(document: str, delimiter: str, trim: bool) -> str:
    if not delimiter.strip("\n"):
        replacement = "\n"
    else:
        replacement = "" if delimiter == " " else " "
    before = None
    while document != before:
        before = document
        document = document.replace(delimiter, replacement)
        document = document.strip() if trim else document
        if (document + delimiter).find(delimiter) < len(document):
            document = document[:-1]  # the document's end and the delimiter after it would contain another delimiter
    return document


@cache
def _kinds() -> np.ndarray:
    """uint8 `(0x110000,)`: for each code point `_LETTER` (letters and marks), `_SPACE`, or 0."""
    kinds = np.zeros(sys.maxunicode + 1, dtype=np.uint8)
    for code in range(len(kinds)):
        category = unicodedata.category(chr(code))
        if category[0] in "LM":
            kinds[code] = _LETTER
        elif category == "Zs" or code in (9, 10):
            kinds[code] = _SPACE
    return kinds


def _kept(documents: list[str], keep: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> list[str]:
    """The documents that `keep` chooses.

    Args:
        documents: none is empty.
        keep: called with the code points of some documents, and for each of these where it begins and its length;
            returns a bool for each.
    """
    kept: list[str] = []
    for chunk in _chunks(documents):
        lengths = np.fromiter(map(len, chunk), np.int64, len(chunk))
        kept += compress(chunk, keep(code_points("".join(chunk)), np.cumsum(lengths) - lengths, lengths).tolist())
    return kept


def _with_letters(documents: list[str], share: float) -> list[str]:
    def keep(codes: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        kinds = _kinds()[codes]
        letters = np.add.reduceat(kinds == _LETTER, starts, dtype=np.int32)
        spaces = np.add.reduceat(kinds == _SPACE, starts, dtype=np.int32)
        return letters >= share * (lengths - spaces)

    return _kept(documents, keep)


def _without_repeats(documents: list[str], share: float) -> list[str]:
    def keep(codes: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        repeats = np.append(False, codes[1:] == codes[:-1])
        repeats[starts] = False
        return np.add.reduceat(repeats, starts, dtype=np.int32) <= share * lengths

    return _kept(documents, keep)


def _without_markup(documents: list[str], share: float) -> list[str]:
    return [document for document in documents if sum(map(len, _MARKUP.findall(document))) <= share * len(document)]
