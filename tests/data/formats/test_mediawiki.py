"""Dumps of MediaWiki: articles, as running text, whole and once, however the file is compressed and cut."""

import bz2
import gzip
import io
import tracemalloc
from pathlib import Path

import pytest
from preparing import everything, options, prepare, texts
from test_formats import Read
from wikis import HEAD, dump, page

from lmtrain.data.formats import mediawiki
from lmtrain.data.formats.reader import Tally, Wanted
from lmtrain.data.formats.registry import READERS
from lmtrain.data.formats.wikitext import plain_text
from lmtrain.errors import UserError

ARTICLE = """{{Infobox settlement
| name = {{nowrap|Nýja [[Þorp]]}}
| area = {{convert|3|km2}}<ref>{{cite web|url=http://x}}</ref>
}}
<!-- a comment
over lines -->
'''Þorp''' ({{IPA|θ}}) er ''lítið'' [[þorp (byggð)|þorp]] á [[Ísland]]i.<ref name="a">Heimild &amp; fleira</ref> Það er
gamalt<ref name="a" />, 5&nbsp;km frá [http://example.org sjónum] &ndash; {{formatnum:12}}.

[[Mynd:Thorp.jpg|thumb|Mynd af [[þorp]]inu {{small|x}}]]
[[File:Other.png|right]]
== Saga ==
{| class="wikitable"
! Ár !! Íbúar
|-
| 1900 || {{formatnum:100}}
{| nested
| x
|}
|}
* Fyrst<br />[[a]]
** Svo ''b''
# Talið
: Inndregið
<gallery>
Mynd:A.jpg|Texti
</gallery>
<math>x^2 {{</math> Eftir formúlu. <nowiki>'''ekki''' [[tengill]]</nowiki>

__NOTOC__ Óopnað }} og ólokað {{ hér.
----
== Tengt efni ==
{{Commons|x}}
[[Flokkur:Þorp]]
[[Category:Villages]]
[[de:Dorf]]
[[:de:Dorf|á þýsku]]
{{DEFAULTSORT:x}}"""
ARTICLE_TEXT = [
    "Þorp er lítið þorp á Íslandi. Það er",
    "gamalt, 5 km frá sjónum –.",
    "Saga",
    "Fyrst",
    "a",
    "Svo b",
    "Talið",
    "Inndregið",
    "Eftir formúlu. '''ekki''' [[tengill]]",
    "Óopnað }} og ólokað {{ hér.",
    "Tengt efni",
    "á þýsku",
]


def test_wikitext_becomes_running_text() -> None:
    assert plain_text(ARTICLE, {"Mynd"}, {"Flokkur"}).split("\n") == ARTICLE_TEXT


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("Before<ref> left open.\n\nSecond.", "Before left open.\nSecond."),
        ("Before\n{| class=x\n| a || b\n|-\n| c", "Before"),
        ("Before <!-- left open\nmore", "Before"),
        ("H<sub>2</sub>O, l''''eau''', 1 < 2 &amp;lt; [http://x.y] [http://x.y label]", "H2O, l'eau, 1 < 2 &lt; label"),
        ("; term : definition\n#REDIRECT is a word\n==== Deep ====", "term: definition\nREDIRECT is a word\nDeep"),
        ("a [[b|c [[d]] e]] f", "a c d e f"),
        ("[[Image:x.png|thumb|[[a]] {{b}} [[c|d]]]]text", "text"),
        ("a {{{1|default}}} b {{x|{{{2}}}}} c {{{{{3}}}|x}} d", "a b c d"),
        ("[[File:X.jpg|thumb|see [[b]] and [http://x d]]] after [[File:Y.png|[[c]]]] all", "after all"),
        ("[[Bild:X.jpg|thumb|an old name]] [[Datei:Y.SVG]] of [[a: b.c|it]]", "of it"),
        ("[[simple:X]] [[de:X]] [[:de:X]] [[:Category:Y]] [[:File:X.jpg|a picture]]", "de:X Category:Y a picture"),
        ("In __INIT__ and __NOTOC__ is __init__, __KEIN_INDEX__.", "In and is __init__,."),
        ("a -{zh-hans:简; zh-hant:繁}- -{raw}- -{A|zh-cn:x;zh-tw:y}- -{T|zh:t}--{H|zh:q}- x-{y}", "a 简 raw x x-{y}"),
        ("字（{{lang|en|x}}；）と（、b）", "字と（b）"),
        ("", ""),
    ],
)
def test_wikitext_that_is_odd(wikitext: str, text: str) -> None:
    assert plain_text(wikitext) == text


@pytest.mark.parametrize("compress", [bytes, bz2.compress, gzip.compress])
def test_of_a_dump_the_articles_are_read(compress, tmp_path: Path) -> None:
    content = dump(
        page("Þorp", ARTICLE),
        page("Spjall:Þorp", "A talk.", 1),
        page("Notandi:X", "A user.", 2),
        page("Snið:X", "A template.", 10),
        page("Old name", "#REDIRECT [[Þorp]]", redirect=True),
        page("Older name", "#TILVÍSUN [[Þorp]]"),
        page("A.css", "a {}", model="css"),
        page("Empty", ""),
        "  <page>\n    <title>torn & not XML</title>\n  </page>\n",
        page("Last", "The < last > & only <b>one</b>."),
    )
    read = Read(tmp_path, compress(content), "iswiki-20200101-pages-articles.xml.bz2")
    assert (read.format, read.documents) == ("mediawiki", [*ARTICLE_TEXT, "The < last > & only one."])
    assert read.left_out == {
        "a page in another namespace than articles": 3,
        "a redirect": 2,
        "a page that is no wikitext": 1,
        "a page without text": 1,
        "a page that is not XML": 1,
    }


def test_of_a_page_with_its_history_the_last_revision_is_read(tmp_path: Path) -> None:
    content = page("A", "Old text.").replace("  </page>\n", "") + page("A", "New text.").split("    <id>1</id>\n")[1]
    read = Read(tmp_path, dump(content))
    assert read.documents == ["New text."]


def test_old_dumps_tell_the_namespace_by_the_title(tmp_path: Path) -> None:
    pages = [page("Þorp", "An article."), page("Mynd:X.jpg", "Of a file.", 6), page("A: b", "A subtitle.")]
    content = dump(*pages).replace(b"    <ns>0</ns>\n", b"").replace(b"    <ns>6</ns>\n", b"").replace(b"0.11", b"0.3")
    read = Read(tmp_path, content)
    assert read.documents == ["An article.", "A subtitle."]
    assert read.left_out == {"a page in another namespace than articles": 1}
    pages = [page("User talk:X", "A talk."), page("Help", "An article."), page("Template:Y", "A template.")]
    text = "".join(pages).replace("    <ns>0</ns>\n", "")
    assert Read(tmp_path, f"<!-- of 2006 -->\n<mediawiki>{text}</mediawiki>").documents == ["An article."]


def test_redirects_of_any_script(tmp_path: Path) -> None:
    content = dump(page("A", "#पुनर्प्रेषित [[B]]"), page("C", "#REDIRECT[[B]]"), page("B", "Text."))
    assert Read(tmp_path, content).left_out == {"a redirect": 2}


def test_text_that_was_deleted(tmp_path: Path) -> None:
    deleted = page("A", "x").replace(
        '<text bytes="1" xml:space="preserve">x</text>', '<text bytes="1" deleted="deleted" />'
    )
    read = Read(tmp_path, dump(deleted, page("B", "Text.")))
    assert (read.documents, read.left_out) == (["Text."], {"a page without text": 1})


def many(count: int) -> list[str]:
    return [
        page(f"Page {n}", f"Article {n} of '''many'''.\n\n{'word ' * (n % 7)}{n}", 0 if n % 5 else 1)
        for n in range(count)
    ]


def test_a_dump_is_read_in_pieces_of_any_size(tmp_path: Path) -> None:
    pages = many(40)
    whole = Read(tmp_path, dump(*pages))
    streams = [HEAD, *("".join(pages[n : n + 7]) for n in range(0, 40, 7)), "</mediawiki>"]
    joined = dump(*pages)
    unaligned = [joined[n : n + 999] for n in range(0, len(joined), 999)]  # as pbzip2 cuts
    contents = (
        dump(*pages),
        b"".join(bz2.compress(stream.encode()) for stream in streams),
        b"".join(map(bz2.compress, unaligned)),
        bz2.compress(joined),
    )
    for content in contents:
        for size in (97, 1000, 4096):
            read = Read(tmp_path, content, block_size=size)
            assert (read.documents, read.left_out) == (whole.documents, whole.left_out)


def test_any_number_of_workers_prepares_the_same_corpus(tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(b"".join(bz2.compress(part.encode()) for part in (HEAD, *many(60), "</mediawiki>")))
    chosen = options(block_size=500)
    manifest = prepare([tmp_path / "dump"], tmp_path / "one", chosen)
    prepare([tmp_path / "dump"], tmp_path / "two", chosen, workers=2)
    assert texts(tmp_path / "one") == texts(tmp_path / "two")
    assert "Article 1 of many." in everything(tmp_path / "one")
    (source,) = manifest["sources"]
    assert (source["format"], source["documents"]) == ("mediawiki", 96)
    assert source["left_out"] == {"a page in another namespace than articles": 12}


def test_memory_does_not_grow_with_the_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mediawiki, "_READ_BYTES", 1 << 14)
    text = ARTICLE.replace("}} og ólokað {{", "og")
    pages = bz2.compress("".join(page(f"Page {n}", text) for n in range(20)).encode())
    peaks = []
    for count in (2, 6):
        content = b"".join([bz2.compress(HEAD.encode()), *[pages] * count, bz2.compress(b"</mediawiki>")])
        with bz2.open(io.BytesIO(content)) as stream:
            found = READERS["mediawiki"].documents(stream, "dump", Wanted(), Tally())
            tracemalloc.start()
            try:
                assert sum(map(len, found)) == count * 20 * len(ARTICLE_TEXT)
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_a_dump_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    content = dump(*many(20))[:-200]
    between_pages = dump(*many(20)).removesuffix(b"</mediawiki>\n")
    streams = b"".join(bz2.compress(part.encode()) for part in (HEAD, *many(20)))
    cuts = (content, bz2.compress(content), bz2.compress(dump(*many(20)))[:-20], between_pages, streams)
    for cut in cuts:
        with pytest.raises((UserError, EOFError), match=r"cut off|ends before|ended before"):
            Read(tmp_path, cut)
