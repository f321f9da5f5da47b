#!/usr/bin/env python
"""Makes the five corpora of docs/how_good.md: sentences of WikiANN in German, and German documentation from Debian.

    for p in libreoffice-help-de gimp-help-de manpages-de manpages-de-dev debian-handbook debian-reference-de \\
             fortunes-de installation-guide-amd64 debian-faq-de debian-edu-doc-de linuxcnc-doc-de kicad-doc-de \\
             lilypond-doc-html-de gnome-user-docs developers-reference-de maint-guide-de udo-doc-de \\
             ubuntu-packaging-guide-html-de gosa-help-de
    do apt-get download $p && dpkg-deb -x ${p}_*.deb packages/$p; done
    python scripts/benchmarks/german_text.py wikiann_de_train.tsv.gz packages corpora
"""

import gzip
import html
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from resiliparse.extract.html2text import extract_plain_text

from lmtrain.probing.tagged_text import read_tagged_sentences

_GERMAN = re.compile(
    r"\b(der|die|das|und|ist|nicht|ein|eine|einen|mit|für|auf|wird|werden|den|dem|des|zu|im|von|sie|wenn|oder|durch|wie)\b",
    re.IGNORECASE,
)
_IN_GERMAN = re.compile(r"(/de/|[._-]de\.|german|/de-DE/|-de/|_de)")
_IN_OTHERS = re.compile(r"/(en|fr|es|it)(-\w+)?/")
_DOCUMENT = re.compile(r"\.html|\.page|/man/de/.*\.gz$|/fortunes/.*\.u8$")


def main(wikiann: str, packages: str, output: str) -> None:
    wiki = [" ".join(one.tokens) for one in read_tagged_sentences(wikiann)]
    random.Random(1).shuffle(wiki)
    wiki = list(dict.fromkeys(wiki))
    valid, test, wiki = wiki[:600], wiki[600:1200], wiki[1200:]
    manuals = list(dict.fromkeys(_sentences(Path(packages))))
    random.Random(1).shuffle(manuals)
    corpora = {
        "0.3": _up_to(wiki, 300_000),
        "1.1": wiki,
        "manuals-1.1": _up_to(manuals, 1_090_000),
        "5": wiki + _up_to(manuals, 3_900_000),
        "16": wiki + manuals,
    }
    for name, lines in corpora.items():
        random.Random(2).shuffle(lines := list(lines))
        for file, part in (("train/1.txt", lines), ("valid.txt", valid), ("test.txt", test)):
            path = Path(output, name, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(part) + "\n", encoding="utf-8")
        print(f"{name}: {len(lines):,} sentences, {sum(map(len, lines)) + len(lines):,} characters")


def _up_to(lines: list[str], characters: int) -> list[str]:
    """The first lines that together have so many characters."""
    for number, line in enumerate(lines, 1):
        characters -= len(line) + 1
        if characters <= 0:
            return lines[:number]
    return lines


def _sentences(packages: Path) -> Iterator[str]:
    """Sentences in German, of 30 to 1000 characters, most of them letters, with spaces around punctuation."""
    for path in sorted(packages.rglob("*")):
        name = str(path)
        if not path.is_file() or path.is_symlink() or _IN_OTHERS.search(name):
            continue
        if not (_IN_GERMAN.search(name) and _DOCUMENT.search(name)):
            continue
        for line in _text(path).split("\n"):
            for sentence in re.split(r"(?<=[a-zäöüß][.!?]) (?=[A-ZÄÖÜ])", " ".join(line.split())):
                tokens = re.sub(r"([.,;:!?])(?=\s|$)", r" \1", sentence)
                tokens = " ".join(re.sub(r"([()\[\]\"„“”«»])", r" \1 ", tokens).split())
                letters = sum(one.isalpha() or one == " " for one in tokens)
                is_german = len(_GERMAN.findall(tokens)) >= max(2, len(tokens.split()) / 12)
                if 30 <= len(tokens) <= 1000 and is_german and letters > 0.8 * len(tokens):
                    yield tokens


def _text(path: Path) -> str:
    """The text of HTML, of GNOME's help pages, of manual pages or of fortunes, a paragraph a line."""
    name, content = str(path), path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8", "replace")
    if ".html" in name:
        return extract_plain_text(text, main_content=False, alt_texts=False, links=False)
    if ".page" in name:
        text = re.sub(r"</(p|title|item)>", "\0", text)
        return re.sub(r"<[^>]+>", "", html.unescape(re.sub(r"\s+", " ", text))).replace("\0", "\n")
    if "/man" in name:
        text = re.sub(r"\\f[A-Z]|\\f\([A-Z]{2}|\\f\[\w*\]", "", text).replace("\\-", "-")
        text = re.sub(r"\\\((bu|aq|lq|rq|em|en)|\\&|\\%|\\:|\\e|\\\[\w+\]", " ", text)
        text = re.sub(r"^\.[A-Z]+ ", "", re.sub(r"^\.(?!B |I |BR |IR ).*$", "\n", text, flags=re.M), flags=re.M)
        return re.sub(r"(?<!\n)\n(?!\n)", " ", text)
    return re.sub(r"(?<!\n)\n(?![\n\t ])", " ", re.sub(r"\n%\n", "\n\n", text))


if __name__ == "__main__":
    main(*sys.argv[1:])
