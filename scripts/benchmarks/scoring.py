"""Measures how fast a trained model scores one long text: exactly, and in lanes."""

from collections.abc import Callable
from functools import partial

from benchmarks.inference import rates_of, same_models
from benchmarks.texts import english


def benchmark_score(characters: int = 2_000_000, hidden_size: int = 256, context: int = 400, rounds: int = 5) -> dict:
    """Scores a text in lanes, and its beginning exactly and with Flair, one after the other in every round."""
    from lmtrain.inference.long_texts import score_in_lanes
    from lmtrain.inference.scoring import score

    ours, theirs = same_models(hidden_size)
    text = english(characters)
    short = text[: characters // 40]
    contestants: dict[str, Callable[[], object]] = {
        "Flair": lambda: theirs.calculate_perplexity(short),
        "lmtrain, exact": lambda: score(ours, [short]),
    }
    amounts = dict.fromkeys(contestants, len(short))
    for lanes, precision in ((32, "32"), (128, "32"), (64, "bf16"), (128, "bf16"), (256, "bf16")):
        name = f"lmtrain, {lanes} lanes, {precision}"
        contestants[name] = partial(score_in_lanes, ours, text, lanes, context, precision)
        amounts[name] = len(text)
    exact = score(ours, [text[: characters // 4]])[0].loss
    near = {
        precision: score_in_lanes(ours, text[: characters // 4], 128, context, precision)
        for precision in ("32", "bf16")
    }
    return {
        "task": "scoring a long text",
        "size": f"H{hidden_size}, {context} of context",
        "unit": "characters/s",
        "rates": rates_of(contestants, amounts, rounds),
        "reference": "lmtrain, exact",
        "notes": {f"loss of 128 lanes less the exact one, {name}": one.loss - exact for name, (one, _) in near.items()}
        | {f"difference that it says at most, {name}": difference for name, (_, difference) in near.items()},
    }
