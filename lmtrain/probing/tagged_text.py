"""Reads tagged sentences from files of columns and from CoNLL-U."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmtrain.data.formats.conllu_words import COLUMNS, ID, words_of_sentence
from lmtrain.errors import UserError
from lmtrain.inference.vector_file import TokenizedSentence, sentence_rows

_UPOS = COLUMNS.index("UPOS")
_NO_TAG = "_"
_DOCUMENT_START = "-DOCSTART-"
_LANGUAGE = re.compile(r"[a-z]{2,3}:")
_REMEDY = "Choose another column, counted from 0: --column N (train.py: callbacks.probe.column=N)."
_MANY = 100  # more different values than this, and than a tenth of the tokens, are words or lemmas, not tags


@dataclass(frozen=True)
class TaggedSentence(TokenizedSentence):
    """Tokens, how many spaces follow each of them in the original text, and their tags."""

    tags: list[str]


def read_tagged_sentences(
    path: str | Path,
    column: int | None = None,
    token_column: int = 0,
    comment: str | None = None,
    encoding: str | None = None,
) -> list[TaggedSentence]:
    """Reads the sentences of a file, plain or compressed.

    CoNLL-U (ten columns with tabs between them, the first of them the word's number) is read by its own rules: words
    without ranges and empty nodes, the tag in the fourth column (UPOS). Anything else is a token a line with its
    columns, separated by tabs if the line has any, else by white space, with empty lines between sentences; its last
    column is the tag. The language in WikiANN's `de:Haus`, and CoNLL-2003's -DOCSTART- lines are left out.

    Args:
        path: the file.
        column: the column of the tag, counted from 0, or from the last if negative; None for the defaults above.
        token_column: the column of the token; unused for CoNLL-U.
        comment: lines that begin with this are skipped; in CoNLL-U those that begin with `#` always are.
        encoding: of text without a byte-order mark; None for UTF-8.

    Raises:
        UserError: the file cannot be read, has no sentences or not these columns, or the column holds no tags.
    """
    sentences, is_conllu = [], None
    for rows in sentence_rows(path, comment, encoding=encoding):
        if is_conllu is None:
            words = [line.split("\t") for _, line in rows if not line.startswith("#")]
            is_conllu = bool(words) and all(len(row) == len(COLUMNS) and ID.fullmatch(row[0]) for row in words)
        if is_conllu:
            sentence = _conllu_sentence(str(path), rows, column)
        else:
            sentence = _sentence_of_columns(str(path), rows, column, token_column)
        if sentence.tokens and sentence.tokens != [_DOCUMENT_START]:
            sentences.append(sentence)
    if not sentences:
        raise UserError(f"{path} has no sentences. It must have a token and its tag in each line.")
    where = f"column {_UPOS} (UPOS)" if is_conllu and column is None else f"column {-1 if column is None else column}"
    _check_tags(str(path), sentences, where)
    return _without_language(sentences)


def _conllu_sentence(path: str, rows: list[tuple[int, str]], column: int | None) -> TaggedSentence:
    rows = [(number, line) for number, line in rows if not line.startswith("#")]
    fields = [line.split("\t") for _, line in rows]
    for (number, line), row in zip(rows, fields, strict=True):
        if len(row) != len(COLUMNS) or not ID.fullmatch(row[0]):
            raise UserError(
                f"{path}, line {number}: {line!r} is not CoNLL-U, which the lines before are: {len(COLUMNS)} columns "
                "with a tab between them, the first of them the word's number."
            )
    wanted = _UPOS if column is None else column
    if not -len(COLUMNS) <= wanted < len(COLUMNS):
        raise UserError(f"{path}: --column {wanted}: {_columns_of(fields[0], 'CoNLL-U')}")
    tokens, spaces = words_of_sentence(fields)
    tags, _ = words_of_sentence([[row[0], row[wanted], *row[2:]] for row in fields])
    return TaggedSentence(tokens, spaces, tags)


def _sentence_of_columns(
    path: str, rows: list[tuple[int, str]], column: int | None, token_column: int
) -> TaggedSentence:
    tokens, tags = [], []
    has_tabs = any("\t" in line for _, line in rows)
    for number, line in rows:
        if has_tabs and line.startswith("#") and "\t" not in line:
            continue  # a comment, as CoNLL-U Plus has them
        row = line.split("\t") if "\t" in line else line.split()
        wanted = -1 if column is None else column
        if row[0] == _DOCUMENT_START:
            continue
        for name, place in (("--column", wanted), ("--token-column", token_column)):
            if not -len(row) <= place < len(row):
                raise UserError(f"{path}, line {number}: {name} {place}: {_columns_of(row, 'the line')}")
        if wanted % len(row) == token_column % len(row):
            raise UserError(
                f"{path}, line {number}: the token and its tag would be the same column: {_columns_of(row, 'the line')}"
            )
        if not row[token_column] or not row[wanted]:
            raise UserError(f"{path}, line {number}: a token or its tag is empty: {_columns_of(row, 'the line')}")
        tokens.append(row[token_column])
        tags.append(row[wanted])
    return TaggedSentence(tokens, [1] * len(tokens), tags)


def _columns_of(row: Sequence[str], what: str) -> str:
    """The columns of a row as text: "the line has 2 columns, 0: 'Haus', 1: 'NN'."."""
    cells = ", ".join(f"{number}: {cell!r}" for number, cell in enumerate(row))
    s = "" if len(row) == 1 else "s"
    return f"{what} has {len(row)} column{s}, {cells}."


def _check_tags(path: str, sentences: list[TaggedSentence], where: str) -> None:
    tags = [tag for sentence in sentences for tag in sentence.tags]
    different = sorted(set(tags))
    if different == [_NO_TAG]:
        raise UserError(f"{path}: {where} has no tags: it is {_NO_TAG!r} everywhere. {_REMEDY}")
    if len(different) == 1:
        raise UserError(f"{path}: {where} is {different[0]!r} everywhere, so there is nothing to learn. {_REMEDY}")
    if len(different) > max(_MANY, len(tags) // 10):
        some = ", ".join(map(repr, different[:: len(different) // 5][:5]))
        raise UserError(
            f"{path}: {where} holds {len(different):,} different values in {len(tags):,} tokens, such as {some}: these "
            f"are no tags. {_REMEDY}"
        )


def _without_language(sentences: list[TaggedSentence]) -> list[TaggedSentence]:
    """Removes the prefix of WikiANN's `de:Haus`, if all tokens have it."""
    prefix = _LANGUAGE.match(sentences[0].tokens[0])
    if prefix is None or not all(token.startswith(prefix[0]) for one in sentences for token in one.tokens):
        return sentences
    size = len(prefix[0])
    return [TaggedSentence([token[size:] for token in one.tokens], one.whitespace_after, one.tags) for one in sentences]
