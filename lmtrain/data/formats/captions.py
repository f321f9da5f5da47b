"""Texts of films and programs: subtitles (SubRip, WebVTT) and translation catalogues (gettext's PO)."""

import re
from collections.abc import Iterator
from html import unescape
from typing import BinaryIO

from lmtrain.data.formats.lines import head_lines
from lmtrain.data.formats.reader import Reader, Tally, Wanted, beginning, split_text

_TIME = re.compile(r"\s*(?:\d+:)?\d\d:\d\d[,.]\d{3}\s+-->\s+(?:\d+:)?\d\d:\d\d[,.]\d{3}(?:\s.*)?")
_CODES = re.compile(r"</?[a-zA-Z][^<>]*>|<[\d:.]+>|\{\\[^{}]*\}")  # italics, who speaks, when; where it stands
_KEYWORD = re.compile(r'(msg(?:ctxt|id|id_plural|str|str\[\d+\]))\s+"(.*)"\s*')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}


class Subtitles(Reader):
    """Subtitles (SubRip, WebVTT): what is shown together is one document, in one line."""

    name, title = "subtitles", "subtitles"

    def recognises(self, head: bytes, name: str) -> bool:
        lines = head_lines(head)[:2]
        if lines and (re.match(r"WEBVTT\b", lines[0]) or _TIME.fullmatch(lines[0])):
            return True
        return len(lines) > 1 and lines[0].strip().isdecimal() and bool(_TIME.fullmatch(lines[1]))

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        shown: list[str] | None = None  # between a time and an empty line
        for lines in split_text(stream, place, wanted):
            texts = []
            for line in lines:
                if _TIME.fullmatch(line):
                    if shown and shown[-1].strip().isdecimal():
                        shown.pop()  # the number of this time: the empty line before it is missing
                    texts.append(_shown(shown))
                    shown = []
                elif not line.strip():
                    texts.append(_shown(shown))
                    shown = None
                elif shown is not None:
                    shown.append(line)
                elif not line.strip().isdecimal() and not line.startswith("WEBVTT"):
                    tally.leave_out("a line that is shown at no time", beginning(line))
            yield texts
        yield [_shown(shown)]


def _shown(lines: list[str] | None) -> str:
    return " ".join(unescape(_CODES.sub("", line)).strip() for line in lines or ()).strip()


class Po(Reader):
    """The translations of a catalogue that are not marked as fuzzy."""

    name, title = "po", "a translation catalogue (PO)"

    def recognises(self, head: bytes, name: str) -> bool:
        lines = head_lines(head, len(head))
        begins = bool(lines) and lines[0].startswith(("#", "msg"))
        return begins and all(any(line.startswith(mark) for line in lines) for mark in ('msgid "', "msgstr"))

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        entry, is_fuzzy, keyword = dict[str, str](), False, ""
        for lines in split_text(stream, place, wanted):
            texts = []
            for line in map(str.strip, lines):
                found = _KEYWORD.fullmatch(line)
                if found and entry and (found[1] in entry or (found[1][:6] != "msgstr" and keyword[:6] == "msgstr")):
                    texts += _translations(entry, is_fuzzy, tally)
                    entry, is_fuzzy = {}, False
                if found:
                    keyword = found[1]
                    entry[keyword] = found[2]
                elif line[:1] == '"' == line[-1:] and len(line) > 1 and keyword in entry:
                    entry[keyword] += line[1:-1]
                elif line.startswith("#~"):
                    tally.leave_out("a line of a translation that is out of use")
                elif not line or line[0] == "#":
                    if entry:
                        texts += _translations(entry, is_fuzzy, tally)
                        entry, is_fuzzy = {}, False
                    is_fuzzy = is_fuzzy or (line.startswith("#,") and "fuzzy" in line)
                else:
                    tally.leave_out("a line that is not PO", beginning(line))
            yield texts
        yield _translations(entry, is_fuzzy, tally)


def _translations(entry: dict[str, str], is_fuzzy: bool, tally: Tally) -> list[str]:
    texts = [text for keyword, text in entry.items() if keyword.startswith("msgstr")]
    if not entry.get("msgid"):
        return []  # no entry, or the catalogue's header
    if is_fuzzy:
        tally.leave_out("a fuzzy translation")
        return []
    if not any(texts):
        tally.leave_out("no translation", beginning(entry["msgid"]))
    return [_ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), text) for text in texts]
