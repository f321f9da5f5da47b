"""The tasks of the graph. Each depends on its arguments only and writes files of its own, whole or not at all, so that
a task whose worker was lost can be done again."""

import errno
import json
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lmtrain.data.formats.reader import Tally
from lmtrain.errors import UserError
from lmtrain.prepare.cleaning import CHANGING
from lmtrain.prepare.near_duplicates import BANDS, write_repeated
from lmtrain.prepare.options import PrepareOptions
from lmtrain.prepare.positions import reporting_position
from lmtrain.prepare.shuffling import PARTS, Dealing, merge, open_index, unique_share, write_run
from lmtrain.prepare.sources import Block, Source, hash_file, read_block

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_RUN_CHARACTERS = 32 << 20  # that are held and sorted at a time, of a source that is one large block


def key_prefix(work: Path) -> str:
    """The beginning of the keys of this graph's tasks: the name of the unfinished folder around `work`, which no other
    graph has, since several may be computed on one cluster."""
    return work.parent.parent.name


@dataclass(frozen=True)
class Cleaned:
    """The result of reading and cleaning a block.

    Args:
        runs: the names of the runs that were written.
        steps: by (step, "documents") and (step, "characters") what was left after the step, and by (step, "changed")
            how many documents it changed.
        problems: sentences that say why the block cannot be used; empty if it can.
        size: bytes of the runs.
        size_read: bytes of the block in its source, as stored.
        stored: size in bytes and SHA-256 of the source, if it is remote.
        tally: the records that were used, and those that were passed over with the reason.
    """

    runs: tuple[str, ...] = ()
    steps: Counter = field(default_factory=Counter)
    problems: tuple[str, ...] = ()
    size: int = 0
    size_read: int = 0
    stored: tuple[int, str] | None = None
    tally: Tally = field(default_factory=Tally)


def clean_block(block: Block, options: PrepareOptions, work: Path, number: int) -> Cleaned:
    """Reads the documents of a block, cleans them, and writes them as runs.

    Problems are returned, not raised, so that one message can name those of all blocks.
    """
    source = block.source
    try:
        if source.local:
            size = source.size if block.stop is None else min(block.stop, source.size) - block.start
            return _write_runs(block, options, work, number, size)
        return _clean_copy(source, options, work, number)
    except UserError as error:
        return Cleaned(problems=error.problems)
    except (OSError, ImportError) as error:
        if getattr(error, "errno", None) in DISK_FULL:
            raise
        if not work.is_dir():
            raise UserError(f"A worker does not see {work}: all must share the output's file system.") from None
        return Cleaned(problems=(f"{source.url} cannot be read: {error}.",))


def _clean_copy(source: Source, options: PrepareOptions, work: Path, number: int) -> Cleaned:
    """A remote file is copied first: so it is hashed on the way, and Parquet can be read in any order."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        copy = Path(folder, source.url.split("?")[0].rstrip("/").rsplit("/", 1)[-1])
        stored = hash_file(source.url, copy)
        block = Block(replace(source, url=str(copy), size=stored[0], local=True))
        try:
            return _write_runs(block, options, work, number, stored[0], stored)
        except UserError as error:
            raise UserError(*(problem.replace(str(copy), source.url) for problem in error.problems)) from None


def _write_runs(
    block: Block,
    options: PrepareOptions,
    work: Path,
    number: int,
    size_read: int,
    stored: tuple[int, str] | None = None,
) -> Cleaned:
    steps, tally = Counter(), Tally()
    runs: list[str] = []
    cleaning = options.cleaning.steps(options.document_delimiter)

    def count(step: str, documents: list[str]) -> None:
        steps[step, "documents"] += len(documents)
        steps[step, "characters"] += sum(map(len, documents))

    def write(documents: list[str]) -> int:
        count("read", documents)
        for name, step in cleaning:
            before, documents = documents, step(documents)
            count(name, documents)
            if name in CHANGING:
                steps[name, "changed"] += sum(
                    one is not other and one != other for one, other in zip(before, documents, strict=True)
                )
        if not documents:
            return 0
        run, salt = f"{number:06}-{len(runs):06}", number << 24 | len(runs)
        runs.append(run)
        return write_run(work / run, documents, options.document_delimiter, options.dealing, salt)

    held: list[str] = []
    characters = size = 0
    with reporting_position(work, number) as report:
        for documents in read_block(block, options.wanted(), tally, report):
            held += filter(None, documents)
            characters += sum(map(len, documents))
            if characters >= _RUN_CHARACTERS:
                size += write(held)
                held, characters = [], 0
    size += write(held)
    return Cleaned(tuple(runs), steps, (), size, size_read, stored, tally)


def write_run_list(work: Path, runs: list[str]) -> None:
    """Writes the names of all runs into a file for the tasks that follow: a list too long to send with each task."""
    (work / "runs.json").write_text(json.dumps(runs), encoding="utf-8")


def _runs(work: Path) -> list[Path]:
    return [work / run for run in json.loads((work / "runs.json").read_text(encoding="utf-8"))]


def estimate_unique(work: Path, documents: int, dealing: Dealing) -> float:
    """The share of the runs' bytes that de-duplication leaves."""
    return unique_share(_runs(work), documents, dealing)


def find_near_duplicates(work: Path, band: int) -> None:
    """Writes which documents agree in a band with another one of lower order; see `write_repeated`."""
    pairs = (
        (np.load(run.with_suffix(".bands.npy"), mmap_mode="r")[:, band], open_index(run)["order"])
        for run in _runs(work)
    )
    write_repeated(pairs, _repeated_path(work, band))


def _repeated_path(work: Path, band: int) -> Path:
    return work / f"repeated-{band:02}.npy"


def merge_range(work: Path, number: int, count: int, dealing: Dealing) -> dict[str, tuple[int, int, int]]:
    """Writes the documents in a range of the order, for each part into a file; see `merge`."""
    repeated = [_repeated_path(work, band) for band in range(BANDS)] if dealing.near_duplicates else []
    places = {part: part_path(work, part, number) for part in PARTS}
    return merge(_runs(work), number, count, places, dealing, repeated)


def part_path(work: Path, part: str, number: int) -> Path:
    """The file into which `merge_range` writes the documents of a part, if its range has any."""
    return work / f"{part}-{number:06}.txt"
