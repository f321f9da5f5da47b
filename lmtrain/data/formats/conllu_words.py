"""The words of a sentence in CoNLL-U (https://universaldependencies.org/format.html), and the spaces after them."""

import re
from collections.abc import Sequence

COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
ID = re.compile(r"(?P<first>[0-9]+)(-(?P<last>[0-9]+)|\.[0-9]+)?")


def words_of_sentence(rows: Sequence[Sequence[str]]) -> tuple[list[str], list[int]]:
    """The syntactic words, as Flair's `UniversalDependenciesDataset` reads them, and how many spaces follow each.

    Empty nodes (`3.1`) are no words. The words of a range (`2-3 don't`) have no space between them if they make up its
    form, and one if they do not (`du` is `de le`). The SpaceAfter of the range holds after its last word; Flair takes
    that of the word.

    Args:
        rows: the ten columns of every line, comments left out.
    """
    words, spaces, covered = [], [], 0
    for number, row in enumerate(rows):
        match = ID.fullmatch(row[0])
        if match["last"]:
            size = int(match["last"]) - int(match["first"]) + 1
            inside = [other for other in rows[number + 1 :] if other[0].isdecimal()][:size]
            gap = 0 if "".join(other[1] for other in inside) == row[1] else 1
            words += [other[1] for other in inside]
            spaces += [gap] * (len(inside) - 1) + [_space_after(row)] * bool(inside)
            covered = int(match["last"])
        elif row[0].isdecimal() and int(row[0]) > covered:
            words.append(row[1])
            spaces.append(_space_after(row))
    return words, spaces


def _space_after(row: Sequence[str]) -> int:
    return 0 if "SpaceAfter=No" in row[-1].split("|") else 1
