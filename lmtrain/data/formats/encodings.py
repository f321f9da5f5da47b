"""Text in other encodings than UTF-8: decoded as its byte-order mark or the user says, else refused with a guess."""

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from lmtrain.errors import UserError

_READ_BYTES = 4 << 20
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NO_ENCODINGS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "utf-7", "charmap"}
_C1 = re.compile("[\x80-\x84\x86-\x9f]")
_LATIN = ("windows-1252", "windows-1250", "windows-1254", "windows-1257", "iso8859-2")
_USUAL = (
    "windows-1251",
    "koi8-r",
    "koi8-u",
    "cp866",
    "windows-1253",
    "windows-1255",
    "windows-1256",
    "cp932",
    "euc-jp",
)
_GUESSED_BYTES = 1 << 15


def checked_encoding(name: str | None) -> str | None:
    """The name of an encoding as Python writes it; None for UTF-8.

    Raises:
        ValueError: there is none of that name.
    """
    if name is None:
        return None
    try:
        codec = codecs.lookup(name)
        if not codec._is_text_encoding or codec.name in _NO_ENCODINGS:  # type: ignore[attr-defined]
            raise LookupError
    except LookupError:
        raise ValueError(
            f"there is no encoding {name!r}; there are, for example, windows-1251, koi8-r, latin-1, windows-1250, "
            "shift_jis, euc-jp, gb18030, big5, utf-16-le"
        ) from None
    return None if codec.name in ("utf-8", "utf-8-sig") else codec.name


def encoding_argument(encoding: str) -> str:
    """What a user types for an encoding, for messages: the key of train.py and the option of the scripts."""
    return f"data.encoding={encoding} for train.py, --encoding {encoding} for the scripts"


def encoding_of(head: bytes, place: str, chosen: str | None = None) -> str | None:
    """The encoding of text that begins with `head`: that of its byte-order mark, else the chosen one; None for UTF-8.

    Args:
        place: where the text is from, for messages.

    Raises:
        UserError: the text is UTF-8 and another encoding was chosen; or UTF-16 or UTF-32 was chosen without a byte
            order, and the text has no mark.
    """
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if marked is None and chosen in _MARKS.values():
        raise UserError(
            f"{place} has no byte-order mark, so {chosen} does not say in which order its bytes are. Choose "
            f"{chosen}-le or {chosen}-be."
        )
    if marked is None and chosen and _is_utf8(head):
        raise UserError(
            f"{place} is UTF-8, not {chosen}. Read it by itself, without --encoding (train.py: data.encoding=null)."
        )
    return marked or (None if head.startswith(codecs.BOM_UTF8) else chosen)


def head_in_utf8(head: bytes, place: str, chosen: str | None) -> bytes:
    """The first bytes of a file, cut anywhere, recoded to UTF-8; raises what `encoding_of` does."""
    encoding = encoding_of(head, place, chosen)
    if encoding is None:
        return head
    return codecs.getincrementaldecoder(encoding)("replace").decode(head).encode()


def _is_utf8(head: bytes) -> bool:
    """Whether `head` is UTF-8 without a mark, with enough characters beyond ASCII for that not to be chance."""
    if head.startswith(codecs.BOM_UTF8):
        return False
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return sum(not character.isascii() for character in text) >= 8


def recoded(stream: BinaryIO, place: str, encoding: str, errors: str) -> Iterator[bytes]:
    """The bytes of a stream, recoded to UTF-8.

    Args:
        place: where the stream is from, for messages.
        errors: "strict", or "replace" to read bytes that are not in the encoding as U+FFFD.

    Raises:
        UserError: (strict) bytes are not in the encoding; names the byte offset.
    """
    decoder, fed = codecs.getincrementaldecoder(encoding)(errors), 0
    try:
        while data := stream.read(_READ_BYTES):
            text = decoder.decode(data)
            if encoding.startswith("iso8859") and errors == "strict" and (found := _C1.search(text)):
                raise UserError(
                    f"{place}: byte 0x{ord(found[0]):02x} at offset {fed + found.start()} is a control character in "
                    f"{encoding}. It may be windows-1252: {encoding_argument('windows-1252')}."
                )
            fed += len(data)
            yield text.encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeDecodeError as error:
        at = fed - (len(error.object) - len(data)) + error.start
        raise UserError(
            f"{place}: byte 0x{error.object[error.start]:02x} at offset {at} is not {encoding} ({error.reason}). Name "
            f"its encoding ({encoding_argument('NAME')}), or have such bytes read as U+FFFD "
            "(data.errors=replace, --errors replace)."
        ) from None


def not_utf8(place: str, error: UnicodeDecodeError, base: int) -> UserError:
    """The error for bytes that are not UTF-8, in data that begins at the byte offset `base` of the content."""
    return UserError(
        f"{place}: byte 0x{error.object[error.start]:02x} at offset {base + error.start} is not UTF-8 "
        f"({error.reason}). {_advice(error.object, error.start)} To read such bytes as U+FFFD: data.errors=replace for "
        "train.py, --errors replace for the scripts."
    )


def _advice(data: bytes, place: int) -> str:
    """What the encoding of text may be that is not UTF-8 at a byte, and what to type."""
    before = data[max(0, place - _GUESSED_BYTES) : place].decode("utf-8", "ignore")
    around = data[place : place + _GUESSED_BYTES]
    if sum(not character.isascii() for character in before) >= 8 or _mostly_utf8(around):
        return "The text around it is UTF-8, so it is damaged there or was joined from files in several encodings."
    begin = max(data.rfind(b"\n", 0, place) + 1, place - 200)
    sample = data[begin : begin + _GUESSED_BYTES]
    found = _guess(sample)
    if found:
        name, text = found
        called = f"{name} (Shift-JIS)" if name == "cp932" else name
        return f"It looks like {called}: {_excerpt(text)!r}. If it is: {encoding_argument(name)}."
    words = {}
    for name in _LATIN:
        text = _excerpt(sample.decode(name, "replace"))
        if "\ufffd" not in text:
            words.setdefault(text, name)
    shown = ", ".join(f"{text!r} in {name}" for text, name in words.items())
    return f"It would be {shown}. " * bool(shown) + f"Name its encoding: {encoding_argument('NAME')}."


def _mostly_utf8(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    return sum(character > "\x7f" and character != "\ufffd" for character in text) > 2 * text.count("\ufffd")


def _guess(sample: bytes) -> tuple[str, str] | None:
    """The encoding that charset-normalizer is sure of, and the text; None for Latin letters, where it cannot be."""
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return None
    best = from_bytes(sample.rsplit(b"\n", 1)[0] or sample).best()
    if best is None or best.chaos > 0.1:
        return None
    text = str(best)
    letters = [character for character in text if character.isalpha()]
    strange = sum(character > "\u024f" for character in letters)
    if strange <= 0.5 * len(letters):
        return None
    for name in _USUAL:  # preferred to a rare encoding that gives the same text
        try:
            if best.raw.decode(name) == text:
                return name, text
        except UnicodeDecodeError:
            continue
    return best.encoding, text


def _excerpt(text: str) -> str:
    """The first words of a text that are not ASCII."""
    found = re.search(r"(?:\S+[ \t])?\S*[^\x00-\x7f]\S*(?:[ \t]\S+)?", text)
    return found[0][:40] if found else text[:40]


def unmarked_wide(head: bytes) -> str | None:
    """The encoding of what can only be UTF-16 or UTF-32 without a byte-order mark; None otherwise."""
    if b"\0" not in head:
        return None
    for encoding, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head[: len(head) // width * width])
        except UnicodeDecodeError:
            continue
        spaces = sum(text.count(character) for character in " \n")
        if spaces > 0.03 * len(text) and not re.search("[\0-\x08\x0e-\x1f\ue000-\uf8ff]", text):
            return encoding
    return None
