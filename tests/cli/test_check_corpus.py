"""check_corpus.py finds everything that would go wrong in training, and nothing else."""

import json
import pickle
import random
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from corpora import sentences
from hypothesis import given
from hypothesis import strategies as st
from processes import ROOT
from script_calls import call

from lmtrain.data.dictionary import Dictionary
from lmtrain.data.id_cache import TextFormat
from lmtrain.errors import MissingPackage, UserError
from lmtrain.prepare.corpus_check import check_corpus, compose_config
from lmtrain.prepare.corpus_quality import Sample
from lmtrain.prepare.corpus_scan import Hashes, scan_corpus
from lmtrain.prepare.cost import estimate_cost, training_memory

SMALL = ("data.batch_size=4", "data.sequence_length=10")


def different(count: int, seed: int) -> str:
    """Lines of words that all differ."""
    return "".join(f"{seed}.{number} {line}\n" for number, line in enumerate(sentences(count, seed).splitlines()))


@pytest.fixture
def good(corpus_folder):
    """Writes a corpus with nothing wrong, but for what is given."""

    def make(**parts) -> Path:
        train = {"1.txt": different(2000, 1), "2.txt": different(1500, 2)}
        return corpus_folder(**({"train": train, "valid": different(1600, 3), "test": different(1600, 4)} | parts))

    return make


def messages(folder: Path, *overrides: str, level: str = "error") -> str:
    check = check_corpus(str(folder), [*SMALL, "data.validations_per_epoch=1", *overrides], with_cost=False)
    return "\n".join(finding.message for finding in check.findings if finding.level == level)


def test_a_good_corpus(good) -> None:
    folder = good()
    check = check_corpus(str(folder), [*SMALL, "data.validations_per_epoch=1", "anneal.patience=5"], with_cost=False)
    assert check.findings == []
    text = (folder / "train" / "1.txt").read_text() + (folder / "train" / "2.txt").read_text()
    train = check.parts["train"]
    assert (train["files"], train["characters"], train["documents"]) == (2, len(text), 3500)
    lengths = np.array([len(line) for line in text.splitlines()])
    assert train["lengths"]["longest"] == lengths.max()
    assert abs(train["lengths"]["median"] - np.median(lengths)) <= 1
    assert check.splits == {f"train/{name}": len((folder / "train" / name).read_text()) for name in ("1.txt", "2.txt")}
    assert [(coverage.choice, coverage.covered["valid"]) for coverage in check.dictionaries] == [
        ("corpus", 1.0),
        ("chars", 1.0),
    ]


def test_scripts_and_blocks(good) -> None:
    folder = good(valid="абв где\n" * 3, test="日本語 かな\n")
    check = check_corpus(str(folder), [*SMALL, "dictionary=chars"], with_cost=False)
    assert check.scripts["Cyrillic"] == 18
    assert check.scripts["Han"] == 3
    assert check.blocks["Hiragana"] == 2
    assert list(check.scripts)[:2] == ["Latin", "Common"]
    chars = check.dictionaries[1]
    assert chars.covered["valid"] == 1.0
    assert chars.covered["test"] == 2 / 7
    assert set(chars.unknown) == set("日本語かな")


@pytest.mark.parametrize(
    ("parts", "overrides", "message"),
    [
        ({"train": {}}, (), "for data.train=train"),
        ({"valid": ""}, (), "valid.txt is empty"),
        ({"valid": "\n\n\n"}, (), "valid has no documents"),
        ({"test": "abc\n"}, (), "The test text has 4 items, too few for data.batch_size=4: at least 8."),
        ({"train": {"1.txt": "abc\n"}}, (), "The training split train/1.txt has 4 items, too few"),
        ({"valid": "語" * 100 + "\n"}, (), "dictionary=corpus lacks 99.01% of the items of valid, for example '語'"),
        ({"train": {"1.txt": "語" * 100 + "\n"}}, ("dictionary=chars",), "dictionary=chars lacks 99.01%"),
        ({}, ("dictionary=chars", "data.level=word"), "dictionary=chars holds characters, not words"),
        ({"valid": different(2000, 1)}, (), "100.0% of the documents of valid (2,000) occur in train"),
    ],
)
def test_errors(good, parts: dict, overrides: tuple[str, ...], message: str) -> None:
    assert message in messages(good(**parts), *overrides)


@pytest.mark.parametrize(
    ("parts", "overrides", "message"),
    [
        ({"valid": different(1550, 3) + different(50, 1)}, (), "3.1% of the documents of valid (50) occur in train"),
        ({"test": different(750, 3) * 2}, (), "50.0% of the documents of test are duplicates"),
        (
            {"train": {"1.txt": different(1500, 1), "2.txt": "e\u0301\n" * 50}},
            (),
            "50 documents of train are not in the",
        ),
        ({"test": different(1500, 3) + "a\x1bb\ufeff\n"}, (), "test has 2 control characters"),
        ({"test": different(1500, 3) + "caf\ufffd\n"}, (), "test has 1 replacement characters"),
        (
            {"test": different(1500, 3).replace("\n", " ") + "\n"},
            (),
            "is data.document_delimiter='\\n' what ends them?",
        ),
        ({"test": different(200, 3)}, (), "below about 50,000, its loss depends on chance"),
        (
            {"train": {"1.txt": different(1500, 1), "2.txt": "one or two words\n"}},
            (),
            "1 texts are shorter than one window",
        ),
        ({"valid": different(9000, 3)}, (), "Validations will take about"),
        (
            {"train": {"1.txt": different(3000, 1), "2.txt": different(50, 2)}},
            ("data.validations_per_epoch=null",),
            "with data.validations_per_epoch=2 the distances are equal",
        ),
    ],
)
def test_warnings(good, parts: dict, overrides: tuple[str, ...], message: str) -> None:
    folder = good(**parts)
    assert message in messages(folder, *overrides, level="warning")
    assert messages(folder, *overrides) == ""


def test_files_that_changed_after_they_were_prepared(pair_of_runs, tmp_path) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(pair_of_runs.parent / "corpus", corpus)
    assert "prepared" not in messages(corpus, level="warning")
    text = (corpus / "test.txt").read_text()
    (corpus / "test.txt").write_text(text[::-1].strip() + "\n")
    assert (corpus / "test.txt").stat().st_size == len(text.encode())
    (corpus / "train/more.txt").write_text("more\n" * 100)
    said = "test.txt and train/more.txt changed after the corpus was prepared, so manifest.json describes another text."
    assert said in messages(corpus, level="warning")
    (corpus / "manifest.json").write_text('{"format": "lmtrain corpus"}')
    assert "manifest.json is damaged" in messages(corpus, level="warning")


def test_encoding_errors_are_named_and_the_rest_is_checked_all_the_same(good) -> None:
    folder = good()
    (folder / "train" / "2.txt").write_bytes(b"good\nbad \xff\n")
    (folder / "test.txt").write_bytes(b"\xe9" * 20)
    check = check_corpus(str(folder), SMALL)
    errors = [finding.message for finding in check.findings if finding.level == "error"]
    assert f"{folder}/test.txt: byte 0xe9 at offset 0 is not UTF-8" in "\n".join(errors)
    assert f"{folder}/train/2.txt: byte 0xff at offset 9 is not UTF-8" in "\n".join(errors)
    assert check.parts["train"]["documents"] == 2002
    assert check.cost is None
    assert messages(folder, "data.errors=replace").count("UTF-8") == 0


def test_words_are_counted_at_word_level(good) -> None:
    folder = good(train={"1.txt": "one two two\n" * 50}, valid="one three\n" * 50)
    check = check_corpus(str(folder), ["data.level=word", "dictionary.max_unknown=0.1", *SMALL], with_cost=False)
    (coverage,) = check.dictionaries
    assert coverage.size == 3
    assert coverage.covered["valid"] == 0.5
    assert check.splits == {"train/1.txt": 150}
    assert "dictionary=corpus lacks 50.00% of the items of valid" in "\n".join(
        finding.message for finding in check.findings
    )


def test_a_dictionary_of_ones_own(good, tmp_path: Path) -> None:
    folder = good()
    Dictionary(["a", "b", "\n"]).save(tmp_path / "d.json")
    problem = messages(folder, "dictionary=file", f"dictionary.path={tmp_path / 'd.json'}", "dictionary.max_unknown=1")
    assert "dictionary=file lacks" in problem
    assert "none without <unk>" in problem
    assert "dictionary.path=FILE" in messages(folder, "dictionary=file")


def test_long_files_are_counted_as_the_splits_they_will_be(good) -> None:
    check = check_corpus(str(good()), [*SMALL, "data.max_split_size=10000"], with_cost=False)
    assert len(check.splits) == check.validation["per_epoch"] > 8
    assert max(check.splits.values()) <= 10_000


def test_lanes_given_for_each_device_are_those_of_one() -> None:
    assert compose_config("x", ["data.lanes_per_device=7"]).data.batch_size == 7
    assert compose_config("x", ["data.batch_size=9"]).data.batch_size == 9


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data.batch_size=9", "data.lanes_per_device=7"), "both say how many lanes"),
        (("anneal=linear", "anneal.patience=3"), "anneal.patience=3 has no effect with the schedule linear"),
    ],
)
def test_what_train_py_refuses_is_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        compose_config("x", overrides)


def test_a_document_longer_than_a_block_is_one(corpus_folder) -> None:
    long = "word " * 2_500_000
    folder = corpus_folder(train={"1.txt": f"first\n{long}\nlast\n"}, valid=f"{long}\nfirst\n", test="x\n")
    files = {part: [_found(folder / name)] for part, name in (("train", "train/1.txt"), ("valid", "valid.txt"))}
    scans = scan_corpus(files, TextFormat())
    assert scans["train"].documents == 3
    assert scans["train"].characters == 12_500_012
    assert scans["valid"].known >= 1


def _found(path: Path):
    from corpora import found

    return found(path)


@given(st.lists(st.integers(0, 50), max_size=60), st.lists(st.integers(0, 50), max_size=20))
def test_duplicates_and_known_documents(tmp_path_factory, train: list[int], valid: list[int]) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name, numbers in (("train", train), ("valid", valid)):
        (folder / name).write_text("".join(f"{number}\n" for number in numbers))
    files = {name: [_found(folder / name)] for name in ("train", "valid")}
    scans = scan_corpus(files, TextFormat())
    assert scans["train"].duplicates == len(train) - len(set(train))
    assert scans["valid"].duplicates == len(valid) - len(set(valid))
    assert scans["valid"].known == sum(number in train for number in valid)


def test_too_many_hashes_become_an_estimate() -> None:
    random_hashes = np.random.default_rng(1).integers(-(1 << 63), 1 << 63, 40_000)
    hashes = Hashes(most=10_000)
    for _ in range(2):
        for start in range(0, len(random_hashes), 1000):
            hashes.add(random_hashes[start : start + 1000])
    assert sum(map(len, hashes._blocks)) <= 10_000
    assert hashes.one_in == 8
    assert 36_000 < hashes.duplicates() < 44_000


def test_what_training_costs() -> None:
    config = compose_config("x", ["model=tiny", *SMALL])
    shown = []
    cost = estimate_cost(config, 50, 1000, 100, progress=lambda done, total: shown.append(done / total))
    assert shown == sorted(shown)
    assert shown[-1] == 1
    assert cost.parameters == 50 * 100 + 4 * 128 * (100 + 128 + 2) + 50 * 129
    assert cost.epoch_seconds == 1000 / cost.items_per_second
    assert 0 < cost.validation_seconds < cost.epoch_seconds
    sgd = training_memory(config, 50)
    assert sgd > 8 * cost.parameters
    recurrent = 4 * 128 * (100 + 128)
    for options, numbers in (
        (["optimizer=adamw"], 2 * cost.parameters),
        (["optimizer=muon"], 2 * cost.parameters - recurrent),  # AdamW has two for a parameter, Muon's momentum is one
        (["+optimizer.momentum=0.9"], cost.parameters),
        (["optimizer._target_=torch.optim.RMSprop", "optimizer.lr=0.01"], cost.parameters),
        (["optimizer._target_=torch.optim.Adagrad", "optimizer.lr=0.01"], cost.parameters),
        (["optimizer._target_=torch.optim.RAdam", "optimizer.lr=0.01"], 2 * cost.parameters),
    ):
        few = 40  # steps that are counted
        other = training_memory(compose_config("x", ["model=tiny", *options, *SMALL]), 50)
        assert 4 * numbers <= other - sgd <= 4 * (numbers + few), options


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_the_cost_is_of_the_precision_that_training_would_have(precision: str) -> None:
    config = compose_config(
        "x", ["model=tiny", "data.sequence_length=4", "data.batch_size=2", f"trainer.precision={precision}"]
    )
    cost = estimate_cost(config, 50, train_items=1000, valid_items=100)
    assert cost.precision == precision
    assert (cost.memory >= 16 * cost.parameters) == (precision == "64-true")


def test_script(good, capsys: pytest.CaptureFixture[str]) -> None:
    folder = good()
    assert call("check_corpus", folder, "model=tiny", *SMALL, "data.validations_per_epoch=1", "anneal.patience=5") == 0
    printed = capsys.readouterr().out
    assert "Nothing is wrong." in printed
    assert "Basic Latin" in printed
    assert "dictionary=chars" in printed
    assert "parameters; training takes about" in printed

    (folder / "valid.txt").write_bytes(b"\xff" + random.Random(1).randbytes(3))
    with pytest.raises(SystemExit, match="1"):
        call("check_corpus", folder, "--json", "--no-cost", *SMALL)
    content = json.loads(capsys.readouterr().out)
    assert content["findings"][0]["level"] == "error"
    assert "byte 0xff at offset 0" in content["findings"][0]["message"]
    with pytest.raises(SystemExit, match="1"):
        call("check_corpus", folder, *SMALL)
    assert "error: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "data.path=nowhere"),
        ((".", "modl=large"), "modl"),
        ((".", "data.batch_size=0"), "data.batch_size=0: it must be greater than 0"),
        ((".", "model=huge"), "huge"),
    ],
)
def test_what_the_user_got_wrong(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check_corpus", *arguments) == 2
    assert message in capsys.readouterr().err


def test_other_layouts(corpus_folder, tmp_path: Path) -> None:
    folder = corpus_folder()
    (folder / "train").rename(folder / "texts")
    assert "data.train=train" in messages(folder)
    assert "data.train" not in messages(folder, "data.train=texts")
    with pytest.raises(UserError, match=r"data\.path="):
        check_corpus(str(tmp_path / "none"))


# --- what preparing would change ---

WORDS = "the of and to in is was it for on he as with his that at by this had not are but from or have an they which"


def english(count: int, seed: int) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS.split(), k=15)) + "." for _ in range(count)]


def test_what_the_optional_steps_would_change_is_shown_with_examples(corpus_folder, capsys):
    odd = {
        "--fix-mojibake": ["FranÃ§ais Ã©tÃ© " + line for line in english(10, 2)],
        "--remove-invisible": ["so\xadft\u200b " + line for line in english(20, 3)],
        "--only-language en": [f"Das ist der deutsche Satz {n * n}, und er ist lang genug dazu." for n in range(60)],
        "--script Latin": [f"слово {n} по-русски, и ещё одно: {n * n}" for n in range(40)],
        "--format jsonl": [json.dumps({"text": f"{n} words"}) for n in range(20)],
        "--max-markup 0.2": [f"<div><a>{n}</a></div> &nbsp; words" for n in range(40)],
        "--near-duplicates": [line + " and more" for line in english(100, 1)],
        "": [f"A wоrd of two alphabets, {n}" for n in range(30)],  # its o is Cyrillic
    }
    lines = english(1000, 1) + [line for found in odd.values() for line in found]
    folder = corpus_folder(
        train={"a.txt": "\n".join(lines)}, valid="\n".join(english(900, 8)), test="\n".join(english(900, 9))
    )
    assert call("check_corpus", folder, "--no-cost", "--json", *SMALL) == 0
    check = json.loads(capsys.readouterr().out)
    effects = {effect["option"]: effect for effect in check["effects"]}
    assert check["languages"]["en"] > 1000
    for option, found in odd.items():
        (effect,) = (effect for name, effect in effects.items() if name == option or (option and option in name))
        assert len(found) <= effect["share"] * len(lines) <= len(found) + 100  # some are of two kinds
        assert f"{effect['share']:.1%} of a sample" in "".join(finding["message"] for finding in check["findings"])
    assert effects["--remove-invisible"]["examples"][0].startswith("so<U+00AD>ft<U+200B> ")
    assert call("check_corpus", folder, "--no-cost", *SMALL) == 0
    shown = capsys.readouterr().out
    assert "were decoded with a wrong encoding: FranÃ§ais" in shown
    assert "scripts/prepare_corpus.py has --remove-invisible for that." in shown


def test_without_the_packages_of_an_extra_the_rest_is_checked(good):
    blocked = dict.fromkeys(["py3langid", "ftfy", "datasketch", "pyarrow", "dask", "ijson", "conllu"])
    code = (
        f"import sys; sys.modules.update({blocked!r}); sys.argv[0] = 'check_corpus.py'\n"
        "from lmtrain.cli.check_corpus import command; sys.exit(command())"
    )
    arguments = [good(), "--no-cost", *SMALL]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "Left out: Identifying languages needs py3langid, --fix-mojibake needs ftfy" in done.stdout
    assert "pip install 'lmtrain[prepare]'" in done.stdout


def test_a_missing_package_is_told_from_another_process():
    told = pickle.loads(pickle.dumps(MissingPackage("JSON", "ijson")))
    assert str(told) == "JSON needs ijson. Install it: pip install 'lmtrain[prepare]'."


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 4))
def test_a_sample_has_documents_at_equal_distances(blocks, size):
    sample, total = Sample(size), sum(blocks)
    numbers = map(str, range(total))
    for count in blocks:
        sample.add(list(islice(numbers, count)))
    assert sample.documents == [str(number) for number in range(0, total, sample.one_in)]
    assert min(total, size) <= len(sample.documents) <= 2 * size
