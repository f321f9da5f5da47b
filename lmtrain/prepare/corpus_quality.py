"""What the optional steps of scripts/prepare_corpus.py would change in a corpus, tried on a sample of its documents."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from lmtrain.errors import MissingPackage
from lmtrain.prepare.cleaning import BOILERPLATE, Cleaning
from lmtrain.prepare.languages import language_of, script_of
from lmtrain.prepare.near_duplicates import BANDS, bands

SAMPLE = 1000  # documents, at least, if there are so many
SURE = 0.9  # probability of a language
_LONGEST_TRIED = 1000  # characters of a document
_JSON = re.compile(r'\s*(?:\{\s*"[^"]*"\s*:|\[\s*[{"])')
_LATIN, _ALIKE = "A-Za-z", "\u0370-\u03ff\u0400-\u052f"
_MIXED_WORD = re.compile(rf"\b(?=\w*[{_LATIN}])(?=\w*[{_ALIKE}])\w+")


class Sample:
    """The beginnings of documents at equal distances, however many there are: of each `one_in`-th."""

    def __init__(self, size: int = SAMPLE) -> None:
        self.size, self.one_in = size, 1
        self.documents: list[str] = []
        self._seen = 0

    def add(self, documents: Sequence[str]) -> None:
        chosen = documents[-self._seen % self.one_in :: self.one_in]
        self.documents += [document[:_LONGEST_TRIED] for document in chosen]
        self._seen += len(documents)
        while len(self.documents) > 2 * self.size:
            self.documents, self.one_in = self.documents[::2], 2 * self.one_in


@dataclass(frozen=True)
class Effect:
    """What a step would do.

    Args:
        option: of scripts/prepare_corpus.py.
        what: the documents that it concerns, in words.
        share: of the sample's documents.
        examples: some of them, shortened.
        notable: the share from which it is worth a warning.
    """

    option: str
    what: str
    share: float
    examples: list[str] = field(default_factory=list)
    notable: float = 0.01


@dataclass
class Quality:
    """What a sample of documents is like.

    Args:
        languages: how many documents are surely in each language; the others are under "?".
        effects: what the optional steps would do.
        not_tried: what could not be found out, and the package that it takes.
    """

    languages: Counter[str] = field(default_factory=Counter)
    effects: list[Effect] = field(default_factory=list)
    not_tried: dict[str, str] = field(default_factory=dict)


def examine(documents: Sequence[str]) -> Quality:
    """Looks at a sample of documents, as far as the packages for it are installed."""
    quality = Quality()
    try:
        quality.languages = languages(documents)
    except MissingPackage as missing:
        quality.not_tried[missing.what] = missing.package
    for effect in effects(documents, quality.languages):
        try:
            tried = effect()
            quality.effects += [tried] if tried.share else []
        except MissingPackage as missing:
            quality.not_tried[missing.what] = missing.package
    return quality


def languages(documents: Sequence[str]) -> Counter[str]:
    """How many documents are surely in each language; the others are under "?"."""
    found = (language_of(document) for document in documents)
    return Counter(language if probability >= SURE else "?" for language, probability in found)


def effects(documents: Sequence[str], spoken: Counter[str]) -> Iterator[Callable[[], Effect]]:
    """What the steps would do to a sample of documents, of which `languages` says what they are in, when called."""
    documents = [document.strip() for document in documents if document.strip()]

    def effect(option: str, what: str, notable: float, find: Callable[[], list[str]]) -> Callable[[], Effect]:
        def tried() -> Effect:
            found = find()
            return Effect(option, what, len(found) / max(1, len(documents)), list(map(_shown, found[:3])), notable)

        return tried

    for option, what, ((_, step),), notable in _steps(documents, spoken):
        yield effect(option, what, notable, partial(_changed, documents, step))
    yield effect("--format jsonl (of its source)", "are JSON", 0.005, lambda: list(filter(_JSON.match, documents)))
    yield effect("", "have words in two alphabets that look alike", 0.01, lambda: _mixed_words(documents))
    yield effect("--near-duplicates", "are almost equal to another of the sample", 0.05, lambda: _repeated(documents))


def _changed(documents: list[str], step: Callable[[list[str]], list[str]]) -> list[str]:
    return [document for document in documents if step([document]) != [document]]


def _mixed_words(documents: list[str]) -> list[str]:
    return [words[0] for document in documents if (words := _MIXED_WORD.findall(document))]


def _shown(document: str) -> str:
    visible = "".join(char if char.isprintable() else f"<U+{ord(char):04X}>" for char in document[:60])
    return visible + ("..." if len(document) > 60 else "")


Steps = list[tuple[str, Callable[[list[str]], list[str]]]]


def _steps(documents: Sequence[str], spoken: Counter[str]) -> Iterator[tuple[str, str, Steps, float]]:
    """An option, what it is about, the step, and the share that is notable."""

    def only(name: str, **chosen) -> Steps:
        return [step for step in Cleaning(**chosen).steps("\n") if step[0] == name]

    yield "--fix-mojibake", "were decoded with a wrong encoding", only("mojibake", fix_mojibake=True), 0.001
    yield "--remove-invisible", "have invisible characters", only("invisible", remove_invisible=True), 0.01
    yield (
        "--normalize NFKC",
        "have characters of compatibility (ﬁ, ①, full width)",
        only("normalize", normalize="NFKC"),
        0.1,
    )
    for name, what, notable in (
        ("min_letters", "are hardly letters", 0.2),
        ("max_repeats", "are the same characters again and again", 0.05),
        ("max_markup", "are markup or links", 0.02),
    ):
        step = only(name.split("_")[1], **{name: BOILERPLATE[name]})
        yield f"--{name.replace('_', '-')} {BOILERPLATE[name]}", what, step, notable
    script = script_of("".join(documents))
    if script:
        yield f"--script {script}", f"are not in {script} letters", only("scripts", scripts=(script,)), 0.02
    main = next((language for language, _ in spoken.most_common() if language != "?"), None)
    if main and spoken[main] > 0.5 * sum(spoken.values()):
        what = f"are surely in other languages than {main}"
        yield f"--only-language {main}", what, only("languages", languages=(main,)), 0.02


def _repeated(documents: list[str]) -> list[str]:
    unique = list(dict.fromkeys(documents))
    identities = np.arange(len(unique), dtype=np.uint64)
    found = bands(unique, identities)
    repeated: set[int] = set()
    for band in range(BANDS):
        _, first, group = np.unique(found[:, band], return_index=True, return_inverse=True)
        repeated.update(np.flatnonzero(first[group] != np.arange(len(unique))).tolist())
    return [unique[place] for place in sorted(repeated)]
