"""What is text and what is not: taken as it is, or refused with what to do about it."""

import gzip
import json
from pathlib import Path

import pytest
from test_formats import Read, jsonl, tar, zipped

from lmtrain.errors import UserError
from lmtrain.prepare.sources import find_sources


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%PDF-1.7\n%\xe2\xe3", r"is a PDF document\. Make text of it: pdftotext .*x NEW\.txt"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "is an image"),
        (zipped({"[Content_Types].xml": "<x/>" * 3000, "word/document.xml": "<x/>"}), "is a Word document"),
        (b"RIFF\0\1\2\3WAVEfmt " + bytes(9), "is a sound"),
        (
            "{10}{50}Hello\n{60}{90}Bye\n",
            "is subtitles of another kind than SubRip. Convert them: ffmpeg -i .*--format text",
        ),
        ('<rss version="2.0"><channel/></rss>\n', "is XML"),
        ('<corpus xmlns="http://x"><p>text</p></corpus>\n', "is XML"),
        (b"SQLite format 3\0" + bytes(100), "is an SQLite database"),
        ("-- MySQL dump 10\n\nCREATE TABLE `a` (b int);\nINSERT INTO `a` VALUES (1);\n", "is SQL.*--format text"),
        (b"\x7fELF" + bytes(100), "is an executable"),
        (gzip.compress(gzip.compress(b"text\n", mtime=0), mtime=0), "is gzip data in a compressed file"),
        (gzip.compress(bytes(range(256)) * 100, mtime=0), "is binary data. See what it is: file "),
        ('<?xml version="1.0"?>\n<book><p>x</p></book>', "is XML.*xmlstarlet.*--format text"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", r"git lfs pull"),
        ("a text\n".encode("utf-16-be"), "is text in utf-16-be. Say so: data.encoding=utf-16-be"),
    ],
)
def test_what_is_no_text_is_refused_with_what_to_do(content, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        Read(tmp_path, content, "x")


def test_the_format_can_be_chosen(tmp_path: Path) -> None:
    records = jsonl({"text": "one"}, {"text": "two"})
    assert Read(tmp_path, records, "a.jsonl", format="text").documents == records.splitlines()
    assert Read(tmp_path, tar({"a": records}), "a.tar", format="text").documents == records.splitlines()
    assert Read(tmp_path, "a,b\n1,2\n3,4\n", "t", format="csv", field="b").documents == ["2", "4"]


@pytest.mark.parametrize(
    "text",
    [
        "{\n  this is a poem in brackets\n}\n",
        "{{Citation needed}} is what they say.\nAnd more.\n",
        "[Chorus]\nLa la la\n",
        "[1] A footnote\n[2] Another\n",
        '"Yes," he said, "text, indeed."\n"No," she said, "content."\n',
        "id, text and other words, in prose\nfollow, one, another, here\nwith, commas\n",
        "1. First\n2. Second\n",
        "1\n2\n3\n",
        "Zeile\n\tEingerückt\n\t\tTiefer\n",
        "<s> sentences </s>\n<unk> of <unk>\n",
        "SELECT a seat, and INSERT INTO the slot.\nCREATE TABLE manners.\n",
        "# Markdown\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        "import json\n\nprint('{\"a\": 1}')\n",
        "BZh is no compression\n",
        "MM*\n",
        *(f"{word} is a word\n" for word in ("RIFF", "ID3", "ORC", "OggS", "GIF89a", "Rar!", "fLaC", "Obj")),
        "a\0b is odd, but the rest of this long enough line is text " * 5 + "more of it" * 50 + "\n",
        "The O\nthe B\n",
        "2020-01-01 10:00 INFO started\n2020-01-01 10:01 INFO stopped\n",
    ],
)
def test_text_is_taken_for_text(text: str, tmp_path: Path) -> None:
    read = Read(tmp_path, text)
    assert (read.format, read.documents) == ("text", [line for line in text.split("\n") if line])


def test_texts_of_this_machine_are_taken_for_text() -> None:
    library = Path(json.__file__).parent.parent
    files = [*sorted(library.glob("[a-h]*.py")), *Path("/usr/share/common-licenses").glob("*")]
    files = [path for path in files if path.is_file() and path.stat().st_size]
    assert len(files) > 50
    assert {source.format for source in find_sources(files)[0]} == {"text"}
