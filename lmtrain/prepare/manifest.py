"""The content of a prepared corpus's manifest.json: sources, options, what each step left, and the parts.

With it one can say where a corpus came from, and notice that its files or its sources have changed since.
"""

from collections import Counter
from dataclasses import asdict
from typing import Any

from lmtrain.data.formats.reader import Tally
from lmtrain.prepare.cleaning import CHANGING
from lmtrain.prepare.options import PrepareOptions
from lmtrain.prepare.shuffling import PARTS
from lmtrain.prepare.sources import Source
from lmtrain.prepare.tasks import Cleaned
from lmtrain.version import lmtrain_version

Counts = dict[str, tuple[int, int, int]]
"""Of one range of the order: by part, and by filter of duplicates, (documents, characters, bytes)."""


def counts_of(splits: list[Counts], part: str) -> tuple[int, ...]:
    """Documents, characters and bytes of a part, summed over all ranges."""
    return tuple(map(sum, zip(*(counts[part] for counts in splits), strict=True)))


def described_source(source: Source, tally: Tally, size: int, digest: str) -> dict[str, Any]:
    """The manifest's entry of a source.

    Args:
        size: bytes as stored.
        digest: their SHA-256.
    """
    described: dict[str, Any] = {"url": source.url, "format": source.format, "size": size, "sha256": digest}
    if source.encoding:
        described["encoding"] = source.encoding
    if tally.replaced:
        described["replaced"] = tally.replaced
    if tally.members:
        described["members"] = dict(tally.members)
    examples = {reason: example for reason, example in tally.examples.items() if example}
    return described | {"documents": tally.used, "left_out": dict(tally.left_out), "examples": examples}


def manifest_of(
    sources: list[dict[str, Any]],
    beside: list[str],
    options: PrepareOptions,
    cleaned: list[Cleaned],
    splits: list[Counts],
) -> dict[str, Any]:
    """The manifest without "files", which needs the written files.

    Args:
        sources: their entries, see `described_source`.
        beside: files in the input folders that are no texts.
        cleaned: the result of each block.
        splits: the counts of each range.
    """
    steps = sum((result.steps for result in cleaned), Counter())
    totals = {part: counts_of(splits, part) for part in PARTS}
    for place, what in enumerate(("documents", "characters")):
        after = sum(one[place] for one in totals.values())
        dropped = {step: counts_of(splits, step)[place] for step in ("max_copies", "near_duplicates")}
        if options.dealing.deduplicate:
            steps["deduplicate", what] = after + sum(dropped.values())
        if options.dealing.max_copies:
            steps["max_copies", what] = after + dropped["near_duplicates"]
        if options.dealing.near_duplicates:
            steps["near_duplicates", what] = after
    table: list[dict[str, Any]] = []
    for name in dict.fromkeys(step for step, _ in steps):
        out = {what: steps[name, what] for what in ("documents", "characters")}
        changed = {"changed": steps[name, "changed"]} if name in CHANGING else {}
        table.append({"step": name, "in": table[-1]["out"] if table else out, "out": out} | changed)
    return {
        "format": "lmtrain corpus",
        "version": 1,
        "made_by": f"lmtrain {lmtrain_version()}",
        "options": asdict(options),
        "sources": sources,
        "beside": beside,
        "steps": table,
        "parts": {
            part: {"files": len([1 for counts in splits if counts[part][0]]) if part == "train" else 1}
            | dict(zip(("documents", "characters", "bytes"), totals[part], strict=True))
            for part in PARTS
        },
    }
