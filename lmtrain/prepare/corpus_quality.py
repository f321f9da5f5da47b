"""Tries the optional steps of scripts/prepare_corpus.py on a sample of a corpus, to recommend those that would help."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from lmtrain.errors import MissingPackage
from lmtrain.prepare.cleaning import BOILERPLATE, Cleaning
from lmtrain.prepare.languages import language_of, script_of
from lmtrain.prepare.near_duplicates import BANDS, bands
from lmtrain.prepare.options import flag

SAMPLE = 1000  # documents at least, if the corpus has so many
SURE = 0.9  # probability of a language from which a document counts as being in it
_LONGEST_TRIED = 1000  # characters of each document in the sample
_JSON = re.compile(r'\s*(?:\{\s*"[^"]*"\s*:|\[\s*[{"])')
_LATIN, _ALIKE = "A-Za-z", "\u0370-\u03ff\u0400-\u052f"
_MIXED_WORD = re.compile(rf"\b(?=\w*[{_LATIN}])(?=\w*[{_ALIKE}])\w+")


class Sample:
    """The beginnings of every `one_in`-th document: between `size` and twice that, however many are added."""

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
    """The documents that a step would change or leave out.

    Args:
        option: of scripts/prepare_corpus.py, for that step; empty if there is none.
        what: the verb phrase that says what is the matter with the documents.
        share: of the sample's documents.
        examples: the beginnings of up to three of them.
        notable: the share from which a warning is due.
    """

    option: str
    what: str
    share: float
    examples: list[str] = field(default_factory=list)
    notable: float = 0.01


@dataclass
class Quality:
    """The languages of a sample of documents, and the effects of the steps on it.

    Args:
        languages: how many documents are surely in each language; the others are under "?".
        effects: those of the steps that would change the sample.
        not_tried: what could not be found out → the missing package.
    """

    languages: Counter[str] = field(default_factory=Counter)
    effects: list[Effect] = field(default_factory=list)
    not_tried: dict[str, str] = field(default_factory=dict)


def examine(documents: Sequence[str]) -> Quality:
    """Looks at a sample of documents, as far as the packages for it are installed."""
    quality = Quality()
    try:
        quality.languages = _languages(documents)
    except MissingPackage as missing:
        quality.not_tried[missing.what] = missing.package
    documents = [document.strip() for document in documents if document.strip()]
    for option, what, notable, find in _searches(documents, quality.languages):
        try:
            found = find(documents)
        except MissingPackage as missing:
            quality.not_tried[missing.what] = missing.package
            continue
        if found:
            examples = [_shown(document) for document in found[:3]]
            quality.effects.append(Effect(option, what, len(found) / len(documents), examples, notable))
    return quality


def _languages(documents: Sequence[str]) -> Counter[str]:
    found = (language_of(document) for document in documents)
    return Counter(language if probability >= SURE else "?" for language, probability in found)


Find = Callable[[list[str]], list[str]]


def _searches(documents: Sequence[str], languages: Counter[str]) -> Iterator[tuple[str, str, float, Find]]:
    """`Effect.option`, `what` and `notable`, and the function that finds the documents, or words, concerned."""
    yield from _steps(documents, languages)
    yield "--format jsonl (of its source)", "are JSON", 0.005, lambda sample: list(filter(_JSON.match, sample))
    yield "", "have words in two alphabets that look alike", 0.01, _mixed_words
    yield "--near-duplicates", "are almost equal to another of the sample", 0.05, _repeated


def _mixed_words(documents: list[str]) -> list[str]:
    return [words[0] for document in documents if (words := _MIXED_WORD.findall(document))]


def _shown(document: str) -> str:
    visible = "".join(char if char.isprintable() else f"<U+{ord(char):04X}>" for char in document[:60])
    return visible + ("..." if len(document) > 60 else "")


def _steps(documents: Sequence[str], languages: Counter[str]) -> Iterator[tuple[str, str, float, Find]]:
    def changed_by(name: str, **options) -> Find:
        """Finds the documents that the step of this name, with these options of `Cleaning`, changes or leaves out."""
        step = dict(Cleaning(**options).steps("\n"))[name]
        return lambda sample: [document for document in sample if step([document]) != [document]]

    yield "--fix-mojibake", "were decoded with a wrong encoding", 0.001, changed_by("mojibake", fix_mojibake=True)
    yield "--remove-invisible", "have invisible characters", 0.01, changed_by("invisible", remove_invisible=True)
    compatibility = "have characters of compatibility (ﬁ, ①, full width)"
    yield "--normalize NFKC", compatibility, 0.1, changed_by("normalize", normalize="NFKC")
    for name, what, notable in (
        ("min_letters", "are hardly letters", 0.2),
        ("max_repeats", "are the same characters again and again", 0.05),
        ("max_markup", "are markup or links", 0.02),
    ):
        step = name.partition("_")[2]  # `Cleaning.steps` calls it that
        yield f"{flag(name)} {BOILERPLATE[name]}", what, notable, changed_by(step, **{name: BOILERPLATE[name]})
    script = script_of("".join(documents))
    if script:
        yield f"--script {script}", f"are not in {script} letters", 0.02, changed_by("scripts", scripts=(script,))
    main = next((language for language, _ in languages.most_common() if language != "?"), None)
    if main and languages[main] > 0.5 * languages.total():
        what = f"are surely in other languages than {main}"
        yield f"--only-language {main}", what, 0.02, changed_by("languages", languages=(main,))


def _repeated(documents: list[str]) -> list[str]:
    unique = list(dict.fromkeys(documents))
    identities = np.arange(len(unique), dtype=np.uint64)
    found = bands(unique, identities)
    repeated: set[int] = set()
    for band in range(BANDS):
        _, first, group = np.unique(found[:, band], return_index=True, return_inverse=True)
        repeated.update(np.flatnonzero(first[group] != np.arange(len(unique))).tolist())
    return [unique[place] for place in sorted(repeated)]
