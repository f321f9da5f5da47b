"""HTML, WikiExtractor's pages and translation memories (TMX)."""

import codecs
import re
from collections.abc import Iterator
from html import unescape
from typing import BinaryIO
from xml.etree.ElementTree import Element

from lmtrain.data.formats.reader import LONGEST, Reader, Tally, Wanted, split_text, too_long
from lmtrain.data.formats.xml_text import elements, root_of, text_of
from lmtrain.errors import UserError, importing

_DOCTYPE = re.compile(rb"<!doctype\s+html\b", re.IGNORECASE)
_DOC = re.compile(r'<doc id="[^"\n]*"(?:[^\n]*? title="([^\n]*)")?[^\n>]*>(?=\n)')
_LISTING = re.compile(rb"<title>\s*(?:Index of|Directory listing for)\b", re.IGNORECASE)
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


def page_text(html: bytes, encoding: str | None, errors: str) -> str:
    """The main text of a web page, without menus and the like, a paragraph a line."""
    with importing("resiliparse", "HTML"):
        from resiliparse.extract.html2text import extract_plain_text
        from resiliparse.parse.encoding import bytes_to_str, detect_encoding
    text = bytes_to_str(html, encoding or _declared_in_xml(html) or _utf8(html) or detect_encoding(html), errors)
    return extract_plain_text(text, main_content=True, alt_texts=False)


def _declared_in_xml(html: bytes) -> str | None:
    declared = re.match(rb"\s*<\?xml[^>]*\bencoding=[\"']([\w.:-]+)", html)
    try:
        return codecs.lookup(declared[1].decode()).name if declared else None
    except LookupError:
        return None


def _utf8(html: bytes) -> str | None:
    """ "utf-8" if the page can be decoded so, else None: the detector takes short UTF-8 pages for another encoding."""
    try:
        html.decode()
    except UnicodeDecodeError:
        return None
    return None if b"\x1b$" in html else "utf-8"  # ISO-2022-JP, which is valid UTF-8


class Html(Reader):
    """A web page: its main text."""

    name, title = "html", "HTML"

    def recognises(self, head: bytes, name: str) -> bool:
        if root_of(head).casefold() in ("html", "head", "body"):
            return True
        return head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"<") and bool(_DOCTYPE.search(head[:2048]))

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        html = stream.read(LONGEST + 1)
        if len(html) > LONGEST:
            raise too_long(place)
        if _LISTING.search(html[:4096]):
            raise UserError(f"{place} is the listing of a folder, not a text. Name its files.")
        yield wanted.documents_of_text(page_text(html, wanted.encoding, "replace"))


class WikiExtractor(Reader):
    """The pages that WikiExtractor writes: `<doc id=... title=...>`, the title, paragraphs, `</doc>`."""

    name, title = "wikiextractor", "WikiExtractor's output"

    def recognises(self, head: bytes, name: str) -> bool:
        return bool(_DOC.match(head[:4096].decode("utf-8", "ignore").lstrip("\ufeff \r\n")))

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        for pages in split_text(stream, place, wanted, "</doc>"):
            documents: list[str] = []
            for page in pages:
                begin = _DOC.search(page)
                if begin is None:
                    if page.strip():
                        tally.leave_out("text outside of <doc>")
                    continue
                first, _, others = page[begin.end() :].strip("\n").partition("\n")
                is_title = first in (begin[1], unescape(begin[1] or "")) or unescape(first) == begin[1]
                text = others if is_title else f"{first}\n{others}"
                documents += _unescaped(text).split(wanted.separator())
            yield documents


def _unescaped(text: str) -> str:
    """Reverses what WikiExtractor escapes between its tags."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


class Tmx(Reader):
    """A translation memory: the segments of one language."""

    name, title = "tmx", "TMX"

    def recognises(self, head: bytes, name: str) -> bool:
        return root_of(head) == "tmx"

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        languages: set[str] = set()
        for unit in elements(stream, ("tu",), place):
            found = [(variant, _language(variant)) for variant in unit.iter("tuv")]
            languages.update(language for _, language in found)
            segments = [
                text_of(segment)
                for variant, language in found
                if wanted.language is None or _is_language(language, wanted.language)
                for segment in variant.iter("seg")
            ]
            if wanted.language is None and len(languages) > 1:
                raise _choose(place, languages)
            if not segments:
                tally.leave_out(f"no segment in {wanted.language}", f"only in {', '.join(sorted(languages))}")
            yield segments


def _language(variant: Element) -> str:
    return variant.get(_LANGUAGE) or variant.get("lang") or ""


def _is_language(tag: str, wanted: str) -> bool:
    tag, wanted = tag.casefold().replace("_", "-"), wanted.casefold().replace("_", "-")
    return tag == wanted or tag.startswith(f"{wanted}-")


def _choose(place: str, languages: set[str]) -> UserError:
    return UserError(f"{place} has texts in {', '.join(sorted(languages))}: choose one with --language.")
