"""Lists the readers of all formats and recognises files. A new reader is an entry in `_SURE` or `_BY_LINES`."""

import shlex
from collections.abc import Iterator
from typing import IO, BinaryIO

from lmtrain.data.formats.archives import Tar, Zip
from lmtrain.data.formats.captions import Po, Subtitles
from lmtrain.data.formats.columns import Conllu, TaggedColumns
from lmtrain.data.formats.encodings import head_in_utf8
from lmtrain.data.formats.foreign import TABLE_OF_NUMBERS, Foreign, foreign, table_of_numbers
from lmtrain.data.formats.json_document import Json
from lmtrain.data.formats.lines import JsonLines, Leipzig, Text
from lmtrain.data.formats.markup import Html, Tmx, WikiExtractor
from lmtrain.data.formats.mediawiki import MediaWiki
from lmtrain.data.formats.reader import NoColumn, Reader, Tally, Wanted, beginning
from lmtrain.data.formats.streams import decompressed, in_utf8, peeked
from lmtrain.data.formats.tables import Arrow, Csv, Parquet
from lmtrain.data.formats.vertical import Vertical
from lmtrain.data.formats.web_archive import Warc
from lmtrain.data.formats.xml_text import XmlText
from lmtrain.errors import UserError


def recognise(head: bytes, place: str, encoding: str | None = None) -> Reader | Foreign:
    """The reader for content that begins with `head`, or a `Foreign` for a known kind that is not read.

    Args:
        head: the first `HEAD_BYTES`, decompressed.
        place: where the file is, whose name is a hint.
        encoding: of text without a byte-order mark; None for UTF-8.

    Raises:
        UserError: the content is not in that encoding.
    """
    name = place.rsplit("/", 1)[-1]
    if not any(reader.recognises(head, name) for reader in _SURE if not reader.is_text):
        head = head_in_utf8(head, place, encoding)
    for reader in _SURE:
        if reader.recognises(head, name):
            found = foreign(head) if isinstance(reader, Zip) else None
            return found or reader
    if found := foreign(head):
        return found
    for reader in _BY_LINES:
        if reader.recognises(head, name):
            return reader
    return TABLE_OF_NUMBERS if table_of_numbers(head) else READERS["text"]


def read_member(stream: IO[bytes], place: str, name: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
    """The documents of a file in an archive; a file that is no text is left out."""
    head, content = peeked(decompressed(stream))
    if not head:
        return
    found = recognise(head, place, wanted.encoding)
    if wanted.format != "auto" and not isinstance(found, (Tar, Zip)):
        found = READERS[wanted.format]
    if isinstance(found, Foreign):
        tally.leave_out(f"a file that is {found.title}", name)
        return
    try:
        yield from found.documents(text_of(content, found, place, wanted), place, wanted, tally)
    except NoColumn as error:
        tally.leave_out("a table without the column of the text", beginning(str(error).removeprefix(place)))
        return
    tally.members[found.name] += 1


_SURE: tuple[Reader, ...] = (
    Parquet(),
    Arrow(),
    Zip(read_member),
    Tar(read_member),
    Warc(),
    MediaWiki(),
    Tmx(),
    Html(),
    Vertical(),
    WikiExtractor(),
    XmlText(),
    Subtitles(),
    Po(),
)
_BY_LINES: tuple[Reader, ...] = (JsonLines(), Json(), Conllu(), Leipzig(), TaggedColumns(), Csv())
READERS: dict[str, Reader] = {reader.name: reader for reader in (*_SURE, *_BY_LINES, Text())}
"""By name, in the order in which they are asked whether they recognise a file."""

SAYS_ITS_ENCODING = {"parquet", "arrow", "zip", "tar", "warc", "mediawiki", "tmx", "xml", "html"}
"""The formats that state the encoding of their text, or prescribe it."""


def text_of(stream: BinaryIO, reader: Reader, place: str, wanted: Wanted) -> BinaryIO:
    """The stream that a reader gets: text recoded to UTF-8, or the bytes if the format states its encoding."""
    return stream if reader.name in SAYS_ITS_ENCODING else in_utf8(stream, place, wanted.encoding, wanted.errors)


def reader_of(head: bytes, url: str, chosen: str = "auto", encoding: str | None = None) -> Reader:
    """The reader of a source: the chosen one, which in an archive reads the files in it.

    Raises:
        UserError: no reader reads it; says what to do.
    """
    found = recognise(head, url, encoding)
    if encoding and isinstance(found, Reader) and found.name in SAYS_ITS_ENCODING - {"zip", "tar", "html"}:
        raise UserError(
            f"{url} is {found.title}, which states its encoding. Read it by itself, without --encoding {encoding}."
        )
    if chosen != "auto" and not isinstance(found, (Tar, Zip)):
        return READERS[chosen]
    if isinstance(found, Foreign):
        otherwise = " To read it as it is: --format text." if found.is_text else ""
        raise UserError(f"{url} is {found.title}. {found.remedy.format(file=shlex.quote(url))}.{otherwise}")
    return found
