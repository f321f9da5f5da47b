"""Makes the dictionary of a run, and reports how much of the text it covers."""

import logging
from collections import Counter
from collections.abc import Callable

from lmtrain.config.schema import DictionaryConfig
from lmtrain.data.dictionary import Dictionary
from lmtrain.data.id_cache import EncodedText
from lmtrain.errors import UserError
from lmtrain.model_files.flair import load_dictionary
from lmtrain.training.fine_tuning import with_new_items

log = logging.getLogger(__name__)


def make_dictionary(
    config: DictionaryConfig, level: str, count: Callable[[], Counter[str]], initial: Dictionary | None = None
) -> Dictionary:
    """The dictionary that the configuration asks for, or the initial one, expanded with `dictionary.expand`.

    Args:
        level: of the items, "character" or "word".
        count: counts the items of the training files; called only if the dictionary depends on them.
        initial: the dictionary of the model to start from.

    Raises:
        UserError: keys contradict each other, or the file cannot be read.
    """
    if initial is not None and not config.expand:
        return initial
    if initial is None and config.source == "chars":
        if level == "word":
            raise UserError("dictionary=chars holds characters; with data.level=word use dictionary=corpus or file.")
        return Dictionary.general()
    if initial is None and config.source == "file":
        if config.path is None:
            raise UserError("dictionary=file needs dictionary.path=FILE, a dictionary.json or a Flair dictionary.")
        return load_dictionary(config.path)
    counts = count()
    if initial is not None:
        return with_new_items(initial, counts, config.min_count)
    return Dictionary.from_counts(
        counts, min_count=config.min_count, coverage=config.coverage, max_size=config.max_size
    )


def report_coverage(
    config: DictionaryConfig,
    is_brought: bool,
    dictionary: Dictionary,
    train: list[EncodedText],
    valid: list[EncodedText],
) -> list[str]:
    """Logs which share of the text is in the dictionary.

    Args:
        is_brought: whether the dictionary came with the model to start from.

    Returns:
        a sentence for each of train and valid of which more than `dictionary.max_unknown` is not in the dictionary.
    """
    log.info("Dictionary: %s items", f"{len(dictionary):,}")
    problems = []
    for part, texts in (("train", train), ("valid", valid)):
        items = sum(text.items for text in texts)
        unknown = sum(text.unknown_total for text in texts)
        if not unknown:
            log.info("  covers all of %s (%s items)", part, f"{items:,}")
            continue
        counts: Counter[str] = Counter()
        for text in texts:  # not a sum of counters, which copies all of them for each text
            counts.update(text.unknown)
        examples = " ".join(f"{item!r}×{count:,}" for item, count in counts.most_common(10))
        covered = 100 - 100 * unknown / items
        log.info("  covers %.4f %% of %s (%s items); unknown: %s", covered, part, f"{items:,}", examples)
        if unknown > config.max_unknown * items:
            problems.append(
                f"{unknown / items:.2%} of the items of {part} are not in the dictionary ({len(dictionary):,} items), "
                f"above dictionary.max_unknown={config.max_unknown}; the most frequent: {examples}. "
                + _remedy(config, is_brought)
            )
    return problems


def _remedy(config: DictionaryConfig, is_brought: bool) -> str:
    if is_brought:
        remedy = "Add them to the model's dictionary with dictionary.expand=true"
    elif config.source != "corpus":
        remedy = "Use dictionary=corpus, which counts the training files"
    elif (config.min_count, config.coverage, config.max_size) == (1, 1, None):
        remedy = "The training files do not have them: train on text that does"
    else:
        remedy = "Cut the dictionary less (dictionary.min_count, dictionary.coverage, dictionary.max_size)"
    return f"{remedy}, or allow more with dictionary.max_unknown."
