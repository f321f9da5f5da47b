"""XML: reads elements from a stream, and is the reader of TEI and of corpora whose sentences are elements (OPUS)."""

import re
import xml.etree.ElementTree as ElementTree
from codecs import BOM_UTF8
from collections.abc import Collection, Iterator
from typing import BinaryIO
from xml.etree.ElementTree import Element

from lmtrain.data.formats.reader import Reader, Tally, Wanted
from lmtrain.data.formats.streams import peeked
from lmtrain.errors import UserError

_ELEMENT = re.compile(rb"<([\w:.-]+)[\s/>]")
_DECLARATION = re.compile(rb"[^\[>]*(?:\[[^\]]*\]\s*)?>")  # <!DOCTYPE ... [...]>
_TEI = ("TEI", "TEI.2", "teiCorpus")
_SENTENCE = re.compile(rb"<s(?:\s[^<>]*)?>")
_LEFT = ("left", "both")
_TOKENS = ("w", "pc", "c", "tok")
_NO_TEXT = {"note", "fw", "del", "figDesc", "gap", "time", "bpt", "ept", "it", "ph", "ut", "prop"}
_OTHER_READING = {"orig", "sic", "abbr"}  # in a <choice>, of which the edited reading is taken


def root_of(head: bytes) -> str:
    """The name of XML's first element, without a prefix; "" if this is no XML."""
    head = head.removeprefix(BOM_UTF8).lstrip()
    while head.startswith((b"<?", b"<!")):
        if head.startswith((b"<?", b"<!--")):
            mark = b"?>" if head.startswith(b"<?") else b"-->"
            end = head.find(mark)
            end += len(mark) if end >= 0 else 1 + len(head)
        else:
            declaration = _DECLARATION.match(head)
            end = declaration.end() if declaration else len(head)
        head = head[end:].lstrip()
    found = _ELEMENT.match(head)
    return found[1].decode().rpartition(":")[2] if found else ""


def name_of(element: Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def elements(stream: BinaryIO, names: Collection[str], place: str, outside: Collection[str] = ()) -> Iterator[Element]:
    """The outermost elements of these names, one by one; memory holds one at a time.

    Args:
        outside: names of elements whose content is left out.

    Raises:
        UserError: it is not XML.
    """
    path: list[Element] = []
    within = 0  # how many of the open elements have such a name
    try:
        for event, element in ElementTree.iterparse(stream, events=("start", "end")):
            is_wanted = name_of(element) in names
            if event == "start":
                path.append(element)
                within += is_wanted
                continue
            path.pop()
            within -= is_wanted
            if is_wanted and not within and not any(name_of(around) in outside for around in path):
                yield element
            if path and not within:
                path[-1].remove(element)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise UserError(f"{place} is damaged: not XML ({error}).") from None


def text_of(element: Element) -> str:
    """The text in an element: without notes and codes, and of several readings the edited one."""
    pieces = [element.text or ""]
    for child in element:
        name = name_of(child)
        if name == "lb" and child.get("break") != "no":
            pieces.append("\n")
        elif name and name not in _NO_TEXT and not (name in _OTHER_READING and name_of(element) == "choice"):
            pieces.append(text_of(child))
        pieces.append(child.tail or "")
    return "".join(pieces)


def _sentence(element: Element) -> str:
    tokens = list(_tokens(element))
    if not tokens:
        return text_of(element)
    texts = [text_of(token) for token in tokens]
    if any(text != text.rstrip() for text in texts):
        return "".join(texts)  # each token has the space after it
    written = ""
    for token, text, follows in zip(tokens, texts, [*tokens[1:], None], strict=True):
        is_joined = token.get("join") in ("right", "both") or (follows is not None and follows.get("join") in _LEFT)
        written += text.strip() + ("" if is_joined else " ")
    return written


def _tokens(element: Element) -> Iterator[Element]:
    """The tokens in a sentence; not those within another token, which are its words."""
    for child in element:
        if name_of(child) in _TOKENS:
            yield child
        elif name_of(child) not in _NO_TEXT:
            yield from _tokens(child)


class XmlText(Reader):
    """Sentences (`s`) with their tokens, as in OPUS; in TEI without sentences, paragraphs, lines and headings."""

    name, title = "xml", "TEI or other XML with sentences"

    def recognises(self, head: bytes, name: str) -> bool:
        root = root_of(head)
        if root in _TEI:
            return True
        is_declared = head.removeprefix(BOM_UTF8).lstrip().startswith(b"<?xml")
        return is_declared and root != "html" and bool(_SENTENCE.search(head))

    def documents(self, stream: BinaryIO, place: str, wanted: Wanted, tally: Tally) -> Iterator[list[str]]:
        head, stream = peeked(stream)
        has_sentences = bool(_SENTENCE.search(head))
        names = ("s",) if has_sentences else ("p", "l", "head", "ab", "item", "speaker", "stage")
        for element in elements(stream, names, place, outside=("teiHeader", *_NO_TEXT)):
            text = _sentence(element) if has_sentences else text_of(element)
            yield wanted.documents_of(" ".join(text.split()))
