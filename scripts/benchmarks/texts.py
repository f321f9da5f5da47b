"""Makes text to measure with: Python's documentation, as it is or with the letters of another script."""

import random
from pathlib import Path


def english(characters: int) -> str:
    """Lines of real English; for a greater length they are repeated in other orders."""
    from pydoc_data.topics import topics

    lines = [line.strip() for name in sorted(topics) for line in topics[name].split("\n") if len(line) > 20]
    order = random.Random(1)
    text, size = [], 0
    while size < characters:
        order.shuffle(lines)
        text += lines
        size += sum(map(len, lines)) + len(lines)
    return "\n".join(text)[:characters]


def in_script(text: str, script: str) -> str:
    """The text with the letters of a script: "ASCII", "Cyrillic", or "Japanese" (some 2,000 different characters)."""
    if script == "Cyrillic":
        return text.translate({ord("a") + i: chr(0x430 + i) for i in range(26)})
    if script == "Japanese":
        number = random.Random(2)
        common = [chr(0x3041 + i) for i in range(80)] + [chr(0x4E00 + 7 * i) for i in range(1900)]
        weights = [1 / (rank + 5) for rank in range(len(common))]
        letters = number.choices(common, weights, k=len(text))
        return "".join(old if old == "\n" else new for old, new in zip(text, letters, strict=True))
    return text.encode("ascii", "replace").decode()


def write_corpus(folder: Path, train_characters: int, other_characters: int = 60_000, script: str = "ASCII") -> Path:
    """A corpus folder with one training file."""
    (folder / "train").mkdir(parents=True)
    for name, size in (
        ("train/1.txt", train_characters),
        ("valid.txt", other_characters),
        ("test.txt", other_characters),
    ):
        (folder / name).write_text(in_script(english(size), script), encoding="utf-8")
    return folder
