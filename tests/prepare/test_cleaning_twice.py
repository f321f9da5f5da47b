"""Cleaning twice is cleaning once; what is counted is what is done, and what check_corpus.py says beforehand."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from preparing import everything, options, prepare
from test_filters import ENGLISH, GERMAN, RUSSIAN, UNCLEAR

from lmtrain.prepare.cleaning import Cleaning
from lmtrain.prepare.corpus_quality import examine
from lmtrain.prepare.shuffling import Dealing

ODD = "aeé\u0301\u0308\u0345\u0344\u1100\u1161\ufb01①\xa8 \xa0\n\r\t\0\x0b\x1c\x85\u2028\u200b\u200c\u200d\xad\ufeff|<"
DOCUMENTS = st.lists(st.text(st.sampled_from(ODD), max_size=9), max_size=4)


def cleaned(cleaning: Cleaning, documents: list[str], delimiter: str = "\n") -> list[str]:
    for _, step in cleaning.steps(delimiter):
        documents = step(documents)
    return documents


@given(
    DOCUMENTS,
    st.sampled_from(["\n", "\n\n", "|", "a|", "</s>"]),
    st.builds(
        Cleaning,
        remove_control=st.booleans(),
        remove_invisible=st.booleans(),
        normalize=st.sampled_from([None, "NFC", "NFD", "NFKC", "NFKD"]),
        trim=st.booleans(),
    ),
)
def test_cleaning_twice_is_cleaning_once(documents, delimiter: str, cleaning: Cleaning) -> None:
    once = cleaned(cleaning, documents, delimiter)
    assert cleaned(cleaning, once, delimiter) == once
    if cleaning.trim:
        assert once == [document.strip() for document in once]
    for joiner in "\u200c\u200d":
        assert sum(document.count(joiner) for document in once) == sum(document.count(joiner) for document in documents)


MIXED = [
    *GERMAN,
    *ENGLISH[:20],
    *RUSSIAN[:5],
    *UNCLEAR,
    "FranÃ§ais, cafÃ© et thÃ©",
    "in\xadvisible soft hyphens",
    "zero\u200bwidth",
    "ﬁne ligatures",
    "می\u200cخواهم",
    "<a href='x'>a</a> <b>b</b> https://example.org/a/b/c",
    "-------------------- 20",
    "12.5 13.0 14.7 = 1",
]


@pytest.mark.parametrize(
    ("option", "chosen", "step"),
    [
        ("--fix-mojibake", {"fix_mojibake": True}, "mojibake"),
        ("--remove-invisible", {"remove_invisible": True}, "invisible"),
        ("--normalize NFKC", {"normalize": "NFKC"}, "normalize"),
        ("--min-letters 0.6", {"min_letters": 0.6}, "letters"),
        ("--max-repeats 0.2", {"max_repeats": 0.2}, "repeats"),
        ("--max-markup 0.2", {"max_markup": 0.2}, "markup"),
        ("--script Latin", {"scripts": ("Latin",)}, "scripts"),
        ("--only-language de", {"languages": ("de",)}, "languages"),
    ],
)
def test_what_the_check_says_of_a_step_is_what_it_does(option: str, chosen: dict, step: str, tmp_path: Path) -> None:
    (effect,) = (effect for effect in examine(MIXED).effects if effect.option == option)
    (tmp_path / "raw.txt").write_text("".join(f"{document}\n" for document in MIXED), encoding="utf-8")
    manifest = prepare([tmp_path / "raw.txt"], tmp_path / "corpus", options(cleaning=Cleaning(**chosen)))
    (counts,) = (row for row in manifest["steps"] if row["step"] == step)
    concerned = counts.get("changed", 0) or counts["in"]["documents"] - counts["out"]["documents"]
    assert concerned == round(effect.share * len(MIXED)) > 0
    gone = set(MIXED) - set(everything(tmp_path / "corpus"))
    assert any(example.rstrip(".").split("<U+")[0] in document for document in gone for example in effect.examples)


def test_a_prepared_corpus_prepared_again_is_the_same(tmp_path: Path) -> None:
    source = random.Random(1)
    words = ["".join(source.choices("abcdefghijä", k=source.randint(2, 9))) for _ in range(500)]
    texts = [" ".join(source.choices(words, k=30)) for _ in range(60)]
    lines = [*MIXED, *texts, *texts[:9], *(f"{text} {words[0]}" for text in texts), *(text[20:] for text in texts)]
    (tmp_path / "raw.txt").write_text("".join(f" {line}\x0c\n" for line in lines), encoding="utf-8")
    chosen = options(
        cleaning=Cleaning(fix_mojibake=True, remove_invisible=True, min_letters=0.3, other_languages=("ru",)),
        dealing=Dealing(0.1, 0.1, near_duplicates=True),
    )
    prepare([tmp_path / "raw.txt"], tmp_path / "one", chosen)
    again = prepare([tmp_path / "one" / f for f in ("train", "valid.txt", "test.txt")], tmp_path / "two", chosen)
    assert everything(tmp_path / "two") == everything(tmp_path / "one")
    assert not any(row.get("changed") for row in again["steps"])
