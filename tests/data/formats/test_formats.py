"""Files as people have them, known by what is in them: the documents of each format, with its own rules kept."""

import bz2
import csv
import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import conllu
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtrain.cli.prepare_corpus import FORMATS
from lmtrain.data.formats.reader import Tally, Wanted
from lmtrain.data.formats.registry import READERS
from lmtrain.errors import UserError
from lmtrain.prepare.sources import cut_blocks, find_sources, read_block


class Read:
    """What is read of a file that holds `content`: its format, documents and tally."""

    def __init__(self, folder: Path, content: bytes | str, name: str = "file", block_size: int = 1 << 20, **wanted):
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        wanted = Wanted(**wanted)
        ((source,), _) = find_sources([path], wanted.format)
        self.format, self.tally = source.format, Tally()
        pieces = (
            piece for block in cut_blocks(source, wanted, block_size) for piece in read_block(block, wanted, self.tally)
        )
        self.documents = [document for piece in pieces for document in piece if document]
        self.left_out = dict(self.tally.left_out)


def jsonl(*records) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def test_the_script_names_all_formats() -> None:
    assert {*FORMATS, "tar", "zip"} == {*READERS, "auto"}


# --- records ---


@pytest.mark.parametrize("name", ["wiki_00", "part.json.gz", "x.txt"])
def test_json_lines_are_known_under_any_name(name: str, tmp_path: Path) -> None:
    text = "\ufeff" + jsonl(
        {"text": "one\ntwo"}, {"id": 2}, {"text": None}, {"text": 3}, {"text": "", "id": 1}, {"content": "three"}
    )
    text = text.replace('{"id": 2}', '{"id": 2}\n{"text": "torn\n')
    read = Read(tmp_path, gzip.compress(text.encode()) if name.endswith("gz") else text, name)
    assert (read.format, read.documents, read.tally.used) == ("jsonl", ["one\ntwo", "three"], 2)
    assert read.left_out == {
        "no field 'text'": 1,
        "a line is not JSON": 1,
        "the field is null": 1,
        "the field holds no text": 1,
    }
    split = Read(tmp_path, text, "split", split_at="\n")
    assert split.documents == ["one", "two", "three"]


def test_cirrussearch_has_articles_between_lines_about_them(tmp_path: Path) -> None:
    lines = []
    for number, (namespace, text) in enumerate([(0, "First article."), (1, "A talk."), (0, "Second.")]):
        lines.append({"index": {"_type": "page", "_id": str(number)}})
        lines.append({"namespace": namespace, "wiki": "xwiki", "title": "T", "text": text, "source_text": "''x''"})
    read = Read(tmp_path, gzip.compress(jsonl(*lines).encode()), "xwiki-cirrussearch-content.json.gz")
    assert (read.format, read.documents) == ("jsonl", ["First article.", "Second."])
    assert read.left_out == {"in another namespace than articles": 1}


def test_json_arrays_and_objects(tmp_path: Path) -> None:
    records = [{"text": f"document {number}", "meta": {"id": number}} for number in range(3000)]
    array = Read(tmp_path, json.dumps([*records, {"text": None}, {"id": 1}, 7], indent=1), "a.json")
    assert array.format == "json"
    assert array.documents == [record["text"] for record in records]
    assert array.left_out == {"the field is null": 1, "no field 'text'": 2}
    nested = Read(tmp_path, "\ufeff" + json.dumps({"version": "1", "data": records}), "b.json")
    assert (nested.format, nested.documents) == ("json", array.documents)
    assert Read(tmp_path, json.dumps(["one", "two"]), "c").documents == ["one", "two"]
    inline = json.dumps({"data": [{"paragraphs": [{"context": "in one line"}]}]})
    assert Read(tmp_path, inline, "squad.json", field="context").documents == ["in one line"]
    assert Read(tmp_path, '["one", "two"]\n["three"]\n', "f").documents == ["one", "two", "three"]
    assert Read(tmp_path, json.dumps({"a": {"body": "in it"}}, indent=2), "d", field="body").documents == ["in it"]
    translations = jsonl({"translation": {"de": "Haus", "en": "house"}}, {"translation": {"de": "Tür"}})
    read = Read(tmp_path, translations, "e", field="translation.en")
    assert (read.documents, read.left_out) == (["house"], {"no field 'translation.en'": 1})


def test_a_first_record_that_is_longer_than_what_is_looked_at(tmp_path: Path) -> None:
    records = [{"id": 1, "text": "long " * 100_000}, {"text": "short"}]
    assert Read(tmp_path, jsonl(*records)).documents == [record["text"] for record in records]


@pytest.mark.parametrize("name", ["parquet", "arrow", "arrow stream", "feather"])
def test_columns_of_arrow_s_formats(name: str, tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2, 3], "text": ["one\ntwo", None, "drei"], "in": [{"de": "a"}, {"de": "b"}, None]})
    table = table.append_column("a.b", [["x", "y", "z"]])
    sink = io.BytesIO()
    if name == "parquet":
        pq.write_table(table, sink)
    elif name == "feather":
        pa.feather.write_feather(table, sink)
    else:
        with (pa.ipc.new_stream if "stream" in name else pa.ipc.new_file)(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    for packed in (bytes, gzip.compress):
        read = Read(tmp_path, packed(sink.getvalue()))
        assert (read.format, read.documents) == (name.split()[0].replace("feather", "arrow"), ["one\ntwo", "drei"])
        assert read.left_out == {"the field is null": 1}
    assert Read(tmp_path, sink.getvalue(), field="in.de").documents == ["a", "b"]
    assert Read(tmp_path, sink.getvalue(), field="a.b").documents == ["x", "y", "z"]
    with pytest.raises(UserError, match=r"has no column 'body', only id, text, in, a.b: choose one with --field"):
        Read(tmp_path, sink.getvalue(), field="body")


@given(
    st.lists(
        st.one_of(
            st.fixed_dictionaries(
                {"text": st.one_of(st.none(), st.integers(), st.text("aö語\n\u2028\ud800", max_size=9))}
            ),
            st.just({"id": 1}),
            st.just("not a record"),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 60),
)
def test_every_record_is_read_or_counted_once_wherever_a_file_is_cut(
    tmp_path_factory, records: list, size: int
) -> None:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    folder = tmp_path_factory.getbasetemp()
    read = Read(folder, "\n".join(lines), "records", format="jsonl", block_size=size)
    texts = [record["text"] for record in records if isinstance(record, dict) and isinstance(record.get("text"), str)]
    assert read.documents == [text.replace("\ud800", "\ufffd") for text in texts if text]
    assert len(texts) + sum(read.left_out.values()) == len(records)
    assert Read(folder, "\n".join(lines), "records", format="jsonl").left_out == read.left_out


# --- tables ---

ROWS = [["id", "text"], ["1", 'He said "no", twice.'], ["2", "two\nlines, and a comma"], ["3", ""], ["4", "end"]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_quoted_tables_are_read_as_csv_reads_them(delimiter: str, line_end: str, tmp_path: Path) -> None:
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, lineterminator=line_end).writerows(ROWS)
    read = Read(tmp_path, "\ufeff" + written.getvalue(), "table.csv")
    assert (read.format, read.documents) == ("csv", [row[1] for row in ROWS[1:] if row[1]])
    assert not read.left_out


def test_a_table_whose_first_text_is_longer_than_what_is_looked_at(tmp_path: Path) -> None:
    read = Read(tmp_path, f'id,text\n1,"{"long, " * 30_000}"\n2,short\n')
    assert (read.format, read.documents) == ("csv", ["long, " * 30_000, "short"])


def test_a_table_of_one_column(tmp_path: Path) -> None:
    read = Read(tmp_path, 'text\n"a, b"\nc\n', "table.csv")
    assert (read.format, read.documents) == ("csv", ["a, b", "c"])


def test_quotation_marks_in_a_table_without_quoting_are_text(tmp_path: Path) -> None:
    rows = ['5\ten\t"Well," he said.', '6\ten\tHe said "no".', '7\tde\t"Ja', "8\ten\tone\tmore", "9\ten\tlast"]
    read = Read(tmp_path, "\n".join(rows * 2), "sentences.csv", field="3")
    assert read.documents == ['"Well," he said.', 'He said "no".', '"Ja', "last"] * 2
    assert read.left_out == {"a row with another number of cells": 2}
    with pytest.raises(UserError, match=r"no column 'text', only 5, en, .*by the number: --field 3"):
        Read(tmp_path, "\n".join(rows), "sentences.tsv")
    with pytest.raises(UserError, match="has 3 columns, and no --field 4"):
        Read(tmp_path, "\n".join(rows), "sentences.tsv", field="4")


@given(st.lists(st.text("ab,\"\n\t;|'ö ", max_size=8), min_size=2, max_size=6))
def test_no_cell_is_lost(tmp_path_factory, cells: list[str]) -> None:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([["id", "text"], *enumerate(cells)])
    read = Read(tmp_path_factory.getbasetemp(), written.getvalue(), "cells.csv")
    assert read.documents == [cell for cell in cells if cell]


# --- corpora of corpus linguists ---


def tar(members: dict[str, bytes | str], mode: str = "w:gz") -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode, format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def zipped(members: dict[str, bytes | str]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return sink.getvalue()


LEIPZIG = {
    "isl_news_2020_10K/isl_news_2020_10K-co_n.txt": "101\t102\t5\t12.7\n101\t103\t4\t9.1\n",
    "isl_news_2020_10K/isl_news_2020_10K-import.sql": "CREATE TABLE IF NOT EXISTS words (w_id int);\n"
    "LOAD DATA LOCAL INFILE 'x' INTO TABLE words;\n",
    "isl_news_2020_10K/isl_news_2020_10K-inv_w.txt": "1\t2\t3\n1\t5\t1\n",
    "isl_news_2020_10K/isl_news_2020_10K-sentences.txt": "1\tFyrsta setning.\n2\tÖnnur setning, 5 orð.\n3\tOrð\n",
    "isl_news_2020_10K/isl_news_2020_10K-sources.txt": "1\thttps://a.is/b\t2020-01-01\n2\thttps://a.is/c\t2020-01-02\n",
    "isl_news_2020_10K/isl_news_2020_10K-words.txt": "101\tog\tog\t512\n102\tað\tað\t498\n",
}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_of_a_leipzig_archive_the_sentences_are_read(mode: str, tmp_path: Path) -> None:
    read = Read(tmp_path, tar(LEIPZIG, mode), "isl_news_2020_10K.tar.gz")
    assert (read.format, read.documents) == ("tar", ["Fyrsta setning.", "Önnur setning, 5 orð.", "Orð"])
    assert dict(read.tally.members) == {"leipzig": 1}
    assert sum(read.left_out.values()) == 5
    (name,) = (name for name in LEIPZIG if "sentences" in name)
    alone = Read(tmp_path, LEIPZIG[name], "x-sentences.txt")
    assert (alone.format, alone.documents) == ("leipzig", read.documents)
    with pytest.raises(UserError, match="is a table with a number in front of each row"):
        Read(tmp_path, LEIPZIG[name.replace("sentences", "words")], "words")


def test_opus_pairs_are_read_in_one_language(tmp_path: Path) -> None:
    members = {
        "README": "About the corpus.\n",
        "LICENSE": "A licence.\n",
        "Books.de-en.de": "Ein Haus.\nEine Tür.\n",
        "Books.de-en.en": "A house.\nA door.\n",
        "Books.de-en.ids": "de/a.xml.gz\ten/a.xml.gz\ts1\ts1\n",
    }
    read = Read(tmp_path, zipped(members), "de-en.txt.zip", language="de")
    assert (read.format, read.documents) == ("zip", ["Ein Haus.", "Eine Tür."])
    assert sum(read.left_out.values()) == 4
    with pytest.raises(UserError, match="has texts in de and en: choose one with --language"):
        Read(tmp_path, zipped(members), "de-en.txt.zip")


def test_translation_memories(tmp_path: Path) -> None:
    units = "".join(
        f'<tu><tuv xml:lang="de-DE"><seg>Satz <hi>{n}</hi> &amp; mehr<ph>{{1}}</ph></seg></tuv>'
        f'<tuv xml:lang="en"><seg>Sentence {n}</seg></tuv></tu>\n'
        for n in range(3)
    )
    tmx = '<?xml version="1.0"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx version="1.4"><header/><body>'
    tmx += f"{units}</body></tmx>"
    read = Read(tmp_path, gzip.compress(tmx.encode()), "de-en.tmx.gz", language="de")
    assert (read.format, read.documents) == ("tmx", [f"Satz {n} & mehr" for n in range(3)])
    with pytest.raises(UserError, match="has texts in de-DE, en: choose one with --language"):
        Read(tmp_path, tmx)
    assert Read(tmp_path, tmx, language="fr").left_out == {"no segment in fr": 3}


CONLLU = """# newdoc
# sent_id = 1
# text = We don't know.
1\tWe\twe\tPRON\tPRP\t_\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
3.1\tsilent\tsilent\tX\t_\t_\t_\t_\t_\t_
4\tknow\tknow\tVERB\tVB\t_\t0\troot\t_\tSpaceAfter=No
5\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

"""


def test_treebanks_have_the_text_of_their_sentences(tmp_path: Path) -> None:
    without = CONLLU.replace("# text = We don't know.\n", "")
    broken = "no columns\n\n"
    read = Read(tmp_path, (CONLLU + without * 20 + broken).replace("\n", "\r\n"), "en-ud-train.conllu")
    assert (read.format, read.documents) == ("conllu", ["We don't know."] * 21)
    assert read.left_out == {"a sentence that is not CoNLL-U": 1}
    assert read.documents[0] == conllu.parse(CONLLU)[0].metadata["text"]
    tagged = "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ B-VP O\n. . O O\n\nPeter NNP I-NP B-PER\n"
    columns = Read(tmp_path, tagged, "eng.train")
    assert (columns.format, columns.documents) == ("columns", ["EU rejects .", "Peter"])
    german = "# source\n1\tIn\tO\tO\n2\tBonn\tB-LOC\tO\n\n1\tJa\tO\tO\n"
    assert Read(tmp_path, german, "NER-de-train.tsv").documents == ["In Bonn", "Ja"]
    parts = "The DT\ncat NN\nsat VBD\n. .\n\nIt PRP\nran VBD\n"
    assert Read(tmp_path, parts, "wsj").documents == ["The cat sat .", "It ran"]
    plus = "# global.columns = ID FORM UPOS\n1\tHi\tX\n2-3\tdon't\t_\n2\tdo\tX\n3\tn't\tX\n\n1\tBye\tX\n\n"
    assert Read(tmp_path, plus, "x.conllup").documents == ["Hi don't", "Bye"]
    older = "1\tHi\thi\thi\tX\tX\t_\t_\t0\t0\troot\troot\t_\t_\n2\tyou\ty\ty\tX\tX\t_\t_\t1\t1\tx\tx\t_\t_\n\n"
    assert Read(tmp_path, older, "CoNLL2009").documents == ["Hi you"]


# --- the web ---

PAGE = (
    "<!DOCTYPE html><html><head><meta charset=iso-8859-1><title>T</title><script>var x = 1;</script></head><body>"
    "<nav><a href=/>Home</a><a href=/b>About</a></nav><div id=content><h1>Heading</h1>"
    "<p>First <b>bold</b> paragraph, long enough to be the main content, caf\xe9 &amp; all.</p>"
    "<p>Second one, which is also long enough to be text.</p></div><footer>Imprint</footer></body></html>"
)
PAGE_TEXT = [
    "Heading",
    "First bold paragraph, long enough to be the main content, café & all.",
    "Second one, which is also long enough to be text.",
]


def warc_record(kind: str, content: bytes, content_type: str) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000000>\r\n"
    head += f"WARC-Date: 2020-01-01T00:00:00Z\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n"
    return gzip.compress(f"{head}\r\n".encode() + content + b"\r\n\r\n")


def response(body: bytes, kind: str, status: str = "200 OK") -> bytes:
    http = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    return warc_record("response", http, "application/http; msgtype=response")


def test_web_pages_and_crawls(tmp_path: Path) -> None:
    html = PAGE.encode("latin-1")
    assert Read(tmp_path, html, "index").documents == PAGE_TEXT
    crawl = b"".join(
        [
            warc_record("warcinfo", b"software: x", "application/warc-fields"),
            warc_record("request", b"GET / HTTP/1.1\r\n\r\n", "application/http; msgtype=request"),
            response(html, "text/html; charset=iso-8859-1"),
            response(b"gone", "text/html", "404 Not Found"),
            response(b"\x89PNG", "image/png"),
            response("Klartext ö.".encode(), "text/plain; charset=utf-8"),
        ]
    )
    read = Read(tmp_path, crawl, "CC-MAIN.warc.gz")
    assert (read.format, read.documents) == ("warc", [*PAGE_TEXT, "Klartext ö."])
    assert read.left_out == {"a response without a page": 1, "a response that is neither HTML nor text": 1}
    wet = warc_record("warcinfo", b"x", "text/plain") + warc_record(
        "conversion", "Zeile ä\nzwei\n".encode(), "text/plain"
    )
    assert Read(tmp_path, wet, "CC-MAIN.warc.wet.gz").documents == ["Zeile ä", "zwei"]


def test_wikiextractor_s_pages(tmp_path: Path) -> None:
    text = '<doc id="1" url="https://x?curid=1" title="Eitt">\nEitt\n\nFyrsta grein.\nÖnnur.\n\n</doc>\n' * 3
    read = Read(tmp_path, text, "wiki_00")
    assert (read.format, read.documents) == ("wikiextractor", ["Fyrsta grein.", "Önnur."] * 3)


# --- archives ---


def test_every_file_in_an_archive_is_read_as_what_it_is(tmp_path: Path) -> None:
    inner = zipped({"deep/b.jsonl.gz": gzip.compress(jsonl({"text": "from JSON"}).encode())})
    members = {"a.txt": "from text\n", "inner.zip": inner, "c.bin": b"\0\1\2" * 100, "README.md": "About it\n", "d": ""}
    read = Read(tmp_path, tar(members), "all.tgz")
    assert sorted(read.documents) == ["from JSON", "from text"]
    assert dict(read.tally.members) == {"text": 1, "zip": 1, "jsonl": 1}
    assert read.left_out == {"a file that is binary data": 1, "a file beside the texts": 1}
    with pytest.raises(UserError, match=r"bad\.tgz"):
        Read(tmp_path, tar({"a.txt": b"caf\xe9\n"}), "bad.tgz")


def test_files_beside_texts_are_not_read_from_folders_unless_they_are_named(tmp_path: Path) -> None:
    for name in ("a.txt", "LICENSE", "README.md", ".hidden"):
        (tmp_path / name).write_text("text\n")
    sources, beside = find_sources([tmp_path])
    assert [Path(source.url).name for source in sources] == ["a.txt"]
    assert [Path(path).name for path in beside] == ["LICENSE", "README.md"]
    assert len(find_sources([tmp_path / "LICENSE"])[0]) == 1


def test_compressed_with_several_streams(tmp_path: Path) -> None:
    assert Read(tmp_path, bz2.compress(b"one\n") + bz2.compress(b"two\n"), "x").documents == ["one", "two"]
