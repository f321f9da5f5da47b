"""Checks by checksums that a run is resumed with its text, dictionary and initial model, wherever these are now."""

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmtrain.config.schema import Config
from lmtrain.config.value_types import local_path
from lmtrain.data.dictionary import Dictionary
from lmtrain.errors import UserError
from lmtrain.program.files import atomic_write

if TYPE_CHECKING:
    from lmtrain.runs.run_folder import RunFolder

Part = dict[str, list[int]]
"""The files of train, valid or test in their order: by name, the number of items and the checksum of the ids."""


@dataclass(frozen=True)
class Contents:
    """Identifies the text, dictionary and model that a run begins with.

    Args:
        train, valid, test: the files of each part of the corpus.
        dictionary: the fingerprint of its items.
        init_from: the fingerprint of the model that training begins with; None for random weights.
    """

    train: Part
    valid: Part
    test: Part
    dictionary: str
    init_from: str | None = None

    def files(self) -> Part:
        """All files of the corpus."""
        return {**self.train, **self.valid, **self.test}

    def save(self, path: Path) -> None:
        with atomic_write(path) as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def changes(folder: "RunFolder", before: dict[str, Any], now: Config, contents: Contents) -> list[str]:
    """Sentences about what has changed since the run in a folder began.

    A file is identified by its text and its position in the order of file names; the names themselves do not matter.
    For runs of versions that did not write contents.json, the path of the model is compared.

    Args:
        before: the configuration then, flat, perhaps of another version of lmtrain.
        now: the present configuration.
        contents: the present contents.
    """
    kept = _read(folder.contents)
    problems = []
    if (dictionary := _changed_dictionary(folder, now, contents)) is not None:
        problems.append(dictionary)
    elif changed := _changed_files(folder, kept, before, now, contents):
        problems.append(
            f"The corpus has changed since the run in {folder.path} began: {changed}. Put the text back, train on the "
            "new text under another name=NAME, or start this run anew with overwrite=true."
        )
    if (now.init_from or before.get("init_from")) and not _is_same_model(kept, before, now, contents):
        problems.append(
            f"init_from={now.init_from} is not the model that the run in {folder.path} began with (init_from="
            f"{before.get('init_from')}). Give that model, give this run another name=NAME, or start it anew with "
            "overwrite=true."
        )
    return problems


def _read(path: Path) -> Contents | None:
    try:
        return Contents(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _changed_dictionary(folder: "RunFolder", now: Config, contents: Contents) -> str | None:
    """A sentence if the dictionary has changed; None if it is counted from the text, whose change is reported."""
    if now.init_from is None and now.dictionary.source == "corpus":
        return None
    try:
        items = Dictionary.load(folder.dictionary)
    except UserError:
        return None
    if items.fingerprint == contents.dictionary:
        return None
    if now.init_from:
        whose = f"init_from={now.init_from}"
    elif now.dictionary.path:
        whose = f"dictionary.path={now.dictionary.path}"
    else:
        whose = f"dictionary.source={now.dictionary.source}"
    return (
        f"{whose} gives another dictionary than the one that the run in {folder.path} began with "
        f"({folder.dictionary}). Put it back, give this run another name=NAME, or start it anew with overwrite=true."
    )


def _changed_files(
    folder: "RunFolder", kept: Contents | None, before: dict[str, Any], now: Config, contents: Contents
) -> str:
    """The files that have changed, as text; "" if none has."""
    if kept is None:
        began_with, is_same = _of_an_older_run(folder, before, now, contents)
    else:
        began_with = kept.files()
        is_same = all(list(getattr(kept, part).values()) == list(getattr(contents, part).values()) for part in _PARTS)
    if is_same:
        return ""
    files = contents.files()
    if _counted(began_with) == _counted(files):
        return "its files are in another order, which is that of their names, or in other parts (train, valid, test)"
    gone = _counted(began_with) - _counted(files)
    new = _counted(files) - _counted(began_with)
    names = [name for name, text in files.items() if tuple(text) in new]
    names += [name for name, text in began_with.items() if tuple(text) in gone]
    names = sorted(set(names))
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


_PARTS = ("train", "valid", "test")
_NAMED = 20  # changed files that are listed by name


def _of_an_older_run(folder: "RunFolder", before: dict[str, Any], now: Config, contents: Contents) -> tuple[Part, bool]:
    """The files in corpus.json, which has no parts of the corpus, and whether they are the present ones."""
    files = contents.files()
    try:
        began_with = json.loads(folder.corpus.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        began_with = files
    same_parts = all(before.get(f"data.{part}") == getattr(now.data, part) for part in _PARTS)
    is_same = began_with == files or (same_parts and list(began_with.values()) == list(files.values()))
    return began_with, is_same


def _counted(files: Part) -> Counter[tuple[int, ...]]:
    return Counter(tuple(text) for text in files.values())


def _is_same_model(kept: Contents | None, before: dict[str, Any], now: Config, contents: Contents) -> bool:
    if kept is not None:
        return kept.init_from == contents.init_from
    places = [place and os.path.realpath(local_path(place)) for place in (before.get("init_from"), now.init_from)]
    return places[0] == places[1]
