"""JSON that is one value instead of a record a line: an array of records, or an object that has records in it."""

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from lmtrain.data.formats.reader import (
    LONGEST,
    TEXT_FIELDS,
    Reader,
    Tally,
    Wanted,
    documents_of_value,
    field_of,
    too_long,
)
from lmtrain.data.formats.streams import HEAD_BYTES, decoded
from lmtrain.errors import UserError, importing

_TOKENS = re.compile(
    r'(?:[\s{}\[\],:]|"(?:[^"\\\n]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|-?\b(?:true|false|null|NaN|Infinity)\b)*'
    r'(?:"(?:[^"\\\n]|\\.)*\\?|[-\w.+]*)'  # the last token may be cut off
)
_BEGINNING = re.compile(r'\s*(?:\{\s*"(?:[^"\\\n]|\\.)*"\s*:|\[\s*(?:[{"\[]|null\b))')
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_ODD = re.compile(r"NaN|Infinity|\d{18}|\\u[dD][89a-fA-F]")
_PYTHONS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?\b(?:NaN|Infinity)\b|(?<![\w.+-])-?\d{18,}(?![\d.eE])', re.DOTALL)
_WORD_AT_END = re.compile(r"[-\w.+]*\Z")
_ESCAPES = re.compile(
    r"(?P<pair>\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w)|(?P<half>\\u[dD][89a-fA-F]\w\w)|\\.", re.DOTALL
)
_BATCH = 1024


class Json(Reader):
    """An array of records or texts, read one by one; of an object, the text of every record in it that has the field.

    What Python's json module writes although JSON does not have it (NaN, numbers of any length, lone surrogates) is
    read as in JSON Lines.
    """

    name, title = "json", "JSON"

    def recognises(self, head: bytes, name: str) -> bool:
        text = head.decode("utf-8", "ignore").removeprefix("\ufeff")
        if _BEGINNING.match(text):
            return bool(_TOKENS.fullmatch(text))
        return len(head) < HEAD_BYTES and text.lstrip()[:1] in ("[", "{") and _is_json(text)

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        with importing("ijson", f"{place}: JSON"):
            import ijson
        held: list[str] = []
        try:
            for found in _found(ijson, _Input(decoded(stream, place, wanted.errors), place), wanted, tally):
                held += found
                if len(held) >= _BATCH:
                    yield held
                    held = []
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise UserError(f"{place} is damaged: not JSON ({' '.join(str(error).split())[:100]}).") from None
        yield held


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
        return True
    except (ValueError, RecursionError):
        return False


def _found(ijson, stream: "_Input", wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
    if stream.begins_with("["):
        for record in ijson.items(stream, "item", use_float=True, multiple_values=True):
            yield field_of(record, wanted, tally)
        return
    fields = (wanted.field,) if wanted.field else TEXT_FIELDS
    chosen: dict[str, tuple[int, Any]] = {}  # by the place of an open record: the best field so far, and its value
    records: dict[str, list[int]] = {}  # how many records at a place are without the field, and with it
    for prefix, event, value in ijson.parse(stream, use_float=True, multiple_values=True):
        if event == "end_map":
            has_field = prefix in chosen
            records.setdefault(prefix, [0, 0])[has_field] += 1
            if has_field:
                yield documents_of_value(chosen.pop(prefix)[1], wanted, tally)
        elif event in ("string", "null", "number", "boolean", "start_array"):
            for rank, field in enumerate(fields):
                if prefix == field or prefix.endswith(f".{field}"):
                    record = prefix[: -len(field)].removesuffix(".")
                    if (
                        record not in chosen or rank <= chosen[record][0]
                    ):  # of two equal names the last counts, as in Python's json
                        chosen[record] = (rank, [] if event == "start_array" else value)
    beside = [without for without, having in records.values() if having]
    missing = sum(beside) if beside else 1
    if missing:
        tally.leave_out(f"no field {fields[0]!r}", "choose one with --field", missing)


class _Input:
    """JSON as ijson takes it: numbers too long for it become floats, NaN null, lone surrogates U+FFFD."""

    def __init__(self, pieces: Iterator[str], place: str) -> None:
        self._pieces, self._rest, self._place = pieces, "", place
        self._ready = self._more()

    def _more(self) -> bytes:
        """The next bytes, without a last token that may be unfinished; b"" at the end."""
        for piece in self._pieces:
            text = self._rest + piece
            end = _end_of_whole(text)
            text, self._rest = text[:end], text[end:]
            if len(self._rest) > LONGEST:
                raise too_long(self._place)
            if text:
                return _without_odd(text)
        text, self._rest = self._rest, ""
        return _without_odd(text)

    def begins_with(self, mark: str) -> bool:
        return self._ready.lstrip().startswith(mark.encode())

    def read(self, size: int = -1) -> bytes:
        if size == 0:
            return b""
        if not self._ready:
            self._ready = self._more()
        size = len(self._ready) if size < 0 else size
        ready, self._ready = self._ready[:size], self._ready[size:]
        return ready


def _end_of_whole(text: str) -> int:
    """Where the last token begins, if it may be unfinished; else the text's end."""
    end = 0
    for string in _STRING.finditer(text):
        end = string.end()
    begin = text.find('"', end)
    return begin if begin >= 0 else _WORD_AT_END.search(text, end).start()


def _without_odd(text: str) -> bytes:
    return (_PYTHONS.sub(_plain, text) if _ODD.search(text) else text).encode()


def _plain(token: re.Match[str]) -> str:
    text = token[0]
    if text[0] == '"':
        return _ESCAPES.sub(_whole, text) if "\\u" in text else text
    return f"{text}.0" if text[-1].isdigit() else "null"


def _whole(escape: re.Match[str]) -> str:
    return r"\ufffd" if escape["half"] else escape[0]
