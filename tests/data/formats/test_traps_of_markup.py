"""Treebanks, vertical files, XML, subtitles, catalogues: their text, whole and once; marks that no reader takes out."""

import gzip
import os
import re
import subprocess
import sys
import tracemalloc
from html import escape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from test_formats import CONLLU, Read

from lmtrain.data.formats.reader import Tally, Wanted
from lmtrain.data.formats.registry import READERS
from lmtrain.errors import UserError

# --- columns ---


def test_sentences_of_a_treebank_are_read_or_counted(tmp_path: Path) -> None:
    content = "# a licence\n" * 300 + CONLLU + "1\tshort\n \t\n" + CONLLU.replace("\n\n", "\n\t \n") + CONLLU
    read = Read(tmp_path, content)
    assert (read.format, read.documents) == ("conllu", ["We don't know."] * 3)
    assert read.left_out == {"a sentence that is not CoNLL-U": 1}
    with pytest.raises(UserError, match=r"CoNLL-U with spaces for tabs\. Put tabs there: sed"):
        Read(tmp_path, CONLLU.replace("\t", "  "))


@pytest.mark.parametrize(
    ("content", "documents"),
    [
        ("EU\tB-ORG\nsaid\tO\n.\tO\n\t\nPeter\tB-PER\n", ["EU said .", "Peter"]),
        ("#\tn-tv.de vom 26.02.2005\n1\tIn\tO\tO\n2\tBonn\tB-LOC\tO\n\n#\tx y\n1\tJa\tO\tO\n", ["In Bonn", "Ja"]),
        ("# # O\n1 CD O\nso RB O\n\n# source\nIt PRP O\n", ["# 1 so", "It"]),
        ("10\u00a0000 O\nkm O\nnow O\n", ["10\u00a0000 km now"]),
        ("New York\tB-LOC\nis\tO\nbig\tO\n", ["New York is big"]),
        (
            "#begin document (a); part 0\na 0 0 Hi UH *\na 0 1 you PRP *\n\na 0 0 Bye UH *\n#end document\n",
            ["Hi you", "Bye"],
        ),
    ],
)
def test_tokens_in_columns(content: str, documents: list[str], tmp_path: Path) -> None:
    for text in (content, content.replace("\n", "\r\n")):
        read = Read(tmp_path, text)
        assert (read.format, read.documents) == ("columns", documents)


TOKENS = st.lists(
    st.lists(st.text("aä&<>\"'.#", min_size=1, max_size=4), min_size=1, max_size=4), min_size=1, max_size=4
)


@given(TOKENS, st.sampled_from(["\t{}\tX\n", "\n"]), st.sampled_from(["", '<?xml version="1.0"?>\n<corpus>\n']))
def test_vertical_files_have_their_tokens(tmp_path_factory, sentences, end: str, head: str) -> None:
    written = "".join(
        "<s>\n" + "".join(escape(token) + end.format(token[:1].replace("<", "x")) for token in tokens) + "</s>\n"
        for tokens in sentences
    )
    read = Read(tmp_path_factory.getbasetemp(), f'{head}<text id="1">\n{written}</text>\n', "file.vrt")
    assert (read.format, read.documents) == ("vrt", [" ".join(tokens) for tokens in sentences])


def test_no_space_where_a_vertical_file_says_so(tmp_path: Path) -> None:
    content = '<doc id="1">\n<p>\n<ne type="x">\nBonn\tN\n</ne>\n<g/>\n,\t,\nja\tI\n</p>\nalone\tA\n</doc>\n'
    read = Read(tmp_path, content)
    assert (read.format, read.documents) == ("vrt", ["Bonn, ja", "alone"])


# --- XML ---

TEI = """<?xml version="1.0" encoding="UTF-8"?>
<!-- a > b --><!DOCTYPE TEI [<!ENTITY who "Anna">]>
<TEI xmlns="http://www.tei-c.org/ns/1.0"><teiHeader><p>About it.</p></teiHeader><text><body>
<head>A <hi>heading</hi></head><note>no text</note>
<p>Of &who;,<note place="foot"><p>a note</p></note> who <choice><sic>sayd</sic><corr>said</corr></choice>
it<lb/>on two lines, un<lb break="no"/>broken.</p><lg><l>A verse</l><l>and another</l></lg>
</body></text></TEI>"""


def test_texts_in_tei(tmp_path: Path) -> None:
    read = Read(tmp_path, TEI)
    text = ["A heading", "Of Anna, who said it on two lines, unbroken.", "A verse", "and another"]
    assert (read.format, read.documents) == ("xml", text)
    paragraphs = etree.fromstring(TEI.replace("note", "fw").replace("choice", "x").encode()).iterfind(".//{*}l")
    assert ["".join(line.itertext()) for line in paragraphs] == text[2:]


def test_sentences_in_xml(tmp_path: Path) -> None:
    raw = '<?xml version="1.0"?>\n<document><s id="1"><time id="T1"/>\n One &amp; two. </s><s>Three.</s></document>'
    assert Read(tmp_path, gzip.compress(raw.encode())).documents == ["One & two.", "Three."]
    words = raw.replace("One &amp; two.", '<w>One</w><pc join="left">,</pc><w>two</w><pc join="left">.</pc>')
    assert Read(tmp_path, words).documents == ["One, two.", "Three."]
    contracted = '<name><w>I</w></name><w join="right">won\'t<w n="will"/><w/></w><pc>.</pc>'
    assert Read(tmp_path, raw.replace("One &amp; two.", contracted)).documents == ["I won't.", "Three."]
    spaced = raw.replace("One &amp; two.", "<w>One </w><w>two</w><c>.</c>")
    assert Read(tmp_path, spaced).documents == ["One two.", "Three."]
    latin = raw.replace('"1.0"?', '"1.0" encoding="iso-8859-1"?').replace("Three", "Café")
    assert Read(tmp_path, latin.encode("latin-1")).documents == ["One & two.", "Café."]
    with pytest.raises(UserError, match="is damaged: not XML"):
        Read(tmp_path, raw[:-20])


def test_codes_in_a_translation_memory_are_no_text(tmp_path: Path) -> None:
    segment = (
        '<seg>A <bpt i="1">&lt;b&gt;</bpt><hi>word</hi><ept i="1">&lt;/b&gt;</ept>, <ph>{1}</ph>more<ut>x</ut></seg>'
    )
    unit = f'<tu><prop>p</prop><note>n</note><tuv xml:lang="is">{segment}</tuv></tu>'
    head = '<?xml version="1.0"?><!-- > --><!DOCTYPE tmx [<!ENTITY x "y">]>'
    assert Read(tmp_path, f'{head}<tmx version="1.4"><body>{unit}</body></tmx>').documents == ["A word, more"]


@pytest.mark.parametrize(
    ("name", "element"),
    [("tmx", "<tu><tuv xml:lang='is'><seg>A segment {}</seg></tuv></tu>"), ("xml", "<s>Text {}</s>")],
)
def test_memory_does_not_grow_with_xml(name: str, element: str, tmp_path: Path) -> None:
    peaks = []
    for count in (3000, 12_000):
        (tmp_path / "x").write_text(
            f"<?xml version='1.0'?><{name}>{''.join(map(element.format, range(count)))}</{name}>"
        )
        tracemalloc.start()
        try:
            with (tmp_path / "x").open("rb") as stream:
                found = READERS[name].documents(stream, "x", Wanted(), Tally())
                assert sum(map(len, found)) == count
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_titles_and_escapes_of_wikiextractor(tmp_path: Path) -> None:
    text = '<doc id="1" url="u" title="A "b" &amp; c">\nA "b" & c\n\n5 &lt; 6 &amp;amp; more.\n</doc>\n'
    text += '<doc id="2" url="u" title="D">\nD\n\n</doc>\n<doc id="3" url="u">\nNo title.\n</doc>\n'
    assert Read(tmp_path, text).documents == ["5 < 6 &amp; more.", "No title."]


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-2"])
def test_pages_that_say_their_encoding_in_xml(encoding: str, tmp_path: Path) -> None:
    page = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE html><html><body><p>žluťoučký kůň</p></body></html>'
    assert Read(tmp_path, page.encode(encoding)).documents == ["žluťoučký kůň"]


def test_what_stands_before_a_page_is_passed_in_no_time(tmp_path: Path) -> None:
    comments = "<!-- one --> <!-- > two -->\n" * 100
    page = "<HTML><body><p>A page of text.</p></body></HTML>"
    assert Read(tmp_path, f'<?xml version="1.0"?>{comments}<!DOCTYPE html>{comments}{page}').format == "html"
    assert Read(tmp_path, f"{comments}{page}").format == "html"
    assert Read(tmp_path, f"{comments}Not a page.\n", format="text").format == "text"
    with pytest.raises(UserError, match="is XML"):
        Read(tmp_path, f'{comments}<?xml version="1.0"?><x/>')


def test_a_short_page_in_utf8_that_says_nothing(tmp_path: Path) -> None:
    assert Read(tmp_path, "<html><body><p>Ein café, bitte</p></body></html>").documents == ["Ein café, bitte"]


# --- subtitles and catalogues ---

SRT = """1
00:00:01,000 --> 00:00:02,500 X1:5
<i>Hello</i> {\\an8}you &amp;
there.

2
00:00:03,000 --> 00:00:04,000
- 1984?
3
00:00:05,000 --> 00:00:06,000
- Yes.
"""
VTT = """WEBVTT - a title
Kind: captions

NOTE of the writer

first
00:01.000 --> 00:02.000 align:start
<v Anna>Hello <00:01.500><c.yellow>you</c>

01:00:03.000 --> 01:00:04.000
3 < 4
"""


def test_subtitles_are_read_as_they_are_shown(tmp_path: Path) -> None:
    for text in (SRT, "\ufeff\n\n" + SRT.replace("\n", "\r\n")):
        read = Read(tmp_path, text)
        assert (read.format, read.documents) == ("subtitles", ["Hello you & there.", "- 1984?", "- Yes."])
        assert not read.left_out
    unnumbered = "".join(line for line in SRT.splitlines(keepends=True) if not line.strip().isdecimal())
    assert Read(tmp_path, unnumbered).documents == ["Hello you & there.", "- 1984?", "- Yes."]
    read = Read(tmp_path, VTT)
    assert (read.format, read.documents) == ("subtitles", ["Hello you", "3 < 4"])
    assert read.left_out == {"a line that is shown at no time": 3}


PO = r"""# Translation of x
#, fuzzy
msgid ""
msgstr ""
"Language: is\n"

#: a.c:1
#, c-format
msgid "one"
msgstr ""
"\"Einn\"\t"
"tveir\\n\n"

#, fuzzy, c-format
#| msgid "old"
msgid "two"
msgstr "not sure"
msgctxt "menu"
msgid "three"
msgid_plural "threes"
msgstr[0] "þrír"
msgstr[1] "þrjár"

msgid "four"
msgstr ""

#~ msgid "old"
#~ msgstr "gamalt"
"""


def test_the_translations_of_a_catalogue_are_read(tmp_path: Path) -> None:
    for text in (PO, PO.replace("\n", "\r\n")):
        read = Read(tmp_path, text)
        assert (read.format, read.documents) == ("po", ['"Einn"\ttveir\\n\n', "þrír", "þrjár"])
        assert read.left_out == {
            "a fuzzy translation": 1,
            "no translation": 1,
            "a line of a translation that is out of use": 2,
        }


TEXTS = st.text('aä\\"\n\t#%', min_size=1, max_size=9)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_no_translation_is_lost(tmp_path_factory, pairs) -> None:
    def quoted(text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
        return "\n".join(f'"{part}"' for part in escaped.replace("\n", "\\n\n").split("\n"))

    text = "\n".join(f"msgid {quoted(one)}\nmsgstr {quoted(other)}\n" for one, other in pairs)
    assert Read(tmp_path_factory.getbasetemp(), text, "file.po").documents == [other for _, other in pairs]


# --- marks that are not taken out ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\\documentclass{article}\n\\begin{document}\nText.\n", "LaTeX.*pandoc --from latex"),
        ("\\section{A}\nText.\n\\begin{itemize}\n\\item x\n\\end{itemize}\n", "LaTeX"),
        ("From a@b Mon Jan  1 00:00:00 2020\nFrom: a@b\n\nText.\n", "a mailbox"),
        ("Return-Path: <a@b>\nReceived: from x\nSubject: y\n\nText.\n", "e-mail"),
        ("[Script Info]\nTitle: x\n", "subtitles of another kind.*ffmpeg"),
        ("[ar:X]\n[00:12.00]Line 1\n[00:17.20]Line 2\n", "a song with times"),
        ("\\id GEN\n\\c 1\n\\v 1 In the beginning\n", "USFM"),
        ("@Begin\n@Languages:\teng\n*CHI:\thello .\n", "CHAT"),
        ("<DOC>\n<DOCNO> 1 </DOCNO>\n<TEXT>\nText\n</TEXT>\n</DOC>\n", "text with tags.*sed -E"),
        ("<p>One</p>\n<p>Two</p>\n", "text with tags.*--format html"),
        ("'''A''' is [[b]].\n== H ==\n{{x}}\n[[Category:y]]\n", "wikitext.*pandoc --from mediawiki"),
        ('<!DOCTYPE book PUBLIC "x">\n<book><p>x</p></book>', "XML.*xmlstarlet"),
        ("<feed xmlns='http://www.w3.org/2005/Atom'><title>x</title></feed>", "XML.*xmlstarlet"),
    ],
)
def test_marks_do_not_become_text_unless_that_is_said(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{message}.*--format text"):
        Read(tmp_path, text)
    assert Read(tmp_path, text, format="text").documents == [line for line in text.split("\n") if line]


MAIL = "From: a@b\nSubject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\nFyrsta lína.\n"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("<DOC>\n<TEXT>\nOne <b>line</b>\n</TEXT>\n</DOC>\n", ["One line"]),
        ("<CHAPTER ID=1>\nOne\n<P>\nline\n<P>\n", ["One", "line"]),
        ("[ar:X]\n[00:12.00]Line 1\n[00:17.20][00:18.00]Line 2\n", ["Line 1", "Line 2"]),
        ("\\id GEN\n\\c 1\n\\v 1 In the \\nd beginning\\nd*\n", ["GEN", "1", "1 In the beginning"]),
        ("@Begin\n*CHI:\thello .\n%mor:\tx\n@End\n", ["hello ."]),
        (CONLLU.replace("\t", "  "), CONLLU.strip().split("\n")),
        ("{'text': 'one'}\n{'text': \"it's\"}\n", ['{"text": "one"}', '{"text": "it\'s"}']),
        (MAIL, ["Fyrsta lína."]),
        (f"From a@b Mon Jan  1 00:00:00 2020\n{MAIL}\nFrom c Mon Jan  1 00:00:01 2020\n{MAIL}", ["Fyrsta lína."] * 2),
    ],
)
def test_the_command_that_is_named_takes_the_marks_out(text: str, lines: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        Read(tmp_path, text, "a file")
    command = re.search(r": ((?:sed|grep|python) .* > NEW\S*?)(?:[.;] |$)", str(refused.value))[1]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", "-e", "-c", command], cwd=tmp_path, env=environment, check=True)
    (made,) = tmp_path.glob("NEW*")
    found = [line.strip() for line in made.read_text(encoding="utf-8").split("\n")]
    assert [line for line in found if line and not line.startswith("%")] == lines


@pytest.mark.parametrize(
    "text",
    [
        "From here to there it is far.\nTo: nobody.\n",
        "<s> one </s>\n<s> two <unk> </s>\n",
        "<3 is a heart\nand <this> is not\n",
        "Chapter 1\n\\o/ is a person\n",
        "@anna hello\n@ben {hi}\n",
        "# Title\n\nSome *text* and [a link](http://x).\n\n```python\nx = 1\n```\n",
        "A note {{c}}.\n{{d}} is [[b]] odd.\nMore.\n",
        "---\ntitle: x\nitems:\n  - a: 1\n",
        "Verse [1:2] and [3:4]\n[Chorus]\n",
        "12:30 --> 14:00 is lunch\n1\n2\n",
        'He wrote msgid "x" and msgstr.\n',
        "3.0 is a number and then come nine words more _ or ten\n",
    ],
)
def test_words_that_look_like_marks_are_text(text: str, tmp_path: Path) -> None:
    assert Read(tmp_path, text).format == "text"
