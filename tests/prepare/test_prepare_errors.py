"""What preparing a corpus refuses, and that it leaves what was there as it was."""

import bz2
import errno
import gzip
from pathlib import Path

import pytest
from preparing import content, options, prepare, write_parquet

from lmtrain.errors import UserError
from lmtrain.prepare import tasks
from lmtrain.prepare.cleaning import Cleaning
from lmtrain.prepare.folder import prepare_corpus
from lmtrain.prepare.shuffling import Dealing


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"good\n" * 30 + b"caf\xe9\n" + b"bad \xff\n" * 20)
    (tmp_path / "latin.txt.gz").write_bytes(gzip.compress(b"caf\xe9\n"))
    (tmp_path / "torn.txt.gz").write_bytes(gzip.compress(b"text\n" * 1000)[:-10])
    (tmp_path / "torn.jsonl.bz2").write_bytes(bz2.compress(b'{"text": "a"}\n' * 1000)[:-20])
    (tmp_path / "bad.jsonl").write_text('{"id": 1}\n{"text": \n')
    (tmp_path / "other.jsonl").write_text('{"body": "a", "id": 3}\n')
    (tmp_path / "number.jsonl").write_text('{"text": 3}\n')
    (tmp_path / "not.parquet").write_text("PAR1 and no more")
    write_parquet(tmp_path / "other.parquet", ["a"])
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError) as error:
        prepare([tmp_path], tmp_path / "corpus", options(block_size=50))
    problems = error.value.problems
    assert len(problems) == 8
    text = "\n".join(problems)
    assert f"{tmp_path}/latin.txt: byte 0xe9 at offset 153 is not UTF-8" in text
    assert f"{tmp_path}/latin.txt.gz: byte 0xe9 at offset 3" in text
    assert f"{tmp_path}/torn.txt.gz cannot be read" in text
    assert f"{tmp_path}/torn.jsonl.bz2 cannot be read" in text
    assert f"{tmp_path}/bad.jsonl, read as JSON Lines, has nothing that can be used: 1 × no field 'text'" in text
    assert '1 × a line is not JSON (Expecting value: line 1 column 10 (char 9): {"text": )' in text
    assert "other.jsonl, read as JSON Lines, has nothing" in text
    assert "1 × no field 'text' (only body, id: choose one with --field)" in text
    assert "1 × the field holds no text (but 3: choose another with --field)" in text
    assert "not.parquet cannot be read as Parquet" in text
    with pytest.raises(UserError, match=r"other\.parquet has no column 'body', only id, text"):
        prepare([tmp_path / "other.parquet"], tmp_path / "corpus", options(field="body"))
    with pytest.raises(UserError) as error:
        prepare([tmp_path / "none", tmp_path / "*.doc", "nosuch://x"], tmp_path / "corpus")
    assert len(error.value.problems) == 3
    assert set(tmp_path.iterdir()) == before


def test_a_text_without_document_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("data.formats.reader", "prepare.sources"):
        monkeypatch.setattr(f"lmtrain.{module}.LONGEST", 2 << 20)
    (tmp_path / "a.txt").write_bytes(b"abc " * (1 << 20))
    with gzip.open(tmp_path / "b.txt.gz", "wb", compresslevel=1) as file:
        file.write(b"abc " * (1 << 20))
    for name in ("a.txt", "b.txt.gz"):
        with pytest.raises(UserError, match=r"no document ends within 2 MiB. Name what separates .* --split-at"):
            prepare([tmp_path / name], tmp_path / "corpus", options(block_size=1 << 20))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dealing": Dealing(0, 0.1)}, "--valid 0: it must be a share"),
        ({"dealing": Dealing(0.5, 0.5)}, "leave nothing to train on"),
        ({"split_size": 0}, "--split-size 0"),
        ({"document_delimiter": ""}, "--document-delimiter is empty"),
        ({"cleaning": Cleaning(min_length=5, max_length=4)}, "--min-length 5 is more than --max-length 4"),
        ({"cleaning": Cleaning(max_markup=2)}, "--max-markup 2: it must be a share"),
        ({"cleaning": Cleaning(min_length=1000)}, "No document is left"),
        ({"dealing": Dealing(1e-9, 0.1)}, "No document falls into valid: of 900, 0.00% should. Raise --valid"),
    ],
)
def test_options_that_cannot_be(raw: Path, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare([raw], tmp_path / "corpus", options(**changes))
    assert not (tmp_path / "corpus").exists()


def test_too_little_text_for_three_parts(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("one line\n")
    with pytest.raises(UserError, match=r"No document falls into (?:valid|test): of 1, .* should\. Raise --"):
        prepare([tmp_path / "raw"], tmp_path / "corpus")


def test_nothing_is_overwritten_unasked(raw: Path, tmp_path: Path) -> None:
    output = tmp_path / "corpus"
    output.mkdir()
    prepare([raw], output, options())  # an empty folder is as good as none
    before = content(output)
    with pytest.raises(UserError, match=r"exists\. Name another place"):
        prepare([raw / "a.txt"], output, options())
    assert content(output) == before
    prepare([raw / "a.txt"], output, options(), overwrite=True)
    assert content(output) != before
    (output / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"no manifest.json"):
        prepare([raw], output, options(), overwrite=True)
    with pytest.raises(UserError, match="does not exist"):
        prepare([raw], tmp_path / "no" / "corpus", options())


def test_an_interruption_leaves_what_was_there(raw: Path, tmp_path: Path) -> None:
    prepare([raw], tmp_path / "corpus", options())
    before = content(tmp_path / "corpus")

    for phase in ("Reading", "Writing"):

        def interrupt(what: str, done: int, total: int, phase: str = phase) -> None:  # noqa: ARG001
            if what == phase and done:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prepare([raw], tmp_path / "corpus", options(), overwrite=True, progress=interrupt)
        assert content(tmp_path / "corpus") == before
        assert {path.name for path in tmp_path.iterdir()} == {"raw", "corpus"}


def test_a_full_disk_is_not_the_source_s_fault(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for task in ("write_run", "merge"):
        with monkeypatch.context() as patch:
            patch.setattr(tasks, task, full)
            with pytest.raises(UserError, match=r"The disk of .*corpus is full"):
                prepare([raw], tmp_path / "corpus", options())
    assert {path.name for path in tmp_path.iterdir()} == {"raw"}


def test_no_cluster(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmtrain.prepare.graph._CONNECT_SECONDS", 0.5)
    with pytest.raises(UserError, match=r"--scheduler tcp://127\.0\.0\.1:9: no Dask scheduler answers there"):
        prepare_corpus([raw], tmp_path / "corpus", options(), scheduler_address="tcp://127.0.0.1:9")
    with pytest.raises(UserError, match="--scheduler nonsense://x"):
        prepare_corpus([raw], tmp_path / "corpus", options(), scheduler_address="nonsense://x")
