"""Reads escapes such as `\\n` in what users type, and quotes commands so that they can be pasted into a shell."""

import re
import shlex

from lmtrain.errors import UserError

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
_NAMES = {character: name for name, character in _ESCAPES.items()}
_PLAIN = re.compile(r"(?:[A-Za-z_/.]|\\[a-z])(?:[\w/.+-]|\\[a-z])*", re.ASCII)
_WORDS = {"true", "false", "null", "none", "nan", "inf"}  # which Hydra does not read as texts


def unescaped(text: str) -> str:
    r"""Text as people type it, with `\n`, `\t`, `\r`, `\\`, `\xHH`, `\uHHHH` and `\UHHHHHHHH` read as characters.

    Raises:
        UserError: a number is not that of a character.
    """

    def character(match: re.Match[str]) -> str:
        name = match[1]
        if name in _ESCAPES:
            return _ESCAPES[name]
        number = int(name[1:], 16)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise UserError(
                f"{match[0]} in {text!r} is no Unicode character. A number is at most 10FFFF, and not in D800 to DFFF."
            )
        return chr(number)

    return re.sub(r"\\([ntr\\]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})", character, text)


def escaped(text: str) -> str:
    r"""Printable text that `unescaped` reads back: `\n` for a newline."""
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    if character in _NAMES:
        return f"\\{_NAMES[character]}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def override_of(key: str, value: object, is_quoted: bool = False) -> str:
    """`KEY=VALUE` for train.py's command line, quoted for Hydra where necessary (or `is_quoted`), and for the shell."""
    if not isinstance(value, str) and not hasattr(value, "__fspath__"):
        return f"{key}={value}"
    text = str(value)
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return shlex.quote(f"{key}={text if is_plain and not is_quoted else quoted(text)}")


def quoted(text: str) -> str:
    """The text in single quotes, as Hydra reads it: a quote in it is escaped, and backslashes before a quote are."""
    return "'" + re.sub(r"(\\*)('|\Z)", lambda match: match[1] * 2 + match[2].replace("'", r"\'"), text) + "'"


def pasteable(*arguments: object) -> str:
    """A command line that a shell splits into these arguments."""
    return shlex.join(map(str, arguments))
