"""Writes the contextual string embeddings of tokenized sentences to a file, one vector for each token."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from lmtrain.cli.arguments import (
    Command,
    Device,
    Encoding,
    Errors,
    Lower,
    Option,
    Positional,
    Precision,
    Range,
    Untokenized,
)
from lmtrain.program.command import check_outputs

if TYPE_CHECKING:
    from lmtrain.inference.embeddings import StringEmbeddings
    from lmtrain.inference.vector_file import TokenizedSentence

EXAMPLES = """example:
  python scripts/embed.py forward/best-lm.pt backward/best-lm.pt sentences.txt --output vectors.npz

The output has the arrays vectors (float32, a row for each token), sentence_offsets (sentence i has the rows from
[i] to [i + 1]), and token_bytes with token_offsets (the tokens in UTF-8). Read it in Python:
    vectors, tokens = lmtrain.inference.vector_file.read_vectors("vectors.npz")       # a list item for each sentence"""

BLOCK = 2048  # sentences that are embedded, and whose vectors are in memory, at a time


@dataclass(frozen=True, kw_only=True)
class Options:
    models: Annotated[
        list[str], Positional("best-lm.pt; the vectors of several models are joined in this order", "MODEL")
    ]
    input: Annotated[str, Positional("a file with the sentences, in UTF-8; -: standard input", "INPUT")]
    output: Annotated[str, Option("output file, whose name ends in .safetensors or .npz", "FILE")]
    overwrite: Annotated[bool, Option("replace FILE if it exists")] = False
    format: Annotated[
        Literal["text", "conll", "conllu"],
        Option(
            "text: one sentence a line, with spaces between tokens; conll: one token a line with its columns, and an "
            "empty line after each sentence; conllu: the words of CoNLL-U (Universal Dependencies), without ranges "
            "and empty nodes"
        ),
    ] = "text"
    column: Annotated[int, Option("conll: the column of the token, counted from 0", None, Range(-(10**6), 10**6))] = 0
    comment: Annotated[str | None, Option("conll: skip lines that begin with PREFIX, such as '# '", "PREFIX")] = None
    untokenized: Untokenized = False
    encoding: Encoding = None
    errors: Errors = "strict"
    without_whitespace: Annotated[
        bool, Option("take the state at the last character of a token, not at the space after it")
    ] = False
    lower: Lower = False
    precision: Precision = "32"
    device: Device = "cpu"


def main(options: Options) -> None:
    check_outputs(options.output, overwrite=options.overwrite)

    from lmtrain.inference.embeddings import StringEmbeddings
    from lmtrain.inference.vector_file import check_vector_path, write_vectors
    from lmtrain.model_files.export import load_model

    check_vector_path(options.output)
    embeddings = StringEmbeddings(
        *(load_model(path, options.device) for path in options.models),
        with_whitespace=not options.without_whitespace,
        tokenized_lm=not options.untokenized,
        is_lower=options.lower,
        precision=options.precision,
    )
    sentences = list(_sentences(options))
    tokens = [sentence.tokens for sentence in sentences]
    write_vectors(options.output, tokens, _blocks(embeddings, sentences), embeddings.embedding_length)
    print(f"{sum(map(len, tokens))} vectors of {len(tokens)} sentences: {options.output}", file=sys.stderr)


def _sentences(options: Options) -> "Iterable[TokenizedSentence]":
    from lmtrain.inference.vector_file import read_conll_sentences, read_conllu_sentences, read_text_sentences

    if options.format == "conllu":
        return read_conllu_sentences(options.input, options.errors, options.encoding)
    if options.format == "conll":
        return read_conll_sentences(options.input, options.column, options.comment, options.errors, options.encoding)
    return read_text_sentences(options.input, options.errors, options.encoding)


def _blocks(embeddings: "StringEmbeddings", sentences: list) -> Iterator:
    """float32 arrays of the vectors, a block of sentences after the other."""
    import torch

    from lmtrain.program.time_left import time_left

    characters = [sum(map(len, one.tokens)) + len(one.tokens) for one in sentences]
    with time_left("Embedding", sum(characters)) as advance:
        for begin in range(0, len(sentences), BLOCK):
            block = sentences[begin : begin + BLOCK]
            tokens, spaces = [one.tokens for one in block], [one.whitespace_after for one in block]
            size = sum(characters[begin : begin + BLOCK])
            vectors = embeddings.embed(tokens, spaces, lambda share, size=size: advance(share * size))  # type: ignore[misc]
            yield torch.cat(vectors).cpu().numpy()


command = Command(main, Options, EXAMPLES)
