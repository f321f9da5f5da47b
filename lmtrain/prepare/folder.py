"""Sources → corpus folder, as a Dask graph.

1. `clean_block`, for every block of every source: read, clean, hash, sort by the hash, write as runs; and
   `hash_file`, for every local source.
2. `estimate_unique`: the share that de-duplication keeps, from which follows the number of training splits.
3. `find_near_duplicates`, for every band, if near-duplicates are to be left out.
4. `join_group`, where there are more than 256 runs: join them, so that a split opens no more files than that.
5. `merge_range`, for every split: merge a range of the runs, de-duplicate, write the split and the range's documents
   of the validation and test texts.
6. In this process: join those texts, write the manifest, and give the folder its name.

Tasks exchange data only through files in the unfinished folder. So the output is the same on any scheduler, and a task
whose worker was lost is done again. Workers of a cluster must see that folder, and local sources, at the same paths.
"""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmtrain.data.cache.manifest import described
from lmtrain.data.formats.lines import Text
from lmtrain.data.formats.reader import Tally
from lmtrain.data.formats.registry import READERS
from lmtrain.errors import UserError, raise_if_any
from lmtrain.prepare.graph import Compute, Progress, import_dask, scheduler
from lmtrain.prepare.joining import join_until_few
from lmtrain.prepare.manifest import Counts, counts_of, described_source, manifest_of
from lmtrain.prepare.near_duplicates import BANDS
from lmtrain.prepare.once import read_once
from lmtrain.prepare.options import PrepareOptions
from lmtrain.prepare.positions import watching_positions
from lmtrain.prepare.shuffling import PARTS, Dealing
from lmtrain.prepare.sources import Block, Source, cut_blocks, find_sources, hash_file
from lmtrain.prepare.tasks import (
    DISK_FULL,
    Cleaned,
    clean_block,
    estimate_unique,
    find_near_duplicates,
    key_prefix,
    merge_range,
    part_path,
    write_run_list,
)
from lmtrain.program.command import interrupt_deferred
from lmtrain.program.files import unfinished_folder


def prepare_corpus(  # noqa: PLR0913  # one for each flag of the command
    inputs: Sequence[str | Path],
    output: str | Path,
    options: PrepareOptions | None = None,
    *,
    scheduler_address: str | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Makes the folder that `data=folder data.path=OUTPUT` trains on: train/, valid.txt, test.txt, manifest.json.

    The folder appears whole, or not at all. Until then about twice its size is needed beside it on the disk.

    Args:
        inputs: files, patterns, folders, fsspec URLs; "-" for standard input, pipes.
        output: a local folder, which must not exist.
        scheduler_address, workers: where the graph is computed, see `scheduler`; the output does not depend on it.
        overwrite: replace the output if it is a corpus that was prepared before.

    Returns:
        the manifest.

    Raises:
        UserError: every problem of the options, of the inputs or of the text.
    """
    options = options or PrepareOptions()
    options.check()
    import_dask()
    output = Path(output).expanduser().absolute()
    _check_output(output, overwrite)
    with read_once(inputs, output.with_name(f"{output.name}-inputs")) as names:
        how = scheduler_address, workers
        return _prepare(names, output, options, how, overwrite, progress)


def _prepare(
    names: dict[str, str],
    output: Path,
    options: PrepareOptions,
    how: tuple[str | None, int | None],
    overwrite: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Makes the folder of inputs that can be read again.

    Args:
        names: the inputs → what they are called in messages and in the manifest.
        how: the scheduler's address, and how many workers.
    """
    sources, beside = find_sources(names, options.format, options.wanted().encoding, options.language)
    raise_if_any([] if sources else ["All inputs are empty files."])
    with (
        _unfinished(output) as folder,  # outermost: removed last, with what other workers write after one has failed
        _disk_full_explained(output),
        scheduler(*how) as compute,
    ):
        work = folder / ".work"
        work.mkdir()
        blocks = [block for source in sources for block in cut_blocks(source, options.wanted(), options.block_size)]
        cleaned, read = _clean(sources, blocks, options, work, compute, progress)
        splits, options = _merge(cleaned, options, folder, work, compute, progress)
        read = [one | {"url": names.get(one["url"], one["url"])} for one in read]
        manifest = manifest_of(read, beside, options, cleaned, splits) | {"files": _hash_files(folder, compute)}
        text = json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"
        (folder / "manifest.json").write_text(text, encoding="utf-8", errors="surrogateescape")
        shutil.rmtree(work)
        with interrupt_deferred():
            _put_in_place(folder, output, overwrite)
    return json.loads(text)


def _check_output(output: Path, overwrite: bool) -> None:
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: the folder {output.parent} does not exist. Make it first.")
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not overwrite:
        raise UserError(f"--output {output} exists. Name another place, or replace it with --overwrite.")
    if not (output / "manifest.json").is_file():
        raise UserError(
            f"--output {output} has no manifest.json, so it is no corpus that this command made, and --overwrite does "
            "not touch it. Remove it, or name another place."
        )


@contextmanager
def _unfinished(output: Path) -> Iterator[Path]:
    with ExitStack() as stack:
        with interrupt_deferred():  # Ctrl-C in between would leave a folder that nobody removes
            place = stack.enter_context(unfinished_folder(output))
        folder = Path(place, output.name)  # within `place`, which only this user may read; the corpus gets usual rights
        folder.mkdir()
        yield folder


@contextmanager
def _disk_full_explained(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(f"The disk of {output} is full. Preparing takes about twice the space of the corpus.") from None


def _put_in_place(folder: Path, output: Path, overwrite: bool) -> None:
    _check_output(output, overwrite)  # again: another process may have made it in the meantime
    replaced = folder.with_name("replaced")  # removed with the unfinished folder around it
    if output.exists():
        output.rename(replaced)
    try:
        folder.rename(output)
    except OSError:
        if replaced.exists():
            replaced.rename(output)
        raise


def _clean(
    sources: list[Source],
    blocks: list[Block],
    options: PrepareOptions,
    work: Path,
    compute: Compute,
    progress: Progress,
) -> tuple[list[Cleaned], list[dict[str, Any]]]:
    """Computes `clean_block` of each block and `hash_file` of each local source.

    Returns:
        the result of each block; and the manifest's entry of each source.
    """
    from dask import delayed

    name = key_prefix(work)
    local = [source.url for source in sources if source.local]
    tasks = [
        delayed(clean_block)(block, options, work, number, dask_key_name=f"{name}-clean-{number}")
        for number, block in enumerate(blocks)
    ]
    tasks += [delayed(hash_file)(url, dask_key_name=f"{name}-hash-{number}") for number, url in enumerate(local)]
    total, done = sum(source.size or 0 for source in sources), 0

    def report(result) -> None:
        nonlocal done
        if isinstance(result, Cleaned):
            done += result.size_read
            progress("Reading", min(done, total), total)

    progress("Reading", 0, total)
    with watching_positions(work, lambda within: progress("Reading", min(done + within, total), total)):
        results = compute(tasks, report)
    cleaned, hashes = results[: len(blocks)], results[len(blocks) :]
    problems: dict[str, tuple[str, ...]] = {}
    for block, result in zip(blocks, cleaned, strict=True):
        if result.problems:
            problems.setdefault(block.source.url, result.problems)  # of each file the first block with problems
    tallies = {source.url: Tally() for source in sources}
    for block, result in zip(blocks, cleaned, strict=True):
        tallies[block.source.url].add(result.tally)
    for source in sources:
        tally = tallies[source.url]
        if source.url not in problems and not tally.used and source.format != Text.name:  # texts may be empty lines
            title = READERS[source.format].title
            reasons = tally.reasons() or "it has no text"
            problems[source.url] = (f"{source.url}, read as {title}, has nothing that can be used: {reasons}.",)
    raise_if_any([problem for source in problems.values() for problem in source])
    stored = dict(zip(local, hashes, strict=True))
    stored |= {block.source.url: result.stored for block, result in zip(blocks, cleaned, strict=True) if result.stored}
    return cleaned, [described_source(source, tallies[source.url], *stored[source.url]) for source in sources]


def _merge(
    cleaned: list[Cleaned], options: PrepareOptions, folder: Path, work: Path, compute: Compute, progress: Progress
) -> tuple[list[Counts], PrepareOptions]:
    """Computes the tasks that follow, and moves the files that they wrote to their places.

    Returns:
        the counts of every range; and the options with the shares of validation and test that were taken.
    """
    from dask import delayed

    name = key_prefix(work)
    documents = sum(result.steps["delimiter", "documents"] for result in cleaned)  # at most, since filters follow
    runs = [run for result in cleaned for run in result.runs]
    if not runs:
        raise UserError("No document is left: all are empty, or the steps leave all of them out. Ask for fewer steps.")
    write_run_list(work, runs)
    estimate = delayed(estimate_unique)(work, documents, options.dealing, dask_key_name=f"{name}-unique")
    (unique,) = compute([estimate], lambda _: None)
    size = sum(result.size for result in cleaned) * unique
    dealing = options.dealing.settled(size)
    train_size = size * (1 - dealing.valid - dealing.test)
    count, done = max(1, math.ceil(train_size / options.split_size)), 0

    def report(_) -> None:
        nonlocal done
        done += 1
        progress("Writing", done, count)

    if dealing.near_duplicates:
        progress("Comparing", 0, BANDS)
        compared = iter(range(1, BANDS + 1))
        tasks = [
            delayed(find_near_duplicates)(work, band, dask_key_name=f"{name}-near-{band}") for band in range(BANDS)
        ]
        compute(tasks, lambda _: progress("Comparing", next(compared), BANDS))
    join_until_few(runs, work, dealing.deduplicate, compute, progress)
    progress("Writing", 0, count)
    tasks = [
        delayed(merge_range)(work, number, count, dealing, dask_key_name=f"{name}-merge-{number}")
        for number in range(count)
    ]
    splits = compute(tasks, report)
    _check_parts(splits, dealing)
    _put_parts(folder, work, splits)
    return splits, replace(options, dealing=dealing)


def _put_parts(folder: Path, work: Path, splits: list[Counts]) -> None:
    for part in PARTS:
        pieces = [part_path(work, part, number) for number, counts in enumerate(splits) if counts[part][0]]
        if part == "train":
            (folder / part).mkdir()
            for number, piece in enumerate(pieces, 1):
                piece.rename(folder / part / f"{number:05}.txt")
            continue
        with (folder / f"{part}.txt").open("wb") as file:
            for piece in pieces:
                with piece.open("rb") as text:
                    shutil.copyfileobj(text, file, 1 << 20)


def _hash_files(folder: Path, compute: Compute) -> dict[str, dict[str, Any]]:
    """The manifest's entries of the written files, by which a later change of them is noticed."""
    from dask import delayed

    names = [*sorted(f"train/{path.name}" for path in (folder / "train").iterdir()), "valid.txt", "test.txt"]
    prefix = folder.parent.name
    tasks = [delayed(described)(folder, [name], dask_key_name=f"{prefix}-written-{name}") for name in names]
    return {name: file for one in compute(tasks, lambda _: None) for name, file in one.items()}


def _check_parts(splits: list[Counts], dealing: Dealing) -> None:
    documents = sum(counts_of(splits, part)[0] for part in PARTS)
    problems = [
        f"No document falls into {part}: of {documents:,}, {share:.2%} should. Raise --{part}, split the text into "
        "smaller documents (--split-at), or give more of it."
        for part, share in (("valid", dealing.valid), ("test", dealing.test))
        if counts_of(splits, part)[0] == 0
    ]
    if counts_of(splits, "train")[0] == 0:
        problems.append("No document is left to train on. Lower --valid and --test, or give more text.")
    raise_if_any(problems)
