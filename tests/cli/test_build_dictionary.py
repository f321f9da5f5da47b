"""build_dictionary.py: counts, the coverage curve, the cut-offs, and both files that it writes."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from script_calls import call

from lmtrain.data.dictionary import UNK, Dictionary
from lmtrain.data.id_cache import TextFormat
from lmtrain.errors import UserError
from lmtrain.model_files.flair import load_dictionary
from lmtrain.prepare.dictionary_counts import count_texts, coverage_curve, covered, table

counters = st.dictionaries(st.text(min_size=1, max_size=1), st.integers(1, 1000), min_size=1, max_size=20).map(Counter)


@given(counters)
def test_the_table_and_the_curve_agree_with_the_dictionary(counts: Counter) -> None:
    rows = table(counts)
    assert {row.item: row.count for row in rows} == counts
    assert rows[-1].cumulative == 1
    assert [row.item for row in rows] == [item for item in Dictionary.from_counts(counts).items if item != UNK]
    for point, share in zip(coverage_curve(counts, (0.3, 0.9, 1.0)), (0.3, 0.9, 1.0), strict=True):
        chosen = Dictionary.from_counts(counts, coverage=share)
        assert point.items == len(chosen) - 1
        assert point.rarest == counts[chosen.items[-1]]
        assert covered(counts, chosen) >= share - 1e-9
        assert covered(counts, Dictionary(chosen.items[:-1])) < share


def test_training_files_of_a_corpus_and_other_texts_are_counted(corpus_folder, tmp_path: Path) -> None:
    folder = corpus_folder(train={"1.txt": "aab\n", "2.txt": "äb\r\n"}, valid="vvv\n", test="ttt\n")
    assert count_texts([folder], TextFormat(), tmp_path / "cache") == Counter("aab\näb\n")
    with gzip.open(tmp_path / "more.txt.gz", "wt", encoding="utf-8") as file:
        file.write("語 a\n")
    inputs = [folder, tmp_path / "more.*", tmp_path / "more.txt.gz"]
    assert count_texts(inputs, TextFormat(), tmp_path / "cache") == Counter("aab\näb\n語 a\n")
    assert count_texts([folder, tmp_path / "more.txt.gz"], TextFormat("word"), tmp_path / "cache") == Counter(
        ["aab", "äb", "語", "a"]
    )


def test_all_that_is_wrong_with_the_inputs_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9")
    (tmp_path / "records.jsonl").write_text('{"text": "a"}')
    with pytest.raises(UserError) as error:
        count_texts([tmp_path / "none.txt", tmp_path / "records.jsonl"], TextFormat(), tmp_path / "cache")
    assert len(error.value.problems) == 2
    assert "scripts/prepare_corpus.py" in error.value.problems[1]
    with pytest.raises(UserError, match="byte 0xe9 at offset 3"):
        count_texts([tmp_path / "bad.txt"], TextFormat(), tmp_path / "cache")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UserError, match="no text to count"):
        count_texts([tmp_path / "empty.txt"], TextFormat(), tmp_path / "cache")


def test_script(corpus_folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = corpus_folder(train={"1.txt": "eeee nnn ss [\u0301\n"})
    output, pickled = tmp_path / "dictionary.json", tmp_path / "dictionary.pkl"
    arguments = ("build_dictionary", folder, "--cache-dir", tmp_path / "cache", "--output", output)
    assert call(*arguments, "--flair", pickled, "--min-count", "2") == 0
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines()]
    assert ["1", "e", "latin", "small", "letter", "e", "4", "26.6667%", "26.6667%"] in lines
    assert ["2", "U+0020", "space", "3", "20.0000%", "46.6667%"] in lines
    assert ["-", "[", "left", "square", "bracket", "1", "6.6667%", "93.3333%"] in lines
    assert ["-", "U+0301", "combining", "acute", "accent", "1", "6.6667%", "100.0000%"] in lines
    assert ["50.000%", "3", "3×"] in lines
    assert ["100.000%", "7", "1×"] in lines
    assert "5 items, <unk> among them, cover 80.0000% of 15." in printed
    assert f"dictionary.path={output}" in printed
    assert Dictionary.load(output).items == (UNK, "e", " ", "n", "s")
    assert load_dictionary(pickled) == Dictionary.load(output)
    assert json.loads(output.read_text())["items"][0] == UNK

    assert call(*arguments) == 2
    assert "dictionary.json exists" in capsys.readouterr().err
    assert call(*arguments, "--overwrite", "--coverage", "0.4", "--rows", "1") == 0
    assert "... and 6 more (--rows 0 shows all)" in capsys.readouterr().out
    assert Dictionary.load(output).items == (UNK, "e", " ")
    assert call(*arguments, "--overwrite", "--max-size", "1") == 0
    assert Dictionary.load(output).items == (UNK, "e")
    capsys.readouterr()
    assert call(*arguments, "--coverage", "2", "--min-count", "0") == 2
    assert capsys.readouterr().err.startswith("2 errors:\n  1. --min-count is 0; it must be at least 1.")


def test_flair_reads_the_pickle(corpus_folder, tmp_path: Path) -> None:
    flair = pytest.importorskip("flair.data")
    folder = corpus_folder(train={"1.txt": "äa語\n"})
    pickled = tmp_path / "dictionary.pkl"
    assert call("build_dictionary", folder, "--cache-dir", tmp_path / "cache", "--flair", pickled) == 0
    dictionary = flair.Dictionary.load_from_file(str(pickled))
    assert dictionary.get_items() == list(load_dictionary(pickled).items)
