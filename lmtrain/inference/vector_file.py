"""Reads tokenized sentences from text files, and writes and reads files of their vectors."""

import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np

from lmtrain.data.formats.conllu_words import COLUMNS, ID, words_of_sentence
from lmtrain.errors import UserError
from lmtrain.inference.text_input import input_lines
from lmtrain.program.files import atomic_write


@dataclass(frozen=True)
class TokenizedSentence:
    """Tokens, and how many spaces follow each of them in the original text."""

    tokens: list[str]
    whitespace_after: list[int]


def read_text_sentences(
    path: str | Path, errors: str = "strict", encoding: str | None = None
) -> Iterator[TokenizedSentence]:
    """Reads a sentence a line, its tokens separated by spaces. An empty line is a sentence without tokens.

    Args:
        path: the file, or "-" for standard input.
        errors: "strict", or "replace" to read bytes that are not in the encoding as U+FFFD.
        encoding: of text without a byte-order mark; None for UTF-8.

    Raises:
        UserError: the file cannot be read or is not UTF-8.
    """
    for line in input_lines(str(path), errors, encoding):
        tokens = [token for token in line.split(" ") if token]
        yield TokenizedSentence(tokens, [1] * len(tokens))


def read_conll_sentences(
    path: str | Path,
    column: int = 0,
    comment: str | None = None,
    errors: str = "strict",
    encoding: str | None = None,
) -> Iterator[TokenizedSentence]:
    """Reads a token with its columns a line, sentences separated by empty lines.

    Columns are separated by tabs if the line has any, else by white space. A token whose last column has
    `SpaceAfter=No`, as in CoNLL-U, has no space after it. If `column` is 1 and a sentence has ten columns with a number
    first, it is read as CoNLL-U: see `read_conllu_sentences`.

    Args:
        path, errors, encoding: as of `read_text_sentences`.
        column: which column is the token, counted from 0.
        comment: lines that begin with this are skipped; None to skip none.

    Raises:
        UserError: the file cannot be read, is not UTF-8, or a line has too few columns.
    """
    for rows in sentence_rows(path, comment, errors, encoding):
        fields = [(number, line, line.split("\t") if "\t" in line else line.split()) for number, line in rows]
        words = [row for _, line, row in fields if not line.startswith("#")]
        if column == 1 and all(len(row) == len(COLUMNS) and ID.fullmatch(row[0]) for row in words):
            yield TokenizedSentence(*words_of_sentence(words))
            continue
        for number, line, row in fields:
            if not -len(row) <= column < len(row):
                raise UserError(f"{path}, line {number}: there is no column {column} in {line!r} (the first is 0).")
        spaces = [0 if "SpaceAfter=No" in row[-1].split("|") else 1 for _, _, row in fields]
        yield TokenizedSentence([row[column] for _, _, row in fields], spaces)


def read_conllu_sentences(
    path: str | Path, errors: str = "strict", encoding: str | None = None
) -> Iterator[TokenizedSentence]:
    """Reads the words of CoNLL-U (Universal Dependencies); see `lmtrain.data.formats.conllu_words`.

    Args:
        path, errors, encoding: as of `read_text_sentences`.

    Raises:
        UserError: the file cannot be read, is not UTF-8, or a line is not CoNLL-U.
    """
    for rows in sentence_rows(path, "#", errors, encoding):
        fields = [line.split("\t") for _, line in rows]
        for (number, line), row in zip(rows, fields, strict=True):
            if len(row) != len(COLUMNS) or not ID.fullmatch(row[0]):
                raise UserError(
                    f"{path}, line {number}: {line!r} is not CoNLL-U, which has {len(COLUMNS)} columns with a tab "
                    "between them, the first of them the word's number. For other columns: --format conll."
                )
        yield TokenizedSentence(*words_of_sentence(fields))


def sentence_rows(
    path: str | Path, comment: str | None, errors: str = "strict", encoding: str | None = None
) -> Iterator[list[tuple[int, str]]]:
    """The lines of each sentence with their numbers in the file; empty lines separate sentences.

    Args:
        path, errors, encoding: as of `read_text_sentences`.
        comment: lines that begin with this are skipped; None to skip none.
    """
    rows = []
    for number, line in enumerate(input_lines(str(path), errors, encoding), 1):
        if comment and line.startswith(comment):
            continue
        if line.strip():
            rows.append((number, line))
        elif rows:
            yield rows
            rows = []
    if rows:
        yield rows


def write_vectors(
    path: str | Path, sentences: Sequence[Sequence[str]], vectors: Iterable[np.ndarray], dimension: int
) -> None:
    """Writes the vectors of sentences, block by block, with an index by sentence and token.

    A `.safetensors` or `.npz` file (which `numpy.load` reads) with the arrays

    - `vectors`: float32 `(tokens, dimension)`, of all tokens in their order
    - `sentence_offsets`: int64 `(sentences + 1,)`; sentence i has the rows from `[i]` to `[i + 1]`
    - `token_offsets`: int64 `(tokens + 1,)`; token j is the bytes from `[j]` to `[j + 1]` of
    - `token_bytes`: uint8, all tokens in UTF-8

    Args:
        path: ends in `.safetensors` or `.npz`.
        sentences: the tokens.
        vectors: float32 `(N, dimension)` blocks, whose rows together are the tokens'.
        dimension: the length of a vector.

    Raises:
        UserError: the name ends in something else, or a vector has NaN or infinity; then no file is left.
    """
    encoded = [token.encode("utf-8", "surrogatepass") for tokens in sentences for token in tokens]
    index = {
        "sentence_offsets": _offsets(len(tokens) for tokens in sentences),
        "token_offsets": _offsets(map(len, encoded)),
        "token_bytes": np.frombuffer(b"".join(encoded), np.uint8),
    }
    writers = {".npz": _write_npz, ".safetensors": _write_safetensors}
    check_vector_path(path)
    with atomic_write(path) as unfinished:
        writers[Path(path).suffix](unfinished, index, (len(encoded), dimension), vectors)


def check_vector_path(path: str | Path) -> None:
    """Raises `UserError` if `write_vectors` would not write to a file of this name."""
    if Path(path).suffix not in (".npz", ".safetensors"):
        raise UserError(f"{path}: the name of a file of vectors must end in .safetensors or .npz.")


def _offsets(lengths: Iterable[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.fromiter(lengths, np.int64))]).astype(np.int64)


def _write_npz(path: Path, index: dict[str, np.ndarray], shape: tuple[int, int], vectors: Iterable[np.ndarray]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in index.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
        with archive.open("vectors.npy", "w", force_zip64=True) as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            _write_blocks(file, vectors)


def _write_safetensors(
    path: Path, index: dict[str, np.ndarray], shape: tuple[int, int], vectors: Iterable[np.ndarray]
) -> None:
    types = {"int64": "I64", "uint8": "U8"}
    tensors = {name: (types[str(array.dtype)], array.shape, array.nbytes) for name, array in index.items()}
    # The order keeps every array aligned: eight-byte numbers first, single bytes last.
    order = ["sentence_offsets", "token_offsets", "vectors", "token_bytes"]
    tensors["vectors"] = ("F32", shape, 4 * shape[0] * shape[1])
    header, end = {}, 0
    for name in order:
        dtype, array_shape, size = tensors[name]
        header[name] = {"dtype": dtype, "shape": list(array_shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            if name == "vectors":
                _write_blocks(file, vectors)
            else:
                file.write(index[name].tobytes())


def _write_blocks(file: IO[bytes], vectors: Iterable[np.ndarray]) -> None:
    for block in vectors:
        if not np.isfinite(block).all():
            raise UserError("A vector has numbers that are not finite. Take a model of a run that did not diverge.")
        file.write(np.ascontiguousarray(block, "<f4").tobytes())


def read_vectors(path: str | Path) -> tuple[list[np.ndarray], list[list[str]]]:
    """Reads a file of `write_vectors`: float32 `(tokens, dimension)` and the tokens, for every sentence."""
    if Path(path).suffix == ".npz":
        with np.load(path) as archive:
            arrays = dict(archive)
    else:
        from safetensors.numpy import load_file

        arrays = load_file(path)
    text, bounds = arrays["token_bytes"].tobytes(), arrays["token_offsets"]
    tokens = [text[begin:end].decode("utf-8", "surrogatepass") for begin, end in pairwise(bounds)]
    ends = arrays["sentence_offsets"].tolist()
    pairs = list(pairwise(ends))
    return [arrays["vectors"][begin:end] for begin, end in pairs], [tokens[begin:end] for begin, end in pairs]
