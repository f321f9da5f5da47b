#!/usr/bin/env python
"""Turns tokenized sentences into files of contextual string embeddings, one vector a token."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from lmtrain.cli.arguments import Range, add_encoding, parse
from lmtrain.program.command import check_outputs, run

if TYPE_CHECKING:
    from lmtrain.inference.embeddings import StringEmbeddings
    from lmtrain.inference.vector_file import TokenizedSentence

EXAMPLE = """example:  python scripts/embed.py forward/best-lm.pt backward/best-lm.pt sentences.txt --output vectors.npz

The output holds the arrays vectors (float32, a row for each token), sentence_offsets (sentence i has the rows from
[i] to [i + 1]), and token_bytes with token_offsets (the tokens in UTF-8). In Python:
    vectors, tokens = lmtrain.inference.vector_file.read_vectors("vectors.npz")       # a list item for each sentence"""

BLOCK = 2048  # sentences that are embedded, and whose vectors are in memory, at a time


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(_parser(), arguments, column=Range(-(10**6), 10**6))
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


def _sentences(options: argparse.Namespace) -> "Iterable[TokenizedSentence]":
    from lmtrain.inference.vector_file import read_conll_sentences, read_conllu_sentences, read_text_sentences

    if options.format == "conllu":
        return read_conllu_sentences(options.input, options.errors, options.encoding)
    if options.format == "conll":
        return read_conll_sentences(options.input, options.column, options.comment, options.errors, options.encoding)
    return read_text_sentences(options.input, options.errors, options.encoding)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models", metavar="MODEL", nargs="+", help="best-lm.pt; the vectors of several are joined, in this order"
    )
    parser.add_argument("input", metavar="INPUT", help="a file with the sentences, in UTF-8; -: standard input")
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="where to write; the name ends in .safetensors or .npz"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    parser.add_argument(
        "--format",
        choices=["text", "conll", "conllu"],
        default="text",
        help="text: a sentence a line, tokens separated by spaces; conll: a token a line, then its columns, an empty "
        "line after each sentence; conllu: CoNLL-U, as Universal Dependencies have it: the words, without ranges and "
        "empty nodes (default: %(default)s)",
    )
    parser.add_argument(
        "--column", type=int, default=0, help="conll: which column is the token, counted from 0 (default: %(default)s)"
    )
    parser.add_argument("--comment", metavar="PREFIX", help="conll: skip lines that begin with PREFIX, such as '# '")
    parser.add_argument(
        "--untokenized",
        action="store_true",
        help="the models were trained on untokenized text: no space after CoNLL-U's SpaceAfter=No",
    )
    add_encoding(parser)
    parser.add_argument(
        "--errors",
        choices=["strict", "replace"],
        default="strict",
        help="other bytes: strict stops at them, replace reads them as U+FFFD (default: %(default)s)",
    )
    parser.add_argument(
        "--without-whitespace", action="store_true", help="take the state at a token's last character, not after it"
    )
    parser.add_argument("--lower", action="store_true", help="the models were trained on text in lower case")
    parser.add_argument(
        "--precision",
        choices=["32", "bf16"],
        default="32",
        help="bf16: compute in bfloat16 where the device is faster at it (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    return parser


def _blocks(embeddings: "StringEmbeddings", sentences: list) -> Iterator:
    """float32 arrays of the vectors, a block of sentences after the other."""
    import torch

    from lmtrain.program.time_left import part_of, time_left

    characters = [sum(map(len, one.tokens)) + len(one.tokens) for one in sentences]
    with time_left("Embedding", sum(characters)) as advance:
        for begin in range(0, len(sentences), BLOCK):
            block = sentences[begin : begin + BLOCK]
            tokens, spaces = [one.tokens for one in block], [one.whitespace_after for one in block]
            vectors = embeddings.embed(tokens, spaces, part_of(advance, sum(characters[begin : begin + BLOCK])))
            yield torch.cat(vectors).cpu().numpy()


command = partial(run, main)

if __name__ == "__main__":
    sys.exit(command())
