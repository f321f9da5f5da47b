"""Text that scripts are given is read as training reads it."""

import bz2
import gzip
import io
import json
import lzma
import sys
from pathlib import Path
from types import SimpleNamespace

import conllu
import pytest
from flair.datasets.treebanks import UniversalDependenciesDataset
from hypothesis import given
from hypothesis import strategies as st
from running import compose
from script_calls import call
from small_models import make_model

from lmtrain.config.schema import check_config
from lmtrain.data.corpus import document_blocks
from lmtrain.data.dictionary import Dictionary
from lmtrain.inference.embeddings import StringEmbeddings
from lmtrain.inference.scoring import score
from lmtrain.inference.text_input import without_empty_documents
from lmtrain.inference.vector_file import (
    read_conll_sentences,
    read_conllu_sentences,
    read_text_sentences,
    read_vectors,
)
from lmtrain.model_files.flair import load_dictionary, save_language_model
from lmtrain.training.fine_tuning import with_new_items
from lmtrain.training.text import prepare_text

TEXT = "The cat sat.\nä☃\n"
FORMS = {
    "mark": TEXT.encode("utf-8-sig"),
    "utf-16": TEXT.encode("utf-16"),
    "utf-32": b"\0\0\xfe\xff" + TEXT.encode("utf-32-be"),
    "crlf": TEXT.replace("\n", "\r\n").encode(),
    "cr": TEXT.replace("\n", "\r").encode(),
    "gz": gzip.compress(TEXT.encode()),
    "bz2": bz2.compress(TEXT.encode()),
    "xz": lzma.compress(TEXT.encode("utf-8-sig")),
}


@pytest.fixture
def model_file(tmp_path) -> Path:
    save_language_model(make_model(), tmp_path / "best-lm.pt")
    return tmp_path / "best-lm.pt"


@pytest.fixture
def typed(monkeypatch):
    """Puts bytes on standard input."""
    return lambda data: monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_text_is_the_same_text(form, model_file, tmp_path, capsys, typed):
    (tmp_path / "text").write_bytes(FORMS[form])
    expected = score(make_model(), [TEXT])[0]
    for file in (tmp_path / "text", "-"):
        typed(FORMS[form])
        assert call("score", model_file, "--json", file) == 0
        assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(expected.loss)
        typed(FORMS[form])
        assert call("score", "--per-line", model_file, file) == 0
        assert [line.split("\t")[2] for line in capsys.readouterr().out.splitlines()] == TEXT.splitlines()
        typed(FORMS[form])
        output = tmp_path / "vectors.npz"
        assert call("embed", model_file, "--overwrite", "--output", output, file) == 0
        assert read_vectors(output)[1] == [["The", "cat", "sat."], ["ä☃"]]
    assert [one.tokens for one in read_text_sentences(tmp_path / "text")] == [["The", "cat", "sat."], ["ä☃"]]


def test_bytes_that_are_not_utf8(model_file, tmp_path, capsys):
    (tmp_path / "text").write_bytes(b"gr\xfcn\n")
    assert call("score", model_file, tmp_path / "text", tmp_path / "none") == 2
    said = capsys.readouterr().err
    assert "text: byte 0xfc at offset 2" in said
    assert "none cannot be read: No such file" in said
    assert call("score", model_file, tmp_path / "text", "--errors", "replace", "--json") == 0
    found = json.loads(capsys.readouterr().out)["loss"]
    assert found == pytest.approx(score(make_model(), ["gr\ufffdn\n"])[0].loss)
    (tmp_path / "wide").write_bytes("text\n".encode("utf-16")[:-1])
    assert call("embed", model_file, tmp_path / "wide", f"--output={tmp_path}/v.npz") == 2
    assert "wide: byte 0x0a at offset 10 is not utf-16 (truncated data)" in capsys.readouterr().err


def test_empty_lines_are_left_out_and_it_is_said(model_file, tmp_path, capsys):
    (tmp_path / "text").write_text("\nThe cat.\n\n\nA mat.\n\n")
    assert call("score", model_file, tmp_path / "text", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["loss"] == pytest.approx(score(make_model(), ["The cat.\nA mat.\n"])[0].loss)
    assert "4 empty lines are left out, as in training" in printed.err


@given(st.lists(st.text("a\n|", max_size=9), max_size=6), st.sampled_from(["\n", "\n\n", "|a"]))
def test_what_is_left_is_what_training_reads(pieces, delimiter):
    text, empty = without_empty_documents(pieces, delimiter)
    whole = "".join(pieces)
    trained = "".join("".join(block) for block in document_blocks(pieces, delimiter))
    assert text == (trained if whole.endswith(delimiter) or not whole else trained.removesuffix(delimiter))
    assert empty * len(delimiter) == len(whole) - len(text)


def test_one_text_too_short_does_not_withhold_the_others(model_file, tmp_path, capsys):
    for name, text in (("a", "The cat.\n"), ("b", ""), ("c", "A mat.\n")):
        (tmp_path / name).write_text(text)
    paths = [tmp_path / name for name in "abc"]
    assert call("score", model_file, *paths) == 0
    printed = capsys.readouterr()
    assert [row.split()[-1] for row in printed.out.splitlines()[1:]] == [str(paths[0]), str(paths[2]), "total"]
    assert "b is too short to score: it needs at least two characters" in printed.err
    assert call("score", model_file, *paths, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["loss"] is None for row in rows] == [False, True, False, False]


def test_a_literal_unk_is_an_item_like_any_other():
    dictionary = Dictionary.from_counts({"<unk>": 5, "a": 3, "b": 1})
    assert dictionary.items == ("<unk>", "a", "b")
    words = ["a", "<unk>", "new", "b", "<unk>"]
    assert dictionary.are_unknown(words, dictionary.encode_words(words)).tolist() == [False, False, True, False, False]
    language_model = make_model(dictionary.items, level="word")
    assert score(language_model, [" ".join(words)])[0].unknown == 1
    assert score(language_model, ["new a"])[0].unknown == 0  # the first is not scored
    assert score(make_model(dictionary.items, level="word", is_forward_lm=False), ["new a"])[0].unknown == 1
    assert with_new_items(Dictionary(["a"]), {"<unk>": 5, "b": 1}).items == ("a", "b")


@pytest.mark.parametrize("wild", [0, 1])
def test_word_level_text_with_unk_can_be_trained_on(corpus_folder, tmp_path, wild):
    text = "the cat <unk> on the mat\n" * 20
    corpus = corpus_folder(train={"1.txt": text * 3}, valid=text + "wild\n" * wild, test=text)
    values = compose(
        *("data=folder", f"data.path={corpus}", f"data.cache_dir={tmp_path}/cache", "data.batch_size=2"),
        *("data.level=word", "dictionary.max_unknown=0.01"),
    )
    rates = prepare_text(check_config(values), 1).unknown_rates()
    assert rates == {"train/unknown_rate": 0, "val/unknown_rate": pytest.approx(wild / (120 + wild))}


def test_a_dictionary_with_a_byte_order_mark(tmp_path):
    Dictionary(["<unk>", "a"]).save(tmp_path / "dictionary.json")
    content = (tmp_path / "dictionary.json").read_bytes()
    (tmp_path / "dictionary.json").write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert load_dictionary(tmp_path / "dictionary.json").items == ("<unk>", "a")


def rows(*lines: str) -> str:
    """CoNLL-U from `ID FORM [MISC]`."""
    made = []
    for line in lines:
        if not line or line.startswith("#"):
            made.append(line)
            continue
        number, form, *misc = line.split()
        head = "0" if number.isdecimal() else "_"
        made.append("\t".join([number, form, *["_"] * 4, head, "_", "_", misc[0] if misc else "_"]))
    return "\n".join([*made, ""])


DONT = rows(
    *(
        "# sent_id = 1",
        "# text = We don't know.",
        "1 We",
        "2-3 don't",
        "2 do",
        "3 n't",
        "3.1 really",
        "4 know SpaceAfter=No",
    ),
    *(
        "5 .",
        "",
        "# text = Voir du pain!",
        "1 Voir",
        "2-3 du",
        "2 de",
        "3 le",
        "4 pain SpaceAfter=No|X=y",
        "5 !",
        "",
        "",
    ),
)


@pytest.mark.parametrize("options", [["--format", "conllu"], ["--format", "conll", "--column", 1, "--comment", "#"]])
def test_conllu_has_words_and_no_ranges_or_empty_nodes(options, model_file, tmp_path):
    (tmp_path / "text.conllu").write_text(DONT, encoding="utf-8-sig", newline="\r\n")
    output = tmp_path / "vectors.npz"
    assert call("embed", model_file, *options, "--untokenized", tmp_path / "text.conllu", "--output", output) == 0
    vectors, tokens = read_vectors(output)
    assert tokens == [["We", "do", "n't", "know", "."], ["Voir", "de", "le", "pain", "!"]]
    spaces = [[1, 0, 1, 0, 0], [1, 1, 1, 0, 0]]
    right = StringEmbeddings(make_model(), tokenized_lm=False).embed(tokens, spaces)
    assert max(abs(one - other.numpy()).max() for one, other in zip(vectors, right, strict=True)) < 1e-6


def test_flairs_reader_and_the_library_read_the_same(tmp_path):
    path = tmp_path / "text.conllu"
    path.write_text(DONT)
    ours = list(read_conllu_sentences(path))
    flairs = UniversalDependenciesDataset(path)
    assert [one.tokens for one in ours] == [[token.text for token in sentence] for sentence in flairs]
    for one, sentence in zip(ours, flairs, strict=True):
        assert one.whitespace_after[:-1] == [token.whitespace_after for token in sentence][:-1]
    words = [[word["form"] for word in sentence if isinstance(word["id"], int)] for sentence in conllu.parse(DONT)]
    assert [one.tokens for one in ours] == words


def test_the_range_says_what_stands_after_it(tmp_path):
    (tmp_path / "a").write_text(rows("# text = cannot.", "1-2 cannot SpaceAfter=No", "1 can", "2 not", "3 ."))
    (sentence,) = read_conllu_sentences(tmp_path / "a")
    assert (sentence.tokens, sentence.whitespace_after) == (["can", "not", "."], [0, 0, 1])
    (tmp_path / "ner").write_text("EU NNP B\n2-3 CD O\n")  # a score in a column of tokens is one
    (sentence,) = read_conll_sentences(tmp_path / "ner")
    assert sentence.tokens == ["EU", "2-3"]
