"""Web crawls: WARC, whose responses hold HTML, and WET, whose conversions hold text."""

from collections.abc import Iterator
from typing import BinaryIO

from lmtrain.errors import MissingPackage, UserError
from lmtrain.formats.markup import page_text
from lmtrain.formats.reader import LONGEST, Reader, Tally, Wanted

_ABOUT_PAGES = {"warcinfo", "request", "metadata"}


class Warc(Reader):
    """The pages of a crawl, each a text."""

    name, title = "warc", "WARC"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        return head.startswith(b"WARC/")

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        try:
            from fastwarc.warc import ArchiveIterator
        except ImportError:
            raise MissingPackage(f"{place}: WARC", "fastwarc") from None
        try:
            for record in ArchiveIterator(stream, fsspec_args=False):
                kind = record.headers.get("WARC-Type", "unknown")
                if kind in _ABOUT_PAGES:
                    continue
                if record.content_length > LONGEST:
                    tally.leave_out("a page longer than 64 MiB")
                    continue
                text = _text(record, kind, tally)
                if text is not None:
                    yield text.split(wanted.separator())
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{place} cannot be read as WARC: {error}.") from None


def _text(record, kind: str, tally: Tally) -> str | None:
    if kind == "conversion":
        return record.reader.read().decode("utf-8", "replace").replace("\r\n", "\n")
    if kind not in ("response", "resource"):
        tally.leave_out(f"a record of the type {kind}")
        return None
    status = record.http_headers.status_code if record.is_http else 200
    content = (record.http_content_type if record.is_http else record.headers.get("Content-Type", "")) or ""
    if status != 200:
        tally.leave_out("a response without a page", f"status {status}")
        return None
    content = content.split(";")[0].strip().casefold()
    body = record.reader.read()
    if content in ("text/html", "application/xhtml+xml"):
        return page_text(body, record.http_charset if record.is_http else None, "replace")
    if content == "text/plain":
        return body.decode("utf-8", "replace").replace("\r\n", "\n")
    tally.leave_out("a response that is neither HTML nor text", content)
    return None
