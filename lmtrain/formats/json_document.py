"""JSON that is not one record a line: an array of records, or an object that holds records somewhere."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from lmtrain.errors import MissingPackage, UserError
from lmtrain.formats.reader import TEXT_FIELDS, Reader, Tally, Wanted, documents_of_value, field_of

_TOKENS = re.compile(
    r'(?:[\s{}\[\],:]|"(?:[^"\\\n]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\b(?:true|false|null)\b)*'
    r'(?:"(?:[^"\\\n]|\\.)*\\?|[-\w.+]*)'  # the last one may go on behind the head
)
_BEGINNING = re.compile(r'\s*(?:\{\s*"(?:[^"\\\n]|\\.)*"\s*:|\[\s*(?:[{"\[]|null\b))')
_BATCH = 1024


class Json(Reader):
    """An array of records or texts, read one by one; of an object, all texts that any record in it has in the field."""

    name, title = "json", "JSON"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        text = head.decode("utf-8", "ignore").removeprefix("\ufeff")
        return bool(_BEGINNING.match(text) and _TOKENS.fullmatch(text))

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        try:
            import ijson
        except ImportError:
            raise MissingPackage(f"{place}: JSON", "ijson") from None
        held: list[str] = []
        try:
            for found in self._found(ijson, _WithoutMark(stream), wanted, tally):
                held += found
                if len(held) >= _BATCH:
                    yield held
                    held = []
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise UserError(f"{place} is damaged: not JSON ({' '.join(str(error).split())[:100]}).") from None
        yield held

    def _found(self, ijson, stream: "_WithoutMark", wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        if stream.begins_with(b"["):
            for record in ijson.items(stream, "item", use_float=True, multiple_values=True):
                yield field_of(record, wanted, tally)
            return
        fields = (wanted.field,) if wanted.field else TEXT_FIELDS
        seen = False
        for prefix, event, value in ijson.parse(stream, use_float=True, multiple_values=True):
            if event in ("string", "null", "number", "boolean") and _is_in(prefix, fields):
                seen = True
                yield documents_of_value(value, wanted, tally)
        if not seen:
            tally.leave_out(f"no field {wanted.field or 'text'!r}", "choose one with --field")


def _is_in(prefix: str, fields: tuple[str, ...]) -> bool:
    return any(prefix == field or prefix.endswith(f".{field}") for field in fields)


class _WithoutMark:
    """A stream from its first character on: ijson takes neither a byte-order mark nor several reads for granted."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._held = stream.read(1 << 16).removeprefix(b"\xef\xbb\xbf")

    def begins_with(self, mark: bytes) -> bool:
        return self._held.lstrip().startswith(mark)

    def read(self, size: int = -1) -> bytes:
        if size == 0:
            return b""
        held, self._held = self._held, b""
        return held or self._stream.read(size)
