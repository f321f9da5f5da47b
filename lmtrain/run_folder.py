"""The folder of a run: what it holds, whose it is, and whether a run may begin or go on in it."""

import json
import logging
import secrets
import shutil
import zipfile
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from lmtrain import trainer_arguments
from lmtrain.corpus import in_part
from lmtrain.errors import UserError
from lmtrain.files import replacing

log = logging.getLogger(__name__)

# Keys that may change when a run goes on: they do not change what is trained, or only how long.
_MAY_CHANGE = (
    "resume",
    "overwrite",
    "test",
    "runs_dir",
    "checkpoint",
    "logger",
    "callbacks",
    "data.cache_dir",
    "data.format",
    "anneal.min_lr",
    "compile",
    "divergence",
)


_HYPERPARAMETERS = (
    *("direction", "seed", "init_from", "data.name", "data.path", "data.batch_size", "data.sequence_length"),
    *("data.level", "dictionary.source", "model", "optimizer"),
    *("anneal.schedule", "anneal.warmup", "anneal.factor", "anneal.patience"),
    *("trainer.precision", "trainer.gradient_clip_val", "trainer.accumulate_grad_batches"),
)


class RunFolder:
    """The places of a run's files, and the lock that keeps a second run out.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.best = path / "best-lm.pt"
        self.checkpoints = path / "checkpoints"
        self.config = path / "config.yaml"
        self.dictionary = path / "dictionary.json"
        self.corpus = path / "corpus.json"
        self.results = path / "results.json"
        self.log = path / "train.log"
        self._lock = FileLock(path / ".lock")
        self._key = path / ".key"

    def occupy(self, values: dict[str, Any], overwrite: bool, fingerprint: dict[str, list[int]]) -> None:
        """Takes the folder for this run and writes its configuration.

        Args:
            values: the configuration.
            overwrite: throw away what the folder holds.
            fingerprint: for every file of the corpus its number of items and the checksum of its ids.

        Raises:
            UserError: another run lives in the folder, or has left something there that would be overwritten.
        """
        self._make()
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"Another process is training in {self.path}. Wait for it, or give this run another name=NAME."
            ) from None
        if overwrite:
            self._empty()
        elif self.config.exists():
            self._check_same_run(values)
        elif self.best.exists() or self.checkpoints.exists():
            raise UserError(
                f"{self.path} holds a model but no config.yaml, so it is not known whose. Give this run another "
                "name=NAME, or throw away what is there with overwrite=true."
            )
        self._check_same_text(fingerprint)
        with replacing(self.config) as unfinished, unfinished.open("w", encoding="utf-8") as file:
            yaml.safe_dump(values, file, allow_unicode=True, sort_keys=False)

    def key(self) -> str:
        """Identifies the run to services outside: the same as long as the run goes on, another after `overwrite`."""
        if not self._key.exists():
            with replacing(self._key) as unfinished:
                unfinished.write_text(secrets.token_hex(8), encoding="utf-8")
        return self._key.read_text(encoding="utf-8")

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UserError(f"{self.path} is not a folder. Give this run another name=NAME or runs_dir=DIR.") from None
        except OSError as error:
            raise UserError(
                f"The run folder {self.path} cannot be made: {error.strerror}. Give another runs_dir."
            ) from None

    def release(self) -> None:
        self._lock.release()

    def _empty(self) -> None:
        for item in self.path.iterdir():
            if item.name == ".lock":
                continue
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item)
            else:
                item.unlink()

    def _check_same_run(self, values: dict[str, Any]) -> None:
        try:
            before = flat(yaml.safe_load(self.config.read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError, AttributeError) as error:
            raise UserError(f"{self.config} cannot be read: {error}. Start anew with overwrite=true.") from None
        now = flat(values)
        different = [
            f"{key}={_shown(now, key)} (it was {_shown(before, key)})"
            for key in {**before, **now}
            if before.get(key) != now.get(key) and not may_change(key)
        ]
        if different:
            raise UserError(
                f"{self.path} holds a run with another configuration: {'; '.join(different)}. Give this run another "
                "name=NAME, set these keys back to go on with that run, or throw it away with overwrite=true."
            )

    def _check_same_text(self, fingerprint: dict[str, list[int]]) -> None:
        try:
            before = json.loads(self.corpus.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = fingerprint
        changed = sorted(name for name in {**before, **fingerprint} if before.get(name) != fingerprint.get(name))
        if changed:
            raise UserError(
                f"The corpus has changed since the run in {self.path} began: {', '.join(changed)}. Put the text back, "
                "train on the new text under another name=NAME, or start this run anew with overwrite=true."
            )
        with replacing(self.corpus) as unfinished:
            unfinished.write_text(json.dumps(fingerprint, indent=1), encoding="utf-8")

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint that is whole, if there is one.

        Raises:
            UserError: there are checkpoints, but none is whole.
        """
        found = [self.checkpoints / name for name in ("last.ckpt", "previous.ckpt")]
        found = [path for path in found if path.exists()]
        for path in found:
            if _is_whole(path):
                return path
            log.warning("%s is damaged%s", path, ": the one before is used" if path.name == "last.ckpt" else "")
        if found:
            raise UserError(
                f"No checkpoint in {self.checkpoints} is whole. Start anew with overwrite=true, or fine-tune what "
                f"{self.best.name} holds: init_from={self.best} under another name=NAME."
            )
        return None

    def train_items(self, part: str) -> int | None:
        """How many items the files of `data.train=part` have; None if that is not known."""
        try:
            texts = json.loads(self.corpus.read_text(encoding="utf-8"))
            return sum(items for name, (items, _) in texts.items() if in_part(name, part)) or None
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def read_results(self) -> dict[str, Any] | None:
        """How the run ended, if it has."""
        try:
            return json.loads(self.results.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write_results(self, results: dict[str, Any]) -> None:
        with replacing(self.results) as unfinished:
            unfinished.write_text(json.dumps(results, indent=1), encoding="utf-8")


def _is_whole(path: Path) -> bool:
    """True if the archive's checksums are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, ValueError):
        return False


def hyperparameters(values: dict[str, Any]) -> dict[str, Any]:
    """The keys that runs are compared by, such as "model.hidden_size": none of them changes when a run goes on."""
    return {key: value for key, value in flat(values).items() if _is_below(key, _HYPERPARAMETERS)}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The configuration with names such as "model.hidden_size"."""
    result = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


def may_change(key: str) -> bool:
    """Whether a run may go on with another value."""
    if key.startswith("trainer."):
        return trainer_arguments.may_change(key.split(".")[1])
    return _is_below(key, _MAY_CHANGE)


def _is_below(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _shown(values: dict[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "not set"
