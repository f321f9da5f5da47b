"""Wikitext → plain text, a paragraph, list item or heading a line.

Comments, references, templates, tables, pictures, categories, formulas and code are cut out first in one pass, which is
several times faster than parsing them. mwparserfromhell parses what is left.
"""

import re
from collections.abc import Collection
from functools import lru_cache

from lmtrain.errors import importing

_CUT = (
    "ref|gallery|math|chem|ce|syntaxhighlight|source|score|timeline|imagemap|hiero|templatedata|graph|mapframe|maplink"
)
_MEDIA = "jpe?g|png|gif|svg|tiff?|webp|xcf|pdf|djvu|og[gavx]|opus|flac|wav|mp3|mid|midi|webm|mp4|mpe?g|stl"
_ELEMENTS = re.compile(rf"<!--.*?(?:-->|\Z)|<({_CUT})\b(?:[^<>]*/>|[^<>]*>.*?</\1\s*>)", re.DOTALL | re.IGNORECASE)
_BRACKETS = re.compile(
    r"<nowiki>.*?</nowiki>|\{\{|\}\}|^[ \t:]*\{\||^[ \t]*\|\}(?!\})|\[\[|\]\](?!\](?!\]))",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
_OPENS = {"}}": "{{", "|}": "{|", "]]": "[["}
_PARAMETER = re.compile(r"\{\{\{[^{}]*\}\}\}")  # of a template
_CONVERSION = re.compile(r"-\{(?:([A-Za-z;-]*)\|)?([^{}]*)\}-")  # between Chinese scripts and the like
_VARIANT = re.compile(r"\s*[a-z]{2,4}(?:-[a-z]+)*\s*:([^;]*)")
_SWITCHES = re.compile(r"(<nowiki>.*?</nowiki>)|__[^\W\da-z]{3,}?__|'{5}|'{2,3}|^-{4,}", re.DOTALL | re.MULTILINE)
_BREAKS = re.compile(r"</?(?:br|p|div|li|td|th|tr|center|blockquote)\b[^<>]*>", re.IGNORECASE)
_LEFT_OPEN = re.compile(r"^[ \t:]*(?:\{\||\|).*$|</?ref\b[^<>]*>", re.MULTILINE | re.IGNORECASE)
_LINE_START = re.compile(r"^[ \t]*[*#:;]*[ \t]*", re.MULTILINE)
_EMPTIED = re.compile(
    r"\((?:\s*[,;:]?\s*\)| *[,;] *)|（(?:\s*[，、；：,;:]?\s*）|\s*[，、；]\s*)"
)  # brackets that are empty without their template
_BEFORE_STOP = re.compile(r" +(?=[,.;:!?)](?:\s|$))", re.MULTILINE)


def plain_text(wikitext: str, pictures: Collection[str] = (), categories: Collection[str] = ()) -> str:
    """The running text of a page.

    Args:
        pictures, categories: the names of these namespaces in the wiki's language; English ones are known.

    Raises:
        ValueError: mwparserfromhell cannot parse it.
    """
    with importing("mwparserfromhell", "Wikitext"):
        import mwparserfromhell
        from mwparserfromhell.parser import ParserError
    text = _ELEMENTS.sub("", wikitext)
    if "{{{" in text:
        text = _PARAMETER.sub("", text)
    text = _without_ranges(text, _unwanted(text, _link_pattern(frozenset(pictures), frozenset(categories))))
    text = _LEFT_OPEN.sub("", text.replace("[[:", "[["))  # [[:File:x]] is a link, not a picture
    if "-{" in text:
        text = _CONVERSION.sub(_converted, text)
    text = _LINE_START.sub("", _without_switches(_BREAKS.sub("\n", text)))
    try:
        text = mwparserfromhell.parse(text, skip_style_tags=True).strip_code(collapse=False)
    except ParserError as error:
        raise ValueError(str(error)) from None
    text = _EMPTIED.sub(lambda found: "" if found[0][-1] in ")）" else found[0][0], text)
    text = text.replace("\t", " ").replace("\xa0", " ")
    while "  " in text:  # many times as fast as a regular expression
        text = text.replace("  ", " ")
    lines = (line.strip() for line in text.split("\n"))
    return _BEFORE_STOP.sub("", "\n".join(filter(None, lines)))


def _without_switches(text: str) -> str:
    """The text without quotation marks for bold and italics, words like __NOTOC__ and lines of dashes."""
    if "<nowiki>" in text or "__" in text or "----" in text:
        return _SWITCHES.sub(r"\1", text)
    return text.replace("'''''", "").replace("'''", "").replace("''", "")


@lru_cache(8)
def _link_pattern(pictures: frozenset[str], categories: frozenset[str]) -> re.Pattern[str]:
    """Links that show nothing, or a picture: of a file, of a category, to another language."""
    names = "|".join(map(re.escape, sorted({"File", "Image", "Media", "Category", *pictures, *categories})))
    languages = r"(?:[a-z]{2,3}(?:-[a-z]+)*|simple)"
    by_ending = (
        rf"[^\s\[\]|:][^\[\]|:]*:[^\[\]|]+\.(?i:{_MEDIA})\s*(?:\||\]\])"  # in case the namespace has yet another name
    )
    return re.compile(rf"\[\[\s*(?:(?:(?i:{names})|{languages})\s*:|{by_ending})")


def _converted(conversion: re.Match[str]) -> str:
    """What a conversion shows: nothing if it is a rule, else the first of its variants."""
    flags, text = conversion[1] or "", conversion[2]
    if set(flags.upper()) & {"H", "T", "D", "-"}:
        return ""
    variant = _VARIANT.match(text)
    return variant[1].strip() if variant and "R" not in flags.upper() else text


def _unwanted(text: str, link: re.Pattern[str]) -> list[tuple[int, int]]:
    """The ranges of templates, tables and links that show nothing. A bracket without its counterpart is text."""
    opened: list[tuple[str, int]] = []
    found = []
    for bracket in _BRACKETS.finditer(text):
        kind = bracket[0].strip(" \t:")
        if kind in ("{{", "{|", "[["):
            opened.append((kind, bracket.start()))
        elif kind in _OPENS:
            place = next((n for n in range(len(opened) - 1, -1, -1) if opened[n][0] == _OPENS[kind]), None)
            if place is not None:
                begin = opened[place][1]
                del opened[place:]
                if kind != "]]" or link.match(text, begin):
                    found.append((begin, bracket.end()))
    return sorted(found)


def _without_ranges(text: str, ranges: list[tuple[int, int]]) -> str:
    kept, upto = [], 0
    for begin, end in ranges:
        if begin >= upto:
            kept.append(text[upto:begin])
        upto = max(upto, end)
    return "".join([*kept, text[upto:]])
