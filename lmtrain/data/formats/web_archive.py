"""Web crawls: WARC, whose responses hold HTML, and WET, whose conversions hold text."""

import codecs
import re
from collections.abc import Iterator
from contextlib import nullcontext
from typing import BinaryIO

from lmtrain.data.formats.markup import page_text
from lmtrain.data.formats.reader import LONGEST, Reader, Tally, Wanted
from lmtrain.data.formats.streams import as_file
from lmtrain.errors import UserError, importing

_ABOUT_PAGES = {"warcinfo", "request", "metadata"}


class Warc(Reader):
    """The pages of a crawl, each a text."""

    name, title = "warc", "WARC"

    def recognises(self, head: bytes, name: str) -> bool:
        return head.startswith(b"WARC/")

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        with importing("fastwarc", f"{place}: WARC"):
            from fastwarc.warc import ArchiveIterator
        with nullcontext(stream) if stream.seekable() else as_file(stream) as stored:
            try:
                for record in ArchiveIterator(stored, fsspec_args=False, auto_decode="all"):
                    if record.headers.get("WARC-Type") in _ABOUT_PAGES:
                        continue
                    if record.content_length > LONGEST:
                        tally.leave_out("a page longer than 64 MiB")
                        continue
                    text = _text(record, place, tally)
                    if text is not None:
                        yield wanted.documents_of_text(text)
            except (OSError, ValueError, EOFError) as error:
                raise UserError(f"{place} cannot be read as WARC: {error}.") from None


def _text(record, place: str, tally: Tally) -> str | None:
    kind = record.headers.get("WARC-Type", "unknown")
    if kind not in ("conversion", "response", "resource"):
        tally.leave_out(f"a record of the type {kind}")
        return None
    headers = record.http_headers if record.is_http else record.headers
    status = headers.status_code if record.is_http else 200
    content = headers.get("Content-Type", "")
    if status != 200:
        tally.leave_out("a response without a page", f"status {status}")
        return None
    kind = "text/plain" if kind == "conversion" else content.split(";")[0].strip().casefold()
    body = record.reader.read()
    is_encoded = "Content-Encoding" in headers or "Transfer-Encoding" in headers
    if not is_encoded and len(body) < record.content_length:
        raise UserError(f"{place} is cut off: a record has {len(body):,} of {record.content_length:,} bytes.")
    if kind in ("text/html", "application/xhtml+xml"):
        return page_text(body, _charset(content), "replace")
    if kind == "text/plain":
        return body.decode(_charset(content) or "utf-8", "replace")
    tally.leave_out("a response that is neither HTML nor text", kind)
    return None


def _charset(content_type: str) -> str | None:
    """The encoding that a Content-Type names, or None."""
    named = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", content_type, re.IGNORECASE)
    try:
        return codecs.lookup(named[1]).name if named else None
    except LookupError:
        return None
