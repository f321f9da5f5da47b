"""Finds what would go wrong in training on a corpus, before GPU hours are spent on it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from lmtrain.config import compose
from lmtrain.config.explicit import check_explicit
from lmtrain.config.hydra_errors import explained
from lmtrain.config.overrides import as_hydra_reads, explicit_keys
from lmtrain.config.schedules import Plateau
from lmtrain.config.schema import Config
from lmtrain.data.cache.manifest import problem_of_manifest
from lmtrain.data.corpus import Corpus, find_corpus
from lmtrain.data.dictionary import Dictionary
from lmtrain.data.id_cache import TextFormat
from lmtrain.errors import UserError
from lmtrain.model_files.flair import load_dictionary
from lmtrain.prepare.check_result import Check, Coverage, Finding
from lmtrain.prepare.corpus_quality import examine
from lmtrain.prepare.corpus_scan import PartScan, scan_corpus
from lmtrain.program.time_left import Show

KNOWN_WARNING, KNOWN_ERROR = 0.01, 0.2  # shares of the validation documents that occur in train
DUPLICATES_WARNING = 0.05
SMALL_HELD_OUT = 50_000  # items
VALIDATION_SHARE = 0.25  # of the time


def compose_config(path: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration of `train.py data=folder data.path=PATH OVERRIDE...` on one device.

    Raises:
        UserError: an override is wrong.
    """
    with explained():
        config = compose.compose_config("data=folder", *overrides)
        compose.check_choice(config, overrides)
        check_explicit(config, explicit_keys(as_hydra_reads(overrides)))
        lanes = config.data.lanes_per_device or config.data.batch_size
        return config.changed({"data.path": path, "data.batch_size": lanes})


def check_corpus(
    path: str,
    overrides: Sequence[str] = (),
    *,
    with_cost: bool = True,
    show: Show = lambda *_: None,
) -> Check:
    """Checks a corpus folder for training with a configuration.

    Args:
        path: the folder, or an fsspec URL of one.
        overrides: of the configuration, as for train.py: `model=large`, `data.batch_size=50`.
        with_cost: whether to try how fast the model trains on this machine.
        show: called with the name of the present activity, how much of it is done, and how much there is.

    Raises:
        UserError: an override is wrong, or there is no such folder.
    """
    config = compose_config(path, overrides)
    check, corpus = Check(path), _find(config)
    if isinstance(corpus, UserError):
        check.findings = [Finding("error", problem) for problem in corpus.problems]
        return check
    total, done = sum(max(0, file.size) for file in corpus.files()), 0

    def report(size: int) -> None:
        nonlocal done
        done += size
        show("Reading", done, total)

    data = config.data
    text_format = TextFormat(data.level, data.document_delimiter, data.errors, data.encoding)
    files = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    scans = scan_corpus(files, text_format, report)
    _check_parts(check, scans, config)
    check.note("warning", problem := problem_of_manifest(data.path), problem or "")
    _count_scripts(check, scans)
    _check_quality(check, scans["train"].sample.documents)
    dictionary = _check_dictionaries(check, scans, config)
    _check_splits(check, scans, config)
    if with_cost and not any(scan.problems for scan in scans.values()) and dictionary is not None:
        from lmtrain.prepare.cost import estimate_cost

        items = {part: scan.size(data.level) for part, scan in scans.items()}
        trying = partial(show, "Trying steps")
        check.cost = asdict(estimate_cost(config, len(dictionary), items["train"], items["valid"], trying))
    check.findings.sort(key=lambda finding: ("error", "warning").index(finding.level))
    return check


def _find(config: Config) -> Corpus | UserError:
    try:
        data = config.data
        return find_corpus(data.path, data.train, data.valid, data.test, data.format, data.encoding)
    except UserError as error:
        if str(error).startswith("data.path="):
            raise  # there is no folder to check
        return error


def _check_parts(check: Check, scans: dict[str, PartScan], config: Config) -> None:
    for part, scan in scans.items():
        check.findings += [Finding("error", problem) for problem in scan.problems]
        longest = int(scan.lengths.nonzero()[0].max(initial=0))
        check.parts[part] = {
            "files": len(scan.sizes),
            "bytes": scan.bytes,
            "characters": scan.characters,
            "documents": scan.documents,
            "lengths": {"median": scan.percentile(0.5), "99 %": scan.percentile(0.99), "longest": longest},
            "duplicates": scan.duplicates,
            "not_nfc": scan.not_nfc,
        } | ({} if part == "train" else {"in_train": scan.known})
        documents = max(1, scan.documents)
        check.note(
            "error", not scan.documents and not scan.problems, f"{part} has no documents: its files have no text."
        )
        check.note(
            "warning",
            scan.characters / documents > 10_000,
            f"The documents of {part} have {scan.characters / documents:,.0f} characters on average; is "
            f"data.document_delimiter={config.data.document_delimiter!r} what ends them? Whole documents are shuffled.",
        )
        share = scan.duplicates / documents
        remedy = "scripts/prepare_corpus.py keeps one of each."
        check.note(
            "warning", share > DUPLICATES_WARNING, f"{share:.1%} of the documents of {part} are duplicates; {remedy}"
        )
        if part != "train":
            share = scan.known / documents
            check.note(
                "error" if share > KNOWN_ERROR else "warning",
                share > KNOWN_WARNING,
                f"{share:.1%} of the documents of {part} ({scan.known:,}) occur in train, so its loss will look better "
                f"than it is; {remedy}",
            )
        _check_characters(check, part, scan)


def _check_characters(check: Check, part: str, scan: PartScan) -> None:
    replaced = int(scan.codes[0xFFFD])
    check.note(
        "warning",
        replaced and not scan.problems,
        f"{part} has {replaced:,} replacement characters (U+FFFD): something was lost when it was decoded.",
    )
    control = int(scan.codes[:32].sum() - scan.codes[[9, 10]].sum() + scan.codes[127:160].sum() + scan.codes[0xFEFF])
    check.note(
        "warning",
        control,
        f"{part} has {control:,} control characters and byte-order marks; scripts/prepare_corpus.py removes them.",
    )
    check.note(
        "warning",
        scan.not_nfc > 0.001 * scan.documents,
        f"{scan.not_nfc:,} documents of {part} are not in the Unicode form NFC: equal letters are different "
        "characters. scripts/prepare_corpus.py normalizes them.",
    )


def _count_scripts(check: Check, scans: dict[str, PartScan]) -> None:
    from fontTools import unicodedata

    codes = np.sum([scan.codes for scan in scans.values()], axis=0)
    scripts: Counter[str] = Counter()
    blocks: Counter[str] = Counter()
    for code in codes.nonzero()[0].tolist():
        scripts[unicodedata.script_name(unicodedata.script(chr(code)))] += int(codes[code])
        blocks[unicodedata.block(chr(code))] += int(codes[code])
    check.scripts, check.blocks = dict(scripts.most_common()), dict(blocks.most_common())


def _check_quality(check: Check, documents: list[str]) -> None:
    quality = examine(documents)
    check.languages, check.effects = dict(quality.languages.most_common()), quality.effects
    check.not_tried = quality.not_tried
    for effect in quality.effects:
        example = effect.examples[0]
        remedy = f" scripts/prepare_corpus.py has {effect.option} for that." if effect.option else ""
        check.note(
            "warning",
            effect.share >= effect.notable,
            f"{effect.share:.1%} of a sample of the documents of train {effect.what}: {example!r}.{remedy}",
        )


def _check_dictionaries(check: Check, scans: dict[str, PartScan], config: Config) -> Dictionary | None:
    """Notes how each choice of `dictionary=` fits.

    Returns:
        the configured dictionary; None if there is none, which is an error in `check`.
    """
    level, chosen = config.data.level, config.dictionary
    items = {part: scan.items(level) for part, scan in scans.items()}
    cuts: dict[str, Any] = {"min_count": chosen.min_count, "coverage": chosen.coverage, "max_size": chosen.max_size}
    choices: dict[str, Dictionary] = {"corpus": Dictionary.from_counts(items["train"], **cuts)}
    if level == "character":
        choices["chars"] = Dictionary.general()
    if chosen.source == "file":
        check.note("error", chosen.path is None, "dictionary=file needs dictionary.path=FILE.")
        if chosen.path is not None:
            choices["file"] = load_dictionary(chosen.path)
    check.note("error", chosen.source == "chars" and level == "word", "dictionary=chars holds characters, not words.")
    for choice, dictionary in choices.items():
        shares, unknown = {}, Counter()
        for part, counts in items.items():
            missing = Counter({item: count for item, count in counts.items() if item not in dictionary.ids})
            shares[part] = 1 - missing.total() / max(1, counts.total())
            unknown += missing
        most = dict(unknown.most_common(20))
        check.dictionaries.append(Coverage(choice, len(dictionary), shares, most))
        for part in ("train", "valid", "test") if choice == chosen.source else ():
            examples = " ".join(f"{item!r}" for item in list(most)[:10])
            check.note(
                "error",
                1 - shares[part] > (chosen.max_unknown if part != "test" else 1) or (most and not dictionary.has_unk),
                f"dictionary={choice} lacks {1 - shares[part]:.2%} of the items of {part}, for example {examples}; "
                f"dictionary.max_unknown={chosen.max_unknown} are allowed"
                + ("." if dictionary.has_unk else ", and none without <unk>."),
            )
    return choices.get(chosen.source)


def _check_splits(check: Check, scans: dict[str, PartScan], config: Config) -> None:
    data = config.data
    lanes, window = data.batch_size, data.batch_size * data.sequence_length
    for name, size in scans["train"].sizes.items():
        count = max(1, math.ceil(size / data.max_split_size))
        names = [name] if count == 1 else [f"{name}[{number}]" for number in range(count)]
        check.splits |= {split: size // count for split in names}
    texts = {f"training split {name}": size for name, size in check.splits.items()}
    held_out = {part: scans[part].size(data.level) for part in ("valid", "test")}
    texts |= {f"{part} text": size for part, size in held_out.items()}
    for name, size in texts.items():
        check.note(
            "error",
            0 < size < 2 * lanes,
            f"The {name} has {size:,} items, too few for data.batch_size={lanes}: at least {2 * lanes:,}.",
        )
    small = [name for name, size in texts.items() if 2 * lanes <= size < window]
    check.note(
        "warning",
        small,
        f"{len(small)} texts are shorter than one window of data.batch_size × data.sequence_length = {window:,} items "
        f"({', '.join(small[:3])}{', ...' if len(small) > 3 else ''}); put small files together, or take fewer lanes.",
    )
    for part, size in held_out.items():
        check.note(
            "warning",
            0 < size < SMALL_HELD_OUT,
            f"{part} has {size:,} items; below about {SMALL_HELD_OUT:,}, its loss depends on chance.",
        )
    _check_validation(check, scans, config)


def _check_validation(check: Check, scans: dict[str, PartScan], config: Config) -> None:
    data, sizes = config.data, list(check.splits.values())
    train, valid = sum(sizes), scans["valid"].size(data.level)
    count = data.validations_per_epoch or len(sizes)
    if not train:
        return
    interval = train / count
    share = valid / 3 / (valid / 3 + interval)  # a validation takes about a third of training on the same text
    check.validation = {"per_epoch": count, "every": round(interval), "items": valid, "share_of_time": share}
    check.note(
        "warning",
        share > VALIDATION_SHARE,
        f"Validations will take about {share:.0%} of the time: valid has {valid:,} items, read after every "
        f"{interval:,.0f} of training. Use a smaller valid, or data.validations_per_epoch={max(1, count // 4)}.",
    )
    epochs = config.trainer.max_epochs or -1
    check.note(
        "warning",
        isinstance(config.anneal.build_schedule(), Plateau) and 0 < epochs * count <= config.anneal.patience,
        f"The learning rate will never be lowered: {epochs} epochs have {epochs * count} validations, and "
        f"anneal.patience={config.anneal.patience} waits for more. Give more data.validations_per_epoch, a smaller "
        "anneal.patience, or experiment=fast, which lowers it over the length of the run.",
    )
    if data.validations_per_epoch is None and len(sizes) > 1:
        check.note(
            "warning",
            max(sizes) > 10 * max(1, min(sizes)),
            f"The training splits have from {min(sizes):,} to {max(sizes):,} items, and each ends with a validation; "
            f"with data.validations_per_epoch={len(sizes)} the distances are equal.",
        )
