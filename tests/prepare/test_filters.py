"""The filters and repairs that preparing makes on request: languages, scripts, near-duplicates, boilerplate."""

import random
from collections import Counter
from pathlib import Path

import pytest
from preparing import everything, options, prepare, texts
from script_calls import call

from lmtrain.errors import UserError
from lmtrain.prepare.cleaning import Cleaning
from lmtrain.prepare.shuffling import Dealing

GERMAN = [f"Das ist der {n}. deutsche Satz, und er ist lang genug, um erkannt zu werden." for n in range(60)]
ENGLISH = [f"This is sentence number {n} in English, and it is long enough to be recognised." for n in range(60)]
RUSSIAN = [f"Это предложение номер {n} на русском языке, и оно достаточно длинное." for n in range(60)]
UNCLEAR = ["Ok.", "12 : 34", "—"]


def prepared(folder: Path, documents: list[str], **changes) -> tuple[list[str], dict]:
    (folder / "raw.txt").write_text("".join(f"{document}\n" for document in documents), encoding="utf-8")
    manifest = prepare([folder / "raw.txt"], folder / "corpus", options(**changes), overwrite=True)
    return everything(folder / "corpus"), {step["step"]: step for step in manifest["steps"]}


def test_other_languages_are_left_out_where_the_identifier_is_sure(tmp_path: Path) -> None:
    mixed = GERMAN + ENGLISH + UNCLEAR
    found, steps = prepared(tmp_path, mixed, cleaning=Cleaning(languages=("de",)))
    assert found == sorted(GERMAN + UNCLEAR)
    assert steps["languages"]["in"]["documents"] - steps["languages"]["out"]["documents"] == len(ENGLISH)
    found, _ = prepared(tmp_path, mixed, cleaning=Cleaning(other_languages=("de",)))
    assert found == sorted(ENGLISH + UNCLEAR)
    found, _ = prepared(tmp_path, mixed, cleaning=Cleaning(languages=("de",), language_threshold=0))
    assert not set(UNCLEAR) <= set(found)


def test_other_scripts_are_left_out(tmp_path: Path) -> None:
    mixed = RUSSIAN + ENGLISH + ["Слово и word", "word слово and more", "12:34"]
    found, _ = prepared(tmp_path, mixed, cleaning=Cleaning(scripts=("Cyrillic",)))
    assert found == sorted([*RUSSIAN, "Слово и word", "12:34"])
    found, _ = prepared(tmp_path, mixed, cleaning=Cleaning(scripts=("Cyrl", "Latin"), script_share=1))
    assert found == sorted(mixed)


def test_broken_and_invisible_characters(tmp_path: Path) -> None:
    joined = "می\u200cخواهم क्\u200dष"
    documents = ["FranÃ§ais Ã©tÃ©", "sof\xadt, zero\u200bwidth \u200eand\u202c marks", joined, *GERMAN]
    found, _ = prepared(tmp_path, documents, cleaning=Cleaning(fix_mojibake=True, remove_invisible=True))
    assert {"Français été", "soft, zerowidth and marks", joined} <= set(found)
    found, _ = prepared(tmp_path, documents)
    assert {documents[0], documents[1], joined} <= set(found)


def test_boilerplate_that_stands_on_many_pages_is_left_out(tmp_path: Path) -> None:
    documents = GERMAN * 2 + ["Imprint and contact"] * 30
    for block_size in (1 << 20, 300):  # the copies are in one run, and in many
        found, steps = prepared(tmp_path, documents, dealing=Dealing(0.1, 0.1, max_copies=2), block_size=block_size)
        assert found == sorted(GERMAN)
        assert steps["deduplicate"]["out"]["documents"] == len(GERMAN) + 1
        assert steps["max_copies"]["out"]["documents"] == len(GERMAN)


def jaccard(one: str, two: str) -> float:
    one, two = ({text[n : n + 5] for n in range(len(text) - 4)} for text in (one, two))
    return len(one & two) / len(one | two)


def test_of_documents_that_are_almost_equal_one_is_kept(tmp_path: Path) -> None:
    source = random.Random(1)
    words = ["".join(source.choices("abcdefghij", k=source.randint(2, 9))) for _ in range(2000)]
    originals = [" ".join(source.choices(words, k=60)) for _ in range(100)]
    changed = [f"{text} {source.choice(words)}" for text in originals]
    assert min(map(jaccard, originals, changed)) > 0.95
    short = [f"Chapter {n} of the book" for n in range(30)]
    dealing = Dealing(0.1, 0.1, near_duplicates=True)
    found, steps = prepared(tmp_path, originals + changed + short, dealing=dealing, block_size=2000)
    assert len(found) == 130
    kept = Counter(
        next(n for n in range(100) if text in (originals[n], changed[n])) for text in found if len(text) > 50
    )
    assert set(kept.values()) == {1}
    assert set(short) < set(found)
    assert steps["deduplicate"]["out"]["documents"] == 230
    assert steps["near_duplicates"]["out"]["documents"] == 130
    prepare([tmp_path / "raw.txt"], tmp_path / "two", options(dealing=dealing), workers=2)
    assert texts(tmp_path / "two") == texts(tmp_path / "corpus")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cleaning": Cleaning(scripts=("Cyrilic",))}, "--script Cyrilic: Unicode has no script of that name"),
        ({"cleaning": Cleaning(languages=("xx",))}, "--only-language xx: .* with --not-language"),
        ({"cleaning": Cleaning(other_languages=("xx",))}, "--not-language xx: the identifier does not know"),
        ({"cleaning": Cleaning(language_threshold=2)}, "--language-threshold 2: it must be a share"),
        ({"dealing": Dealing(0.1, 0.1, max_copies=0)}, "--max-copies 0: it must be at least 1"),
        ({"dealing": Dealing(0.1, 0.1, deduplicate=False, near_duplicates=True)}, "leave out --keep-duplicates"),
    ],
)
def test_filters_that_cannot_be(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, GERMAN, **changes)


def test_the_script_s_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = [f"Das ist Satz {n}, ein kurzer." for n in range(60)]
    (tmp_path / "raw.txt").write_text("\n".join(short + ENGLISH + RUSSIAN + ["Menu"] * 9), encoding="utf-8")
    arguments = [
        "--script",
        "Latin",
        "--not-language",
        "en",
        "--max-copies",
        "3",
        "--near-duplicates",
        "--fix-mojibake",
    ]
    arguments += ["--remove-invisible", "--valid", "0.2", "--test", "0.2", "--workers", "1"]
    assert call("prepare_corpus", tmp_path / "raw.txt", *arguments, "--output", tmp_path / "corpus") == 0
    assert "near_duplicates" in capsys.readouterr().out
    assert everything(tmp_path / "corpus") == sorted(short)
