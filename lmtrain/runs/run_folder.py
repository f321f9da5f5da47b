"""The folder of a run: its files, its lock, and whether a run may begin in it or be resumed."""

import _thread
import json
import logging
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from lmtrain.config.keys import may_change_in
from lmtrain.config.saved import as_saved, flat, saved
from lmtrain.config.schema import Config
from lmtrain.data.corpus import in_part
from lmtrain.errors import UserError, raise_if_any
from lmtrain.program.files import atomic_write, remove_left
from lmtrain.program.locks import Lock
from lmtrain.program.log import reopen_log
from lmtrain.program.plain_json import to_json
from lmtrain.program.shell import override_of
from lmtrain.runs.checkpoint_files import CheckpointFiles
from lmtrain.runs.contents import Contents, changes

log = logging.getLogger(__name__)


class RunFolder:
    """The paths of a run's files, and the lock that keeps other processes out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.best = path / "best-lm.pt"
        self.checkpoints = path / "checkpoints"
        self.checkpoint_files = CheckpointFiles(self.checkpoints)
        self.config = path / "config.yaml"
        self.dictionary = path / "dictionary.json"
        self.corpus = path / "corpus.json"
        self.contents = path / "contents.json"
        self.results = path / "results.json"
        self.log = path / "train.log"
        # a process that lost the lock saves and stops, as after Ctrl-C
        self._lock = Lock(path / ".lock", "Give another runs_dir", on_loss=_thread.interrupt_main)
        self._key = path / ".key"
        self._described: dict[Path, bytes] = {}
        self._lost_locks: list[Lock] = []
        self._made: list[Path] = []  # the folder and those above it, as far as `occupy` has made them

    def occupy(self, config: Config, contents: Contents) -> None:
        """Takes the folder for this run and writes its configuration.

        Args:
            config: the run's configuration; with `overwrite` the folder is emptied.
            contents: the text, dictionary and model of the run.

        Raises:
            UserError: another process has the folder, or it has files of another run.
        """
        self._made = [folder for folder in (self.path, *self.path.parents) if not os.path.exists(folder)]
        self._make()
        self._check_no_pipes()
        try:
            other = self._lock.acquire_now()
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}. Give another runs_dir.") from None
        if other is not None:
            raise UserError(
                f"Another process is training in {self.path}: {other}. Wait for it, or give this run another name=NAME."
            )
        try:
            self._check(config, contents)
        except BaseException:
            self.release()
            raise
        for folder in (self.path, self.checkpoints):
            remove_left(folder)
        contents.save(self.contents)
        with atomic_write(self.corpus) as unfinished:
            unfinished.write_text(json.dumps(contents.files(), indent=1), encoding="utf-8")
        with atomic_write(self.config) as unfinished, unfinished.open("w", encoding="utf-8") as file:
            yaml.safe_dump(saved(config), file, allow_unicode=True, sort_keys=False)

    def _check_no_pipes(self) -> None:
        """Refuses pipes in place of files, since opening one waits for its other end, perhaps for ever."""
        files = self.best, self.config, self.dictionary, self.corpus, self.contents, self.results, self.log
        others = (self.path / name for name in ("metrics.csv", ".lock", ".key"))
        kept = (self.checkpoints / name for name in ("last.ckpt", "previous.ckpt"))
        pipes = [str(path) for path in (*files, *others, *kept) if path.is_fifo() or path.is_socket()]
        if pipes:
            raise UserError(f"{', '.join(pipes)}: a run needs files here, not pipes. Give this run another name=NAME.")

    def _check(self, config: Config, contents: Contents) -> None:
        """Empties the folder with `overwrite`; else raises `UserError` if it has another run."""
        if config.overwrite:
            self._empty()
        elif self.config.exists():
            self._check_same_run(config, contents)
        elif self.best.exists() or self.checkpoints.exists():
            raise UserError(
                f"{self.path} has a model but no config.yaml that says of which run. Give this run another name=NAME, "
                "or delete what is there with overwrite=true."
            )

    def remember(self) -> None:
        """Keeps the files that describe the run in memory, for `restore_if_removed`."""
        self.key()  # makes the file
        described = (self.config, self.corpus, self.contents, self.dictionary, self._key)
        self._described = {path: path.read_bytes() for path in described}

    def restore_if_removed(self) -> bool:
        """Makes the folder again if it was removed; returns whether it was.

        Raises:
            UserError: another run has begun in its place.
        """
        if self._key_on_disk() == self._described[self._key]:
            return False
        lock = Lock(self._lock.path, self._lock.remedy, self._lock.on_loss)
        self._make()
        if lock.acquire_now() is not None or self._key_on_disk() is not None:
            lock.release()
            raise UserError(
                f"{self.path} was removed during this run, and another run has begun there: nothing more can be saved. "
                "Give one of them another name=NAME."
            )
        self._lost_locks.append(self._lock)  # never released, which would touch the new one
        self._lock = lock
        for path, content in self._described.items():
            with atomic_write(path) as unfinished:
                unfinished.write_bytes(content)
        reopen_log()
        log.warning(
            "%s was removed during the run. It is made again, and new files go there; those that it had are lost",
            self.path,
        )
        return True

    def _key_on_disk(self) -> bytes | None:
        """The key in the folder, which another folder in its place lacks; None if there is none."""
        try:
            return self._key.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # such as too many open files, which does not show that the folder changed
            return self._described.get(self._key)

    def key(self) -> str:
        """Identifies the run to external services: the same after a resume, another one after `overwrite`."""
        if not self._key.exists():
            with atomic_write(self._key) as unfinished:
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

    def remove(self) -> None:
        """Removes the folder, and those above it that `occupy` has made if they are empty then."""
        shutil.rmtree(self.path, ignore_errors=True)
        for folder in self._made:
            with suppress(OSError):
                folder.rmdir()

    def remove_if_nothing_was_saved(self) -> None:
        """Leaves nothing of a run that was refused after `occupy` had made its folder; another run's there stays."""
        is_ours = self.path in self._made and self._key_on_disk() == self._described.get(self._key)
        if is_ours and not self.checkpoint_files.present() and not self.best.exists():
            self.remove()

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

    def _check_same_run(self, config: Config, contents: Contents) -> None:
        """Raises `UserError` if contents, or keys that may not change, differ from those of the run in the folder."""
        try:
            began_with = yaml.safe_load(self.config.read_text(encoding="utf-8"))
            before, now = flat(as_saved(began_with)), flat(saved(config))
        except (OSError, yaml.YAMLError, AttributeError) as error:
            raise UserError(f"{self.config} cannot be read: {error}. Begin anew with overwrite=true.") from None
        different = [
            f"{key}={_shown(now, key)} (it was {_shown(before, key)})"
            for key in {**before, **now}
            if before.get(key) != now.get(key) and not may_change_in(config, key)
        ]
        remedy = "set these keys back to resume that run, or delete it with overwrite=true."
        problems = []
        if different:
            problems.append(
                f"{self.path} holds a run with another configuration: {'; '.join(different)}. Give this run another "
                f"name=NAME, {remedy}"
            )
        problems += changes(self, before, config, contents)
        raise_if_any(problems)

    def began_with(self) -> dict[str, Any]:
        """The values of config.yaml by names such as "optimizer.lr"; empty if it is missing or cannot be read."""
        if not os.path.isfile(self.config):  # opening a pipe could wait for ever; `occupy` refuses it
            return {}
        try:
            values = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return {}
        return flat(values) if isinstance(values, dict) else {}

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint that is not damaged, or None.

        Raises:
            UserError: there are checkpoints, but all are damaged.
        """
        newest = self.checkpoint_files.newest_whole()
        if newest is None and self.checkpoint_files.present():
            raise UserError(
                f"All checkpoints in {self.checkpoints} are damaged. Begin anew with overwrite=true, or fine-tune "
                f"the best model: {override_of('init_from', self.best)} under another name=NAME."
            )
        return newest

    def text(self) -> list[list[int]] | None:
        """The number of items and the checksum of every file of the run's corpus; None if unknown."""
        try:
            return list(json.loads(self.corpus.read_text(encoding="utf-8")).values())
        except (OSError, ValueError, AttributeError):
            return None

    def train_items(self, part: str) -> int | None:
        """How many items the files of `data.train=part` have; None if unknown."""
        try:
            texts = json.loads(self.corpus.read_text(encoding="utf-8"))
            return sum(items for name, (items, _) in texts.items() if in_part(name, part)) or None
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def read_results(self) -> dict[str, Any] | None:
        """The content of results.json, which is written when the run ends; None before."""
        try:
            return json.loads(self.results.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write_results(self, results: dict[str, Any]) -> None:
        with atomic_write(self.results) as unfinished:
            unfinished.write_text(to_json(results, indent=1), encoding="utf-8")


def is_finished(results: dict[str, Any] | None, limits: dict[str, Any]) -> bool:
    """Whether a run was ended by one of its limits and these are still the same; otherwise it can be resumed.

    Args:
        results: the content of its `results.json`; None if there is none.
        limits: its present limits by their keys, perhaps among other keys.
    """
    if results is None or results.get("ended_by") not in results["limits"]:
        return False
    return all(limits.get(key) == limit for key, limit in results["limits"].items())


def _shown(values: dict[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "not set"
