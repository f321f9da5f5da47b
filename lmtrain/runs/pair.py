"""Loads the forward and the backward model of one corpus, which embed together, and checks that they fit."""

import warnings
from pathlib import Path

from lmtrain.errors import raise_if_any
from lmtrain.inference.scoring import score
from lmtrain.model.language_model import LanguageModel
from lmtrain.model_files.flair import load_language_model
from lmtrain.runs.compare import TOLERANCE
from lmtrain.runs.curves import extreme, read_metrics


def load_pair(
    forward: str | Path, backward: str | Path, text: str | None = None, map_location: str = "cpu"
) -> tuple[LanguageModel, LanguageModel]:
    """Loads the `best-lm.pt` of a forward and of a backward run and checks that they fit.

    Warns if their perplexities differ by more than 10 %, the sign of a failed run: the best `val/ppl` in the
    `metrics.csv` beside each model, or the perplexities of `text` if such a file is missing.

    Args:
        forward: the forward model's file.
        backward: the backward model's file. Files in the wrong order are exchanged.
        text: a text to compare the models on if there is no `metrics.csv`.
        map_location: the device to load to.

    Returns:
        the forward and the backward model.

    Raises:
        UserError: a file cannot be read, the models have the same direction, or differ in dictionary or level.
    """
    paths = [Path(forward), Path(backward)]
    models = [load_language_model(path, map_location) for path in paths]
    if not models[0].is_forward_lm and models[1].is_forward_lm:
        paths.reverse()
        models.reverse()
    first, second = models
    problems = []
    if first.is_forward_lm == second.is_forward_lm:
        problems.append(f"{paths[0]} and {paths[1]} are both {first.direction} models; a pair has one of each.")
    if first.dictionary != second.dictionary:
        problems.append(
            f"{paths[0]} and {paths[1]} have different dictionaries, of {len(first.dictionary)} and "
            f"{len(second.dictionary)} items: they were not trained together."
        )
    if first.level != second.level:
        problems.append(
            f"{paths[0]} is a model of {first.level}s, {paths[1]} of {second.level}s; a pair has one level."
        )
    raise_if_any(problems)
    _compare(paths, models, text)
    return first, second


def _compare(paths: list[Path], models: list[LanguageModel], text: str | None) -> None:
    perplexities = [extreme(read_metrics(path.parent / "metrics.csv"), "val/ppl") for path in paths]
    where = "validation"
    if None in perplexities and text is not None and all(model.model.decoder is not None for model in models):
        perplexities = [score(model, [text])[0].perplexity for model in models]
        where = "the text's"
    if None in perplexities or not min(perplexities) > 0:
        return
    if not max(perplexities) <= TOLERANCE * min(perplexities):
        warnings.warn(
            f"The {where} perplexities of the pair differ by more than 10 %: {perplexities[0]:.3f} of {paths[0]}, "
            f"{perplexities[1]:.3f} of {paths[1]}. One of the runs may have failed or may not have finished.",
            stacklevel=3,
        )
