"""manifest.json of a prepared corpus: what scripts/prepare_corpus.py wrote, and whether the files changed since."""

import hashlib
import json
import os
from collections.abc import Iterable
from typing import Any

from fsspec.core import url_to_fs

NAME = "manifest.json"
_READ_BYTES = 4 << 20


def read_manifest(corpus: str) -> dict[str, Any] | None:
    """The manifest of a corpus folder, or of an fsspec URL of one; None if there is none that can be read."""
    try:
        filesystem, root = url_to_fs(os.path.expanduser(corpus))
        manifest = json.loads(filesystem.cat_file(f"{root.rstrip('/')}/{NAME}").decode("utf-8", "replace"))
        return manifest if manifest["format"] == "lmtrain corpus" else None
    except Exception:  # every kind of remote store has exceptions of its own
        return None


def described(folder: str | os.PathLike, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The manifest's entries for files of a corpus folder: their bytes and SHA-256."""
    filesystem, root = url_to_fs(os.fspath(folder))
    return {name: _file(filesystem, f"{root.rstrip('/')}/{name}") for name in names}


def _file(filesystem, path: str) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with filesystem.open(path, "rb") as stream:
        while data := stream.read(_READ_BYTES):
            size += len(data)
            digest.update(data)
    return {"bytes": size, "sha256": digest.hexdigest()}


def changed_since_prepared(corpus: str, manifest: dict[str, Any]) -> list[str]:
    """The names of the files of a prepared corpus that were changed, removed or added since.

    All files are read. A manifest without hashes, of an earlier version of lmtrain, has only the sizes of train, valid
    and test, so the changed ones of these are named.

    Args:
        corpus: the folder, or an fsspec URL of one.
        manifest: what `read_manifest` gave.
    """
    filesystem, root = url_to_fs(os.path.expanduser(corpus))
    root = root.rstrip("/")
    found = [f"train/{path.rpartition('/')[2]}" for path in filesystem.find(f"{root}/train")]
    found = [name for name in found if not name.startswith("train/.")]
    found += [name for name in ("valid.txt", "test.txt") if filesystem.isfile(f"{root}/{name}")]
    if (files := manifest.get("files")) is None:
        return _changed_parts(filesystem, root, found, manifest["parts"])
    there = set(found)
    return [name for name in sorted(there | set(files)) if not _is_as_prepared(filesystem, root, name, there, files)]


def _is_as_prepared(filesystem, root: str, name: str, found: set[str], files: dict[str, Any]) -> bool:
    if name not in found or name not in files:
        return False
    path = f"{root}/{name}"
    return filesystem.size(path) == files[name]["bytes"] and _file(filesystem, path) == files[name]


def are_as_prepared(corpus: str, names: Iterable[str]) -> set[str]:
    """Which of these files of a corpus folder are as its manifest says; none if it has no manifest."""
    files = (read_manifest(corpus) or {}).get("files") or {}
    filesystem, root = url_to_fs(os.path.expanduser(corpus))
    return {name for name in names if _is_as_prepared(filesystem, root.rstrip("/"), name, {name}, files)}


def problem_of_manifest(corpus: str) -> str | None:
    """Why the manifest of a corpus folder (or fsspec URL) is not to be trusted; None if it is, or there is none."""
    manifest = read_manifest(corpus)
    if manifest is None:
        return None
    try:
        changed = changed_since_prepared(corpus, manifest)
    except (LookupError, TypeError, AttributeError) as error:
        return f"{NAME} is damaged ({type(error).__name__}: {error})."
    if not changed:
        return None
    return (
        f"{listed(changed)} changed after the corpus was prepared, so {NAME} describes another text. Prepare it again, "
        f"or remove {NAME}."
    )


def _changed_parts(filesystem, root: str, found: list[str], parts: dict[str, Any]) -> list[str]:
    sizes = dict.fromkeys(parts, 0)
    for name in found:
        sizes[name.partition("/")[0].removesuffix(".txt")] += filesystem.size(f"{root}/{name}")
    return [part for part in parts if sizes[part] != parts[part]["bytes"]]


def listed(names: list[str], most: int = 5) -> str:
    """For a sentence: "a, b and c", or the first few "and 20 more"."""
    shown = names if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1:,} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
