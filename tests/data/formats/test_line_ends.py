"""What ends a line is the same for training, dictionaries, scores, checks, embeddings and every format of lines."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from preparing import everything, options, prepare
from script_calls import call
from small_models import make_model
from test_formats import Read, tar

from lmtrain.data.corpus import TextFile, document_blocks, read_text
from lmtrain.data.id_cache import TextFormat
from lmtrain.errors import UserError
from lmtrain.inference.text_input import input_lines
from lmtrain.inference.vector_file import read_text_sentences
from lmtrain.model_files.flair import save_language_model
from lmtrain.prepare.cleaning import Cleaning
from lmtrain.prepare.corpus_scan import scan_corpus
from lmtrain.prepare.dictionary_counts import count_texts

LINES = ["one\u2028two\x85three\u2029", "\x0bfour\x0c\x1cfive\x1d\x1e", "s\0ix seven <unk>", "end"]


@pytest.fixture(params=["\n", "\r\n", "\r"])
def path(request, tmp_path: Path) -> Path:
    """A text in which lines end so, with empty lines and a byte-order mark."""
    (tmp_path / "text").write_bytes(("\ufeff" + "".join(line + 2 * request.param for line in LINES)).encode())
    return tmp_path / "text"


def test_only_line_feeds_and_carriage_returns_end_a_line(path: Path) -> None:
    file = TextFile(str(path), "text", path.stat().st_size, "")
    trained = [document[:-1] for block in document_blocks(read_text(file), "\n") for document in block]
    assert trained == LINES
    assert [line for line in input_lines(str(path)) if line] == LINES
    sentences = [one.tokens for one in read_text_sentences(path) if one.tokens]
    assert sentences == [line.split(" ") for line in LINES]
    parts = scan_corpus({"train": [file], "valid": [file], "test": [file]}, TextFormat())
    assert (parts["train"].documents, parts["train"].characters) == (4, sum(map(len, LINES)) + 4)
    counts = count_texts([path], TextFormat(), path.parent / "cache", "text")
    assert counts.total() == sum(map(len, LINES)) + 4
    assert (counts["\u2028"], counts["\0"], counts["\r"], counts["\n"]) == (1, 1, 0, 4)


def test_a_score_has_a_line_for_each(path: Path, capsys) -> None:
    save_language_model(make_model(), path.parent / "best-lm.pt")
    capsys.readouterr()
    assert call("score", "--per-line", path.parent / "best-lm.pt", path) == 0
    rows = [row for row in capsys.readouterr().out.split("\n") if row]
    assert len([row for row in rows if row.split("\t", 2)[2]]) == len(LINES)


def test_every_format_has_the_same_lines(path: Path) -> None:
    folder, text = path.parent, path.read_bytes()
    assert Read(folder, text, format="text").documents == LINES
    assert Read(folder, tar({"a": text}), format="text").documents == LINES
    records = "".join(json.dumps({"text": line}, ensure_ascii=False) + "\r\n" for line in LINES)
    assert Read(folder, records).documents == LINES
    assert Read(folder, json.dumps([{"text": line} for line in LINES], ensure_ascii=False)).documents == LINES
    table = io.StringIO()
    csv.writer(table).writerows([["id", "text"], *enumerate(LINES)])
    assert Read(folder, table.getvalue(), format="csv").documents == LINES
    columns = io.BytesIO()
    pq.write_table(pa.table({"text": ["\r\n\r\n".join(LINES)]}), columns)
    assert Read(folder, columns.getvalue(), split_at="\n").documents == LINES
    numbered = "".join(f"{number}\t{line}\r" for number, line in enumerate(LINES, 1))
    assert Read(folder, numbered, format="leipzig").documents == LINES


def test_without_cleaning_what_is_prepared_is_what_was_there(path: Path) -> None:
    more = [f"{line}{number}" for line in LINES for number in range(40)]
    (path.parent / "raw").write_text("\r\n".join(more) + "\r\n", encoding="utf-8", newline="")
    untouched = Cleaning(remove_control=False, normalize=None, trim=False)
    prepare([path.parent / "raw"], path.parent / "corpus", options(cleaning=untouched, format="text", block_size=99))
    assert everything(path.parent / "corpus") == sorted(more)


def test_what_was_prepared_as_text_is_trained_on_as_text(tmp_path: Path) -> None:
    rows = [f"{number}\tone\tof the rows" for number in range(90)]
    (tmp_path / "raw").write_text("\n".join(rows))
    prepare([tmp_path / "raw"], tmp_path / "corpus", options(format="text"))
    assert everything(tmp_path / "corpus") == sorted(rows)
    with (tmp_path / "corpus" / "valid.txt").open("a") as file:
        file.write("9\tnot\tprepared\n")
    with pytest.raises(UserError, match=r"valid\.txt is a table"):
        everything(tmp_path / "corpus")
