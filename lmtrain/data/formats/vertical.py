"""Vertical files (VRT), as corpus workbenches take them: a token a line with columns, and lines of tags."""

import re
from collections.abc import Iterator
from html import unescape
from typing import BinaryIO

from lmtrain.data.formats.lines import head_lines
from lmtrain.data.formats.reader import LONGEST, Reader, Tally, Wanted, split_text, too_long

_TAG = re.compile(r"</?([A-Za-z][\w:.-]*)(?:\s[^<>]*)?/?>\s*")
_GLUE = "g"
_PARTS = {"s", "sentence", "p", "text", "doc", "head", "u", "article", "file", "corpus", "div", "body"}
_ABOUT = ("<?xml", "<!--")


class Vertical(Reader):
    """The tokens between the tags of sentences, paragraphs and texts; no space where `<g/>` stands."""

    name, title = "vrt", "a vertical file (VRT)"

    def recognises(self, head: bytes, name: str) -> bool:
        lines = [line for line in head_lines(head, 200) if not line.startswith(_ABOUT)]
        tags = [tag[1] for line in lines if (tag := _TAG.fullmatch(line))]
        tokens = [line for line in lines if not _TAG.fullmatch(line)]
        if not tokens or not tags or not _TAG.fullmatch(lines[0]) or _PARTS.isdisjoint(tags):
            return False
        in_columns = len({line.count("\t") for line in tokens}) == 1 and "\t" in tokens[0]
        return in_columns or ("s" in tags and not any(re.search(r"\s|</", line.strip()) for line in tokens))

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        written, is_glued = "", True
        for lines in split_text(stream, place, wanted):
            ended = []
            for line in lines:
                tag = _TAG.fullmatch(line)
                if tag and tag[1] in _PARTS:
                    ended.append(written)
                    written, is_glued = "", True
                elif tag:
                    is_glued = is_glued or tag[1] == _GLUE
                elif line.strip() and not line.startswith(_ABOUT):
                    written += ("" if is_glued else " ") + unescape(line.split("\t", 1)[0].strip())
                    is_glued = False
            if len(written) > LONGEST:
                raise too_long(place)
            yield ended
        yield [written]
