"""MediaWiki's XML dumps, such as *-pages-articles.xml.bz2: the running text of the articles.

A dump is read page by page. One that is not compressed, or whose bzip2 data has several streams (multistream), is
read by several processes.
"""

import bz2
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from html import unescape
from itertools import chain
from typing import BinaryIO

from lmtrain.data.formats.reader import LONGEST, Reader, Tally, Wanted, beginning, too_long
from lmtrain.data.formats.streams import compression, opened, peeked
from lmtrain.data.formats.wikitext import plain_text
from lmtrain.data.formats.xml_text import root_of
from lmtrain.errors import UserError

_REDIRECT = re.compile(r"\s*#[^\s#\[:]+\s*:?\s*\[\[")
_NAMESPACE = re.compile(r'<namespace key="(-?\d+)"[^>]*>([^<]+)</namespace>')
_ENGLISH = ("Talk", "User", "Wikipedia", "File", "Image", "MediaWiki", "Template", "Help", "Category")
_BEGIN, _END, _DUMPS_END = b"<page>", b"</page>", b"</mediawiki>"
_TAIL = 64  # bytes kept after a page, for a <page> or </mediawiki> that is cut by a block
_STREAM = re.compile(rb"BZh[1-9]1AY&SY")
_READ_BYTES = 1 << 20


class MediaWiki(Reader):
    """The articles of a dump; each paragraph, list item and heading is a document."""

    name, title = "mediawiki", "a MediaWiki dump"

    def recognises(self, head: bytes, name: str) -> bool:
        return root_of(head) == "mediawiki"

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        head, stream = peeked(stream)
        pieces = iter(lambda: stream.read(_READ_BYTES), b"")
        yield from self._articles(pages(pieces, iter(()), place), head, wanted, tally)

    def documents_between(self, url: str, start: int, stop: int, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        """The documents of the pages that begin between two byte offsets of a local file, compressed or not."""
        with opened(url) as content:
            head = content.read(1 << 16)
        with open(url, "rb") as file:
            is_packed = compression(file.read(10)) is not None
            read = _streams_between if is_packed else _bytes_between
            yield from self._articles(pages(read(file, start, stop), read(file, stop, None), url), head, wanted, tally)

    def _articles(self, found: Iterator[bytes], head: bytes, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        namespaces = {unescape(name): key for key, name in _NAMESPACE.findall(head.decode("utf-8", "ignore"))}
        pictures, categories = ({name for name in namespaces if namespaces[name] == key} for key in ("6", "14"))
        for page in found:
            text = _wikitext(page, namespaces, tally)
            if text is None:
                continue
            try:
                yield wanted.documents_of_text(plain_text(text, pictures, categories))
            except ValueError as error:
                tally.leave_out("a page that cannot be parsed", beginning(str(error)))


def _wikitext(page: bytes, namespaces: Mapping[str, str], tally: Tally) -> str | None:
    """The wikitext of an article, or None for other pages; old dumps show a page's namespace only by its title."""
    try:
        root = ElementTree.fromstring(page)
    except ElementTree.ParseError as error:
        tally.leave_out("a page that is not XML", str(error))
        return None
    revision = [root, *root.findall("revision")][-1]  # the last one, if the dump has the page's history
    prefix, colon, _ = (root.findtext("title") or "").partition(":")
    is_english = prefix.removesuffix(" talk") in _ENGLISH
    by_title = namespaces.get(prefix, "1" if is_english else "0") if colon else "0"
    if root.findtext("ns", by_title) != "0":
        tally.leave_out("a page in another namespace than articles")
    elif root.find("redirect") is not None or _REDIRECT.match(revision.findtext("text") or ""):
        tally.leave_out("a redirect")
    elif revision.findtext("model", "wikitext") != "wikitext":
        tally.leave_out("a page that is no wikitext", revision.findtext("model"))
    elif text := revision.findtext("text"):
        return text
    else:
        tally.leave_out("a page without text")
    return None


def pages(pieces: Iterator[bytes], after: Iterator[bytes], place: str) -> Iterator[bytes]:
    """The pages that begin in `pieces`; the last one may end in `after`."""
    held, found = b"", False
    for piece in pieces:
        held += piece
        begin, upto = held.find(_BEGIN), 0
        while begin >= 0 and (end := held.find(_END, begin)) >= 0:
            upto = end + len(_END)
            yield held[begin:upto]
            begin, found = held.find(_BEGIN, upto), True
        held = held[begin:] if begin >= 0 else held[max(upto, len(held) - _TAIL) :]
        if len(held) > LONGEST:
            raise too_long(place)
    begins = len(held)
    for piece in after:
        held += piece
        begin = held.find(_BEGIN)
        if not 0 <= begin < begins:
            return
        if (end := held.find(_END, begin)) >= 0:
            yield held[begin : end + len(_END)]
            return
    if held.startswith(_BEGIN):
        raise UserError(f"{place} is cut off: its last page has no end. Get it again.")
    if found and _DUMPS_END not in held:
        raise UserError(f"{place} is cut off: it does not end with </mediawiki>. Get it again, or add that line.")


def _bytes_between(file: BinaryIO, start: int, stop: int | None) -> Iterator[bytes]:
    while stop is None or start < stop:
        file.seek(start)
        data = file.read(_READ_BYTES if stop is None else min(_READ_BYTES, stop - start))
        if not data:
            return
        start += len(data)
        yield data


def _streams_between(file: BinaryIO, start: int, stop: int | None) -> Iterator[bytes]:
    """The content of the bzip2 streams that begin between two byte offsets."""
    place = _next_stream(file, start, stop)
    while place is not None and (stop is None or place < stop):
        stream = bz2.BZ2Decompressor()
        for data in chain(_bytes_between(file, place, None), [b""]):
            if not data:
                raise EOFError("it ends before its compressed data does")
            place += len(data)
            yield stream.decompress(data)
            if stream.eof:
                place = _next_stream(file, place - len(stream.unused_data), stop)
                break


def _next_stream(file: BinaryIO, start: int, stop: int | None) -> int | None:
    held = b""
    for data in _bytes_between(file, start, None):
        held += data
        if found := _STREAM.search(held):
            return start + found.start()
        start += max(0, len(held) - 9)
        held = held[-9:]
        if stop is not None and start >= stop:
            return None
    return None
