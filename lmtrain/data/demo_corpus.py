"""The demo corpus: documentation of Python's standard library, so that a first run needs no data."""

import ast
import hashlib
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path

from lmtrain.program.files import atomic_folder

_FORMAT = 1
_SPLITS = 4
_NOT_DOCUMENTATION = {
    *("test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo"),
    *("site-packages", "dist-packages"),
}


def make_demo_corpus(cache_dir: Path) -> Path:
    """Writes the corpus once and gives its folder; the same Python version always gives the same text.

    A document is a paragraph in one line. A hash of the paragraph puts it into training (90 %, in several splits),
    validation or test (5 % each), so no paragraph is in two of them.
    """
    folder = demo_folder(cache_dir)
    if not folder.exists():
        with atomic_folder(folder) as unfinished:
            _write(unfinished)
    return folder


def demo_folder(cache_dir: Path) -> Path:
    """Where `make_demo_corpus` writes the corpus."""
    version = ".".join(map(str, sys.version_info[:3]))
    return cache_dir / f"demo-{_FORMAT}-python-{version}"


def _write(folder: Path) -> None:
    places = [folder / "train" / f"part-{number}.txt" for number in range(1, _SPLITS + 1)]
    parts: dict[Path, list[str]] = {place: [] for place in (*places, folder / "valid.txt", folder / "test.txt")}
    for paragraph in dict.fromkeys(_paragraphs()):
        share = int.from_bytes(hashlib.sha256(paragraph.encode()).digest()[:4], "big") % 100
        if share < 5:
            place = folder / "valid.txt"
        elif share < 10:
            place = folder / "test.txt"
        else:
            place = places[share % _SPLITS]
        parts[place].append(paragraph)
    (folder / "train").mkdir()
    for place, paragraphs in parts.items():
        place.write_text("".join(f"{paragraph}\n" for paragraph in paragraphs), encoding="utf-8")


def _paragraphs() -> Iterator[str]:
    for text in _texts():
        for block in textwrap.dedent(text.expandtabs()).split("\n\n"):
            paragraph = " ".join(block.split())
            if len(paragraph) >= 30:  # shorter ones are names and headings
                yield paragraph


def _texts() -> Iterator[str]:
    """The language reference's topics, then the docstrings of the standard library's sources, by file name."""
    from pydoc_data.topics import topics

    yield from (topics[name] for name in sorted(topics))
    library = Path(sysconfig.get_path("stdlib"))
    for source in sorted(library.rglob("*.py")):
        if _NOT_DOCUMENTATION.isdisjoint(source.relative_to(library).parts) and "pydoc_data" not in source.parts:
            yield from _docstrings(source)


def _docstrings(source: Path) -> Iterator[str]:
    try:
        tree = ast.parse(source.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring
