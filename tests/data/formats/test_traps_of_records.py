"""Traps of JSON, tables, archives and crawls: nothing lost, nothing twice, nothing taken for text."""

import gzip
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import assume, example, given
from hypothesis import strategies as st
from test_formats import Read, jsonl, response, tar, warc_record, zipped

from lmtrain.data.formats.json_document import _Input
from lmtrain.errors import UserError
from lmtrain.prepare.sources import find_sources

# --- JSON ---

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.sampled_from('aä語\\"u\n\ud83d\ude00NaN-1')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "content", "x"]), inner),
    max_leaves=9,
)


@example([0.0006055231956793539, 1e-300, -(10**30), 10**17], False, None, 1)
@given(st.lists(VALUES, max_size=5), st.booleans(), st.sampled_from([None, 1]), st.integers(1, 9))
def test_json_is_what_pythons_reader_says_wherever_it_is_cut(values, is_ascii, indent, size) -> None:
    text = json.dumps(values, ensure_ascii=is_ascii, indent=indent)
    assume(not re.search("[\ud800-\udfff]", text))  # that cannot be in a file
    given_to_ijson = _Input((text[begin : begin + size] for begin in range(0, len(text), size)), "x")
    read = json.loads(b"".join(iter(lambda: given_to_ijson.read(3), b"")), parse_constant=pytest.fail)

    def expected(value):
        match value:
            case int() if len(str(abs(value))) > 17:
                return float(value)
            case float():
                return value if value - value == 0 else None
            case str():
                whole = json.loads(json.dumps(value))
                return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in whole)
            case list():
                return [expected(item) for item in value]
            case dict():
                return {key: expected(item) for key, item in value.items()}
        return value

    assert read == expected(values)


def test_an_array_is_read_as_lines_are(tmp_path: Path) -> None:
    records = [
        {"text": "NaN beside", "score": float("nan"), "n": [float("-inf"), 10**40]},
        {"text": "half \ud83d of \ude00 one", "content": "not this"},
        {"text": ["a", "list"]},
        {"content": "content", "raw_content": "not this"},
        {"text": {"text": "within"}},
    ]
    lines = Read(tmp_path, "".join(json.dumps(record) + "\n" for record in records))
    array = Read(tmp_path, json.dumps(records))
    assert (lines.format, array.format) == ("jsonl", "json")
    assert lines.documents == array.documents == ["NaN beside", "half \ufffd of \ufffd one", "content"]
    assert lines.left_out == array.left_out == {"the field holds no text": 2}


def test_of_records_in_an_object_each_has_one_text_or_is_counted(tmp_path: Path) -> None:
    records = [{"text": "a", "content": "not this"}, {"text": ["b"]}, {"id": 1}, {"content": "c"}, {"text": None}]
    read = Read(tmp_path, json.dumps({"about": {"id": 3}, "data": records}, indent=1))
    assert (read.format, read.documents) == ("json", ["a", "c"])
    assert read.left_out == {"the field holds no text": 1, "no field 'text'": 1, "the field is null": 1}


def test_json_that_is_not_utf8_has_the_same_rule(tmp_path: Path) -> None:
    content = '[{"text": "café"}, {"text": "b"}]'.encode("latin-1")
    with pytest.raises(UserError, match=r"byte 0xe9 at offset 14 is not UTF-8.*--errors replace"):
        Read(tmp_path, content)
    assert Read(tmp_path, content, errors="replace").documents == ["caf\ufffd", "b"]


@pytest.mark.parametrize("text", ["[]", "{}", "[1, 2,\n 3]", '{"a": [{"b": "x"}]}'])
def test_json_without_text_is_not_taken_for_text(text: str, tmp_path: Path) -> None:
    read = Read(tmp_path, text)
    assert (read.format, read.documents) == ("json", [])


def test_a_json_text_a_line(tmp_path: Path) -> None:
    read = Read(tmp_path, '"one \\"two\\""\n"drei\\nvier"\n')
    assert (read.format, read.documents) == ("jsonl", ['one "two"', "drei\nvier"])
    assert Read(tmp_path, '"Yes."\n"No."\n').format == "text"
    with pytest.raises(UserError, match=r"Python's dictionaries, not JSON.*ast\.literal_eval"):
        Read(tmp_path, "{'text': 'one'}\n{'text': \"it's\"}\n")


def test_records_are_cut_at_any_line_end(tmp_path: Path) -> None:
    record = {"text": "one\r\n\r\ntwo\r\rthree"}
    for content in (jsonl(record), json.dumps([record])):
        assert Read(tmp_path, content, split_at="\n\n").documents == ["one", "two", "three"]


# --- Arrow's formats ---


def parquet(**columns) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def arrow(**columns) -> bytes:
    sink, table = io.BytesIO(), pa.table(columns)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize("form", [parquet, arrow])
def test_every_kind_of_column_that_holds_text(form, tmp_path: Path) -> None:
    texts = pa.array(["ä", None, "ä", "b"])
    kinds = [texts.dictionary_encode(), texts.cast(pa.large_string()), texts.cast(pa.string_view())]
    for column in [*kinds, texts.cast(pa.binary())]:
        read = Read(tmp_path, form(text=column))
        assert (read.documents, read.left_out) == (["ä", "ä", "b"], {"the field is null": 1})
    damaged = form(text=pa.array(["café".encode("latin-1"), b"b"]))
    with pytest.raises(UserError, match=r"file: a text in the column 'text' is not UTF-8 .*--errors replace"):
        Read(tmp_path, damaged)
    assert Read(tmp_path, damaged, errors="replace").documents == ["caf\ufffd", "b"]
    ends, data = pa.py_buffer(b"\0\0\0\0\4\0\0\0\5\0\0\0"), pa.py_buffer(b"caf\xe9b")
    damaged = form(text=pa.Array.from_buffers(pa.string(), 2, [None, ends, data]))
    assert Read(tmp_path, damaged, errors="replace").documents == ["caf\ufffd", "b"]


@pytest.mark.parametrize("form", [parquet, arrow])
def test_fields_in_columns_of_records(form, tmp_path: Path) -> None:
    content = form(a=[{"b": {"c": "x"}}, None, {"b": None}, {"b": {"c": "y"}}])
    read = Read(tmp_path, content, field="a.b.c")
    assert (read.documents, read.left_out) == (["x", "y"], {"the field is null": 2})
    with pytest.raises(UserError, match=r"has no column 'a.b.d': there is a, only c"):
        Read(tmp_path, content, field="a.b.d")
    with pytest.raises(UserError, match=r"has no column 'a.b.c.d': there is a, and it holds no records"):
        Read(tmp_path, content, field="a.b.c.d")


# --- tables ---


@pytest.mark.parametrize(
    ("content", "documents"),
    [
        ('sep=;\r\nid;text\r\n1;"a;b"\r\n2;c, d\r\n', ["a;b", "c, d"]),
        ('\ufeff"sep=|"\nid|text\n1|a\n2|b\n', ["a", "b"]),
        ('id,text\n1,"a\u2028b"\n2,c\x85d\n3,e\x0bf\x0cg\x1ch\n', ["a\u2028b", "c\x85d", "e\x0bf\x0cg\x1ch"]),
        ('id,text\n1,"he said \\"no, no\\""\n2,b\n3,c\n', ['he said "no, no"', "b", "c"]),
        ('id,text\n1,"C:\\"\n2,b\n', ["C:\\", "b"]),
        ('id, text\n1, "a, b"\n2, c\n', ["a, b", "c"]),
        ("text\none, two\none, two, three\nfour\n", ["one, two", "one, two, three", "four"]),
        ('id,text\r1,"a\rb"\r2,c\r', ["a\nb", "c"]),
        (",text\n0,a\n1,b\n", ["a", "b"]),
    ],
)
@pytest.mark.parametrize("name", ["table.csv", "table"])
def test_ways_of_writing_a_table(content: str, documents: list[str], name: str, tmp_path: Path) -> None:
    if name == "table" and content.startswith("text\n"):
        return  # a text that begins with that word
    read = Read(tmp_path, content, name)
    assert (read.format, read.documents, read.left_out) == ("csv", documents, {})


@pytest.mark.parametrize(
    "content",
    [
        "Hello.\tHallo.\nYes.\tJa.\nNo.\tNein.\n",
        "name,story,year\na,b,1\nc,d,2\n",
        "id;body_html\n1;x\n2;y\n",
        "0.91\tone\teins\n0.92\ttwo\tzwei\n0.93\tthree\tdrei\n",
    ],
)
def test_tables_with_other_names_are_not_taken_for_text(content: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no column 'text', only .*--field 2.*|.*--format text"):
        Read(tmp_path, content)
    assert Read(tmp_path, content, field="2").format == "csv"
    assert Read(tmp_path, content, format="text").documents == content.splitlines()


def test_texts_in_quotation_marks_under_their_name(tmp_path: Path) -> None:
    read = Read(tmp_path, '"text"\n"a, b"\n"c ""d"""\n')
    assert (read.format, read.documents) == ("csv", ["a, b", 'c "d"'])


def test_a_table_without_rows_is_not_taken_for_text(tmp_path: Path) -> None:
    read = Read(tmp_path, "id,text\n", "empty.csv")
    assert (read.format, read.documents) == ("csv", [])


# --- archives ---


def test_hidden_folders_and_those_of_other_systems_are_not_read(tmp_path: Path) -> None:
    names = [".git/config", "a/.cache/x.txt", "__MACOSX/a.txt", "a/__MACOSX/b.txt", "a/._c.txt", "./a/LICENSE"]
    read = Read(tmp_path, tar({**dict.fromkeys(names, "no text\n"), "./a/text": "text\n"}))
    assert (read.documents, read.left_out) == (["text"], {"a file beside the texts": len(names)})


def test_links_in_an_archive_are_not_read_twice(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, kind in (
            ("d", tarfile.DIRTYPE),
            ("a", tarfile.REGTYPE),
            ("b", tarfile.SYMTYPE),
            ("c", tarfile.LNKTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "a", 5 * (kind == tarfile.REGTYPE)
            archive.addfile(info, io.BytesIO(b"text\n"))
    assert Read(tmp_path, sink.getvalue()).documents == ["text"]


def test_another_table_in_an_archive_is_passed_over(tmp_path: Path) -> None:
    tables = {"a.csv": "id,text\n1,one\n2,two\n", "labels.csv": "id,label\n1,x\n2,y\n", "b.parquet": parquet(x=[1])}
    for archive in (tar(tables), zipped(tables)):
        read = Read(tmp_path, archive)
        assert (read.documents, dict(read.tally.members)) == (["one", "two"], {"csv": 1})
        assert read.left_out == {"a table without the column of the text": 2}


def test_what_is_damaged_in_an_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"file: a/b\.gz cannot be decompressed"):
        Read(tmp_path, tar({"a/b.gz": gzip.compress(b"text\n" * 999)[:-9]}))
    locked = bytearray(zipped({"a.txt": "one\n"}))
    locked[locked.find(b"PK\3\4") + 6] |= 1
    locked[locked.find(b"PK\1\2") + 8] |= 1
    with pytest.raises(UserError, match=r"a file in it is encrypted\. Unpack it first, with its password: 7z x"):
        Read(tmp_path, bytes(locked))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"mimetype": "application/epub+zip" * 3, "META-INF/container.xml": "<x/>"}, "a book"),
        ({"mimetype": "application/vnd.oasis.opendocument.presentation", "content.xml": "<x/>"}, "an office program"),
        ({"[Content_Types].xml": "".join(map(str, range(60_000))), "xl/workbook.xml": "<x/>"}, "an office program"),
        ({"_rels/.rels": "", "word/document.xml": "<x/>", "[Content_Types].xml": ""}, "a Word document"),
        ({"META-INF/MANIFEST.MF": "Manifest-Version: 1.0\n", "a.txt": "text\n"}, "a Java archive"),
    ],
)
def test_documents_in_zip_archives_are_no_archives_of_texts(members: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        Read(tmp_path, zipped(members))


def test_an_archive_whose_texts_are_about_documents_is_read(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("word/a.txt", "[Content_Types].xml and data.pkl in application/epub+zip\n")
    assert Read(tmp_path, sink.getvalue()).format == "zip"


def test_languages_of_pairs_are_named_in_any_way(tmp_path: Path) -> None:
    members = {"X.en_GB-pt_BR.en_GB": "One\n", "X.en_GB-pt_BR.pt_BR": "Um\n", "X.en_GB-pt_BR.scores": "0.1\t0.2\n"}
    for language in ("pt_BR", "pt-br"):
        assert Read(tmp_path, zipped(members), language=language).documents == ["Um"]


def test_pairs_in_a_folder_are_read_in_one_language(tmp_path: Path) -> None:
    for name in ("Books.de-en.de", "Books.de-en.en.gz", "X.is-en.is", "Y.de-en.de", "Y.de-en.en", "Y.de-en.ids"):
        content = b"1\t2\n3\t4\n5\t6\n" if name.endswith("ids") else f"{name}\n".encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(UserError, match="has texts in de and en: choose one with --language"):
        find_sources([tmp_path])
    sources, beside = find_sources([tmp_path], language="DE")
    assert [Path(source.url).name for source in sources] == [
        *("Books.de-en.de", "Books.de-en.en.gz", "X.is-en.is", "Y.de-en.de"),  # of the first the other is not there
    ]
    assert [Path(name).name for name in beside] == ["Y.de-en.en", "Y.de-en.ids"]
    assert len(find_sources([tmp_path / "Y.de-en.en"])[0]) == 1


def test_a_file_with_several_names_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").write_text("text\n")
    (tmp_path / "raw" / "b.txt").symlink_to("a.txt")
    (tmp_path / "blob").write_text("elsewhere\n")
    (tmp_path / "raw" / "c.txt").symlink_to(tmp_path / "blob")
    sources, _ = find_sources([tmp_path / "raw", tmp_path / "raw" / "b.txt"])
    assert [Path(source.url).name for source in sources] == ["a.txt", "c.txt"]


# --- crawls ---

TEXT = "A page with enough of text in it to be one, café."
HTML = f"<html><body><p>{TEXT}</p></body></html>".encode()


def encoded_response(body: bytes, headers: str) -> bytes:
    http = f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode() + body
    return warc_record("response", http, "application/http; msgtype=response")


def test_pages_are_read_however_they_were_sent(tmp_path: Path) -> None:
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(HTML), HTML)
    crawl = encoded_response(chunked, "Content-Type: text/html\r\nTransfer-Encoding: chunked")
    crawl += encoded_response(gzip.compress(HTML), "Content-Type: text/html\r\nContent-Encoding: gzip")
    crawl += response(HTML, "text/html; charset=nonsense") + response(TEXT.encode("latin-1"), "text/plain;charset=L1")
    assert Read(tmp_path, crawl).documents == [TEXT] * 4


def test_a_crawl_is_read_wherever_it_stands(tmp_path: Path) -> None:
    plain = gzip.decompress(response(HTML, "text/html")) * 2
    assert Read(tmp_path, zstandard.compress(plain)).documents == [TEXT] * 2
    assert Read(tmp_path, tar({"a.warc": plain, "b.warc.gz": gzip.compress(plain)})).documents == [TEXT] * 4
    with pytest.raises(UserError, match="cut off: a record has"):
        Read(tmp_path, plain[:-30])
    with pytest.raises(UserError, match=r"an ARC file.*warcio recompress"):
        Read(tmp_path, "filedesc://x.arc 0.0.0.0 2008 text/plain 76\n1 0 Alexa\n")
