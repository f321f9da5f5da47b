"""The corpus folder: text and documents are read as Flair reads them, and all mistakes are told at once."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
import zstandard
from corpora import sentences, write_corpus
from hypothesis import given
from hypothesis import strategies as st

from lmtrain.data import corpus
from lmtrain.data.corpus import TextFile, document_blocks, find_corpus, read_text
from lmtrain.data.formats import streams
from lmtrain.errors import UserError
from lmtrain.program.command import script

COMPRESSIONS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,  # as the command zstd does
}


def text_file(path) -> TextFile:
    return TextFile(str(path), Path(path).name, 0, "")


def read(path, errors: str = "strict") -> str:
    return "".join(read_text(text_file(path), errors))


def problems_of(path, **parts) -> list[str]:
    with pytest.raises(UserError) as error:
        find_corpus(str(path), **parts)
    return list(error.value.problems)


def names(files) -> list[str]:
    return [file.name for file in files]


# --- documents ---


@given(data=st.data(), delimiter=st.sampled_from(["\n", "aa", "aba", "<eod>", "\n\n"]))
def test_documents_are_those_of_the_whole_text_however_it_is_chunked(data, delimiter):
    text = data.draw(st.lists(st.sampled_from([delimiter, delimiter[:-1], delimiter[1:], "a", "b", "\n"])).map("".join))
    size = data.draw(st.integers(1, 10))
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    keep_whole = data.draw(st.booleans())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "_LONGEST_TAIL", data.draw(st.integers(len(delimiter), len(delimiter) + 4)))
        blocks = list(document_blocks(pieces, delimiter, keep_whole))
    found, begun = [], ""
    for block in blocks:
        for number, document in enumerate(block):
            begun += document
            if document.endswith(delimiter):
                found.append(begun)
                begun = ""
            else:
                assert number == len(block) - 1
                assert not keep_whole
    assert not begun
    assert found == [document + delimiter for document in text.split(delimiter) if document]


def test_a_document_without_end_is_not_held_in_memory(monkeypatch):
    monkeypatch.setattr(corpus, "_LONGEST_TAIL", 100)
    blocks = list(document_blocks(["x" * 60] * 1000, "\n"))
    assert "".join(piece for block in blocks for piece in block) == "x" * 60_000 + "\n"
    assert max(len(piece) for block in blocks for piece in block) <= 200


# --- text ---


@pytest.mark.parametrize("compress", [bytes, *COMPRESSIONS.values()])
def test_a_byte_order_mark_and_a_compression_are_known_by_the_bytes(compress, tmp_path):
    path = tmp_path / "text.of.any.name"
    path.write_bytes(compress("\ufeffone\r\n\ufefftwo".encode()))
    assert read(path) == "one\n\ufefftwo"
    plain = tmp_path / "plain.gz"
    plain.write_bytes(b"BZh is no bzip2")
    assert read(plain) == "BZh is no bzip2"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_text_of_wide_characters_is_what_its_mark_says(encoding, tmp_path):
    path = tmp_path / "wide.txt"
    path.write_bytes("語\r\n😀".encode(encoding))
    assert read(path) == "語\n😀"


@given(
    content=st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", "é".encode(), "語".encode(), "😀".encode()])),
    read_bytes=st.integers(1, 5),
)
def test_line_ends_become_newlines_as_python_reads_them(content, read_bytes, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_bytes(b"".join(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "_DECODED_BYTES", read_bytes)
        assert read(path) == path.read_text(encoding="utf-8")


@given(content=st.lists(st.sampled_from([b"a", b"\n", "é".encode(), "語".encode(), b"\xff", b"\xc3", b"\xe8\xaa"])))
def test_bytes_that_are_not_utf8_are_named_with_their_offset(content, tmp_path_factory):
    content = b"".join([*content, b"\xff"])
    with pytest.raises(UnicodeDecodeError) as expected:
        content.decode()
    for ending, compress in (("", bytes), (".gz", gzip.compress)):
        path = tmp_path_factory.getbasetemp() / f"bad.txt{ending}"
        path.write_bytes(compress(content))
        for read_bytes in (1, 2, 3, 1000):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(streams, "_DECODED_BYTES", read_bytes)
                with pytest.raises(UserError) as error:
                    read(path)
            assert f"{path}: byte 0x" in str(error.value)
            assert f"at offset {expected.value.start} is not UTF-8" in str(error.value)
            assert "data.errors=replace" in str(error.value)
        assert read(path, "replace") == content.decode(errors="replace")


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_compressed_text_is_read(ending, tmp_path):
    text = sentences(2000)
    path = tmp_path / f"text.txt{ending}"
    path.write_bytes(COMPRESSIONS[ending](text.encode()))
    assert read(path) == text


def test_zstd_with_a_long_window_is_read(tmp_path):
    path = tmp_path / "long.zst"
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=28, enable_ldm=True)  # zstd --long=28
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path.write_bytes(compressor.compress(b"text\n") + compressor.flush())
    assert read(path) == "text\n"


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_compressed_files_that_were_joined_are_read_to_their_end(ending, tmp_path):
    compress = COMPRESSIONS[ending]
    path = tmp_path / f"text.txt{ending}"
    path.write_bytes(compress(b"one\n") + compress(b"two\n") + compress(b"three\n"))
    assert read(path) == "one\ntwo\nthree\n"


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_compressed_files_that_are_cut_off_or_damaged_are_errors(ending, tmp_path):
    path = tmp_path / f"text.txt{ending}"
    whole = COMPRESSIONS[ending](sentences(2000).encode())
    for content in (whole[: len(whole) // 2], whole[:-1], whole[:100] + bytes(50) + whole[150:]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"text\.txt.* cannot be read: "):
            read(path)


def test_a_corpus_may_be_anywhere_that_fsspec_reaches(tmp_path):
    local = write_corpus(tmp_path / "corpus")
    remote = fsspec.filesystem("memory")
    remote.put(str(local), "/some/corpus", recursive=True)
    remote.pipe("/some/corpus/train/3.txt.gz", gzip.compress(b"three\n"))
    here, there = find_corpus(f"file://{local}"), find_corpus("memory://some/corpus")
    assert names(there.files()) == ["train/1.txt", "train/2.txt", "train/3.txt.gz", "valid.txt", "test.txt"]
    texts = {file.name: "".join(read_text(file)) for file in there.files()}
    assert texts.pop("train/3.txt.gz") == "three\n"
    assert texts == {file.name: "".join(read_text(file)) for file in here.files()}
    stamps = {file.name: file.stamp for file in there.files()}
    remote.pipe("/some/corpus/valid.txt", b"other\n")
    changed = {file.name for file in find_corpus("memory://some/corpus").files() if file.stamp != stamps[file.name]}
    assert changed == {"valid.txt"}


# --- the folder ---


def test_files_are_taken_in_the_order_of_their_names(tmp_path):
    folder = write_corpus(tmp_path, train={name: "text\n" for name in ("b.txt", "a.txt", "c", "B.txt")})
    assert names(find_corpus(str(folder)).train) == ["train/B.txt", "train/a.txt", "train/b.txt", "train/c"]


def test_valid_and_test_may_be_folders_and_compressed(tmp_path):
    folder = write_corpus(tmp_path)
    (folder / "valid.txt").unlink()
    (folder / "valid").mkdir()
    (folder / "valid" / "1").write_text("one\n")
    (folder / "valid" / "2").write_text("two\n")
    (folder / "test.txt").unlink()
    (folder / "test.txt.gz").write_bytes(gzip.compress(b"test\n"))
    found = find_corpus(str(folder))
    assert names(found.valid) == ["valid/1", "valid/2"]
    assert names(found.test) == ["test.txt.gz"]


def test_names_that_begin_with_a_dot_are_passed_over(tmp_path):
    folder = write_corpus(tmp_path, train={"1.txt": "one\n", ".hidden": ""})
    (folder / "train" / ".git").mkdir()
    assert names(find_corpus(str(folder)).train) == ["train/1.txt"]


def test_folders_with_any_characters_in_their_names_are_found(tmp_path):
    folder = write_corpus(tmp_path / "my [old] corpus*?" / "Übung", train={"a b#[1].txt": "text\n"})
    assert names(find_corpus(str(folder)).files()) == ["train/a b#[1].txt", "valid.txt", "test.txt"]
    found = find_corpus(str(folder), train="train/a*", valid="val*", test="test.txt")
    assert names(found.files()) == ["train/a b#[1].txt", "valid.txt", "test.txt"]
    assert ["".join(read_text(file)) for file in found.train] == ["text\n"]


def test_a_file_that_changed_is_known_to_be_another(tmp_path):
    folder = write_corpus(tmp_path)
    before = find_corpus(str(folder)).valid
    os.utime(folder / "valid.txt", ns=(1, 1))
    assert find_corpus(str(folder)).valid != before


# --- what can be wrong ---


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("nowhere", "does not exist"),
        ("file", "is not a folder"),
        ("nosuchprotocol://x", "Protocol not known"),
    ],
)
def test_a_corpus_that_is_no_folder_is_told(path, what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("text")
    (problem,) = problems_of(path)
    assert f"data.path={path}" in problem
    assert what in problem


def test_all_that_is_missing_is_told_at_once(tmp_path):
    no_train, no_valid, no_test = problems_of(tmp_path)
    assert f"{tmp_path}: there is no train for data.train=train. It must have train/ with text files" in no_train
    assert "no valid for data.valid=valid" in no_valid
    assert "It must have valid.txt or a folder valid/ with text files" in no_valid
    assert "no test for data.test=test" in no_test


def test_parts_without_files_and_empty_files_are_told(tmp_path):
    folder = write_corpus(tmp_path, train={".hidden": "text"}, valid="")
    (folder / "test.txt").unlink()
    (folder / "test").mkdir()
    train, valid, test = problems_of(folder)
    assert "train/ has no files" in train
    assert f"{folder}/valid.txt is empty" in valid
    assert "test/ has no files" in test


def test_empty_files_of_a_remote_corpus_are_told(tmp_path):
    remote = fsspec.filesystem("memory")
    remote.put(str(write_corpus(tmp_path / "corpus")), "/with-empty", recursive=True)
    remote.pipe("/with-empty/train/2.txt", b"")
    (problem,) = problems_of("memory://with-empty")
    assert "/with-empty/train/2.txt is empty" in problem


def test_several_files_that_could_be_one_part_are_told(tmp_path):
    folder = write_corpus(tmp_path)
    (folder / "valid.txt.gz").write_bytes(gzip.compress(b"text\n"))
    (problem,) = problems_of(folder)
    assert "valid.txt, valid.txt.gz" in problem
    assert len(find_corpus(str(folder), valid="valid.txt").valid) == 1


@contextmanager
def permissions_that_bind():
    """Permissions do not bind root: becomes nobody for the moment."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_what_is_no_readable_file_among_the_splits_is_told():
    with tempfile.TemporaryDirectory() as name:  # not tmp_path, which only its owner may enter
        os.chmod(name, 0o755)
        folder = write_corpus(Path(name))
        train = folder / "train"
        (train / "folder").mkdir()
        (train / "gone.txt").symlink_to("nowhere")
        (train / "loop.txt").symlink_to("loop.txt")
        os.mkfifo(train / "pipe")
        (train / "secret.txt").write_text("text\n")
        (train / "secret.txt").chmod(0)
        with permissions_that_bind():
            problems = problems_of(folder)
    expected = {
        "folder": "is a folder",
        "gone.txt": "cannot be read: No such file",
        "loop.txt": "cannot be read: Too many levels",
        "pipe": "is neither a file nor a folder",
        "secret.txt": "cannot be read: Permission denied",
    }
    assert len(problems) == len(expected)
    for problem, (file, what) in zip(problems, expected.items(), strict=True):
        assert problem.startswith(f"{train}/{file} {what}")


def test_a_folder_in_the_place_of_valid_txt_is_told(tmp_path):
    folder = write_corpus(tmp_path)
    (folder / "valid.txt").unlink()
    (folder / "valid.txt").mkdir()
    assert [f"{folder}/valid.txt is a folder" in problem for problem in problems_of(folder)] == [True]


def test_a_file_that_disappears_before_it_is_read_is_told(tmp_path):
    with pytest.raises(UserError, match=r"gone\.txt cannot be read: .*No such file"):
        read(tmp_path / "gone.txt")


# --- files that are no plain text ---


def test_all_files_that_are_no_plain_text_are_named_before_training(tmp_path):
    records = b'{"text": "one"}\n{"text": "two"}\n'
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"))
    folder = write_corpus(tmp_path / "corpus", train={"a.txt": "text\n"}, valid="{poem}\n{poem}\n")
    contents = {
        "wiki_00": records,
        "records.json.gz": gzip.compress(records),
        "all.json": b'[\n {"text": "one"}\n]\n',
        "leipzig.tar.gz": archive.getvalue(),
        "page": b"<!DOCTYPE html>\n<html>\n<p>text</html>\n",
        "dump.sql": b"-- dump\nCREATE TABLE a (b int);\n",
        "paper.pdf": b"%PDF-1.4\n",
        "wide.txt": "a text without a mark".encode("utf-16-le"),
    }
    for name, content in contents.items():
        (folder / "train" / name).write_bytes(content)
    problems = {Path(problem.split()[0]).name: problem for problem in problems_of(folder)}
    assert problems.keys() == contents.keys()
    assert problems["wiki_00"] == (
        f"{folder}/train/wiki_00 is JSON Lines, not plain text. Make a corpus of it: {script('prepare_corpus')} "
        f"{folder}/train/wiki_00 --output FOLDER, or read it as it is: data.format=text (scripts: --format text)."
    )
    assert "is a tar archive, not plain text. Make a corpus of it" in problems["leipzig.tar.gz"]
    assert "data.format" not in problems["leipzig.tar.gz"]
    assert "is a PDF document, not plain text. Make text of it: pdftotext " in problems["paper.pdf"]
    assert len(find_corpus(str(folder), format="text").train) == len(contents) + 1
