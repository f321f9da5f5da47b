"""What stands at the places that a configuration names: a run goes on with the same, wherever it stands now."""

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
"""The files of a part of the corpus in their order: by name, the number of items and the checksum of the ids."""


@dataclass(frozen=True)
class Contents:
    """The text, the dictionary and the model that a run begins with.

    Args:
        train, valid, test: the files of each part.
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
    """What has changed since the run in a folder began, in sentences.

    A file is known by its text and its place in the order of the files, which is that of their names; the names
    themselves do not matter. Of runs that began before this was kept, the place of the model is compared.

    Args:
        before: the configuration then, flat, perhaps from another version of lmtrain.
        now: the configuration.
        contents: as they are now.
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
    """A dictionary that is counted from the text changes only with the text, of which is told then."""
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
    """The files that are not what they were; nothing if all are."""
    if kept is None:
        began_with, is_same = _of_an_older_run(folder, before, now, contents)
    else:
        began_with = kept.files()
        is_same = all(list(getattr(kept, part).values()) == list(getattr(contents, part).values()) for part in _PARTS)
    if is_same:
        return ""
    files = contents.files()
    if _counted(began_with) == _counted(files):
        return "its files come in another order, or in other parts, than then (the order is that of their names)"
    gone = _counted(began_with) - _counted(files)
    new = _counted(files) - _counted(began_with)
    names = [name for name, text in files.items() if tuple(text) in new]
    names += [name for name, text in began_with.items() if tuple(text) in gone]
    names = sorted(set(names))
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


_PARTS = ("train", "valid", "test")
_NAMED = 20  # of files that have changed


def _of_an_older_run(folder: "RunFolder", before: dict[str, Any], now: Config, contents: Contents) -> tuple[Part, bool]:
    """What corpus.json says, in which the parts are not told apart."""
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
