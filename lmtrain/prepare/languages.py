"""Identifies the language and the script of documents, to leave out those that the corpus is not to have."""

import sys
from collections import Counter
from collections.abc import Collection
from functools import cache, lru_cache

import numpy as np

from lmtrain.data.dictionary import code_points
from lmtrain.errors import UserError, importing

_NO_SCRIPT = ("Zyyy", "Zinh", "Zzzz")  # common, inherited and unassigned characters belong to none


@cache
def _identifier():
    with importing("py3langid", "Identifying languages"):
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def known_languages() -> list[str]:
    """The codes of the languages that can be identified."""
    return sorted(set(_identifier().labels))


@lru_cache(4096)
def language_of(document: str) -> tuple[str, float]:
    """The language that a document most probably is in, and how probable that is."""
    return _identifier().classify(document)


def in_languages(
    documents: list[str], wanted: Collection[str], unwanted: Collection[str], threshold: float
) -> list[str]:
    """The documents without those that are surely in another language.

    Args:
        wanted: codes of languages; empty for all.
        unwanted: codes of languages.
        threshold: a document is left out if its most probable language has at least this probability, and is not
            wanted or is unwanted.
    """

    def is_kept(document: str) -> bool:
        language, probability = language_of(document)
        is_other = language in unwanted or bool(wanted and language not in wanted)
        return not is_other or probability < threshold

    return [document for document in documents if is_kept(document)]


class Scripts:
    """Tells how much of a document is in some scripts.

    Args:
        names: Unicode's names ("Cyrillic") or codes ("Cyrl") of the scripts.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._codes = {script_code(name) for name in names}
        self._known = np.zeros(sys.maxunicode + 1, dtype=np.uint8)  # 0: not looked up, 1: none, 2: these, 3: another

    def share(self, document: str) -> float:
        """The share of these scripts among the characters that belong to a script; 1 if no character does."""
        codes = code_points(document)
        for code in np.unique(codes[self._known[codes] == 0]).tolist():
            script = _unicodedata().script(chr(code))
            self._known[code] = 1 if script in _NO_SCRIPT else 2 if script in self._codes else 3
        kinds = self._known[codes]
        these, others = int((kinds == 2).sum()), int((kinds == 3).sum())
        return these / (these + others) if these + others else 1.0


def _unicodedata():
    from fontTools import unicodedata

    return unicodedata


def script_code(name: str) -> str:
    """Unicode's code of a script.

    Raises:
        UserError: there is no such script.
    """
    found = _unicodedata().script_code(name, default=None)
    if found is None and _unicodedata().script_name(name, default=None) is not None:
        found = name
    if found is None:
        raise UserError(f"--script {name}: Unicode has no script of that name; write it like Cyrillic or Cyrl.")
    return found


def script_of(text: str) -> str | None:
    """The name of the script that most characters belong to, as `--script` takes it; None if they belong to none."""
    codes, counts = np.unique(code_points(text), return_counts=True)
    scripts: Counter[str] = Counter()
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        scripts[_unicodedata().script(chr(code))] += count
    for name in _NO_SCRIPT:
        del scripts[name]
    return _unicodedata().script_name(scripts.most_common(1)[0][0]) if scripts else None
