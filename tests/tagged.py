"""Files of tagged sentences for tests."""

import random
from pathlib import Path

from small_models import make_model

from lmtrain.model_files.flair import save_language_model
from lmtrain.probing.tagged_text import TaggedSentence

BOTH_MODELS = ("forward/best-lm.pt", "backward/best-lm.pt")
FILES = ("--train", "train.tsv", "--test", "test.tsv")

LETTERS = "abcd"


def write_columns(path: Path, sentences) -> Path:
    """A token and its tag in each line; `sentences` are lists of pairs."""
    blocks = ("".join(f"{token}\t{tag}\n" for token, tag in sentence) for sentence in sentences)
    path.write_text("\n".join(blocks), encoding="utf-8")
    return path


def tagged_by_what_stands_before(count: int, seed: int, distance: int = 2) -> list:
    """Sentences of random letters; the tag says whether the letter that many places before is in the alphabet's first
    half (of the first ones, that nothing is there)."""
    draw = random.Random(seed)
    sentences = []
    for _ in range(count):
        letters = draw.choices(LETTERS, k=8)
        before = [None] * distance + letters[:-distance] if distance > 0 else letters[-distance:] + [None] * -distance
        sentences.append([(one, _tag(other)) for one, other in zip(letters, before, strict=True)])
    return sentences


def _tag(letter: str | None) -> str:
    if letter is None:
        return "NONE"
    return "LOW" if letter < LETTERS[len(LETTERS) // 2] else "HIGH"


def read(sentences: list) -> list[TaggedSentence]:
    """As they are read from a file."""
    return [TaggedSentence([token for token, _ in one], [1] * len(one), [tag for _, tag in one]) for one in sentences]


def named(count: int, seed: int) -> list:
    """Sentences in which one capital is a place."""
    sentences = [[token for token, _ in one] for one in tagged_by_what_stands_before(count, seed)]
    places = [[*tokens[:3], tokens[3].upper(), *tokens[4:]] for tokens in sentences]
    return [[(token, "B-LOC" if token.isupper() else "O") for token in tokens] for tokens in places]


def write_models_and_files(folder: Path) -> None:
    """What `BOTH_MODELS` and `FILES` name, with 40 sentences each."""
    for name, seed in (("train.tsv", 1), ("test.tsv", 2)):
        write_columns(folder / name, named(40, seed))
    for name, is_forward in (("forward", True), ("backward", False)):
        (folder / name).mkdir()
        save_language_model(make_model(is_forward_lm=is_forward, hidden_size=16), folder / name / "best-lm.pt")
