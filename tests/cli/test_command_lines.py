"""Command lines as people type them."""

import errno
import glob
import gzip
import io
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal

import pytest
from script_calls import call
from small_models import make_model

from lmtrain.cli.arguments import SEEDS, SHARES, Command, Option, Positional, Range
from lmtrain.errors import UserError
from lmtrain.inference.scoring import score
from lmtrain.inference.vector_file import read_vectors
from lmtrain.model_files.flair import load_language_model, save_language_model
from lmtrain.program.plain_json import to_json
from lmtrain.program.time_left import time_left, time_left_of_each


@pytest.fixture
def model_file(tmp_path) -> Path:
    save_language_model(make_model(), tmp_path / "best-lm.pt")
    return tmp_path / "best-lm.pt"


def test_options_stand_anywhere(model_file, tmp_path, capsys):
    (tmp_path / "text").write_text("The cat\n")
    for arguments in (
        [model_file, "--per-line", tmp_path / "text"],
        ["--per-line", model_file, tmp_path / "text"],
        [model_file, tmp_path / "text", "--per-line"],
    ):
        assert call("score", *arguments) == 0
        assert capsys.readouterr().out.endswith("\tThe cat\n")
    output = tmp_path / "v.npz"
    assert call("embed", model_file, "--output", output, model_file, "--lower", tmp_path / "text") == 0
    vectors, tokens = read_vectors(output)
    assert (vectors[0].shape, tokens) == ((2, 64), [["The", "cat"]])
    assert call("export", "--format", "flair", model_file, "--output", tmp_path / "copy.pt") == 0
    assert call("generate", "--length", 3, model_file, "--seed", 1) == 0


def test_runs_and_their_neighbours_are_compared(pair_of_runs, tmp_path, capsys):
    for name in ("mlflow.db", "multirun.yaml", "optimization_results.yaml", "notes.txt"):
        (tmp_path / name).touch()
    neighbours = sorted(tmp_path.iterdir())
    runs = [pair_of_runs / "forward", *neighbours, pair_of_runs / "backward"]
    assert call("compare", runs[0], "--sort", "steps", *runs[1:]) == 0
    assert "forward" in capsys.readouterr().out
    assert call("compare", *neighbours) == 2
    assert "There is no run folder" in capsys.readouterr().err
    assert call("compare", *runs, "--json", "/dev/null", "--csv", "/dev/null") == 0
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize(
    ("script", "typed", "words"),
    [
        ("score", ["m", "--batch-size", "0"], "--batch-size is 0; it must be from 1 to"),
        ("score", ["m", "--lanes", "-1", "--context", "-1"], "--context is -1; it must be from 1 to"),
        ("generate", ["m", "--length=-1"], "--length is -1; it must be from 1 to"),
        ("generate", ["m", "--temperature", "nan"], "--temperature is nan; it must be at least 0"),
        ("generate", ["m", "--temperature", "inf"], "--temperature is inf; it must be at least 0"),
        ("generate", ["m", "--seed", str(2**64)], "it must be from 0 to 18,446,744,073,709,551,615"),
        ("prepare_corpus", ["m", "--output=c", "--valid", "1.5"], "--valid is 1.5; it must be from 0 to 1"),
        ("prepare_corpus", ["m", "--output=c", "--workers", "0"], "--workers is 0; it must be at least 1"),
        ("build_dictionary", ["m", "--coverage", "0"], "--coverage is 0.0; it must be above 0 and at most 1"),
        ("download_billion", ["--size", "0", "--output=c"], "--size is 0; it must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_named_before_anything_is_made(script, typed, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(script, *typed) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("override", [f"seed={2**64}", "seed=-1", f"data.batch_size={10**30}"])
def test_train_py_names_them_too(override, train_py):
    ended = train_py("data=folder", "data.path=corpus", override)
    assert ended.status == 2
    assert f"{override}: it must be" in ended.message
    assert not Path("runs").exists()


def test_ranges():
    assert [number in Range(1, 3) for number in (0, 1, 3, 4, math.nan)] == [False, True, True, False, False]
    assert [number in Range(0, above=True) for number in (0, 1e-9, math.inf)] == [False, True, False]
    assert 2**64 - 1 in SEEDS
    assert 2**64 not in SEEDS
    assert -0.1 not in SHARES


@dataclass(frozen=True, kw_only=True)
class Options:
    files: Annotated[list[str], Positional("what is read", "FILE")] = field(default_factory=list)
    a_b: Annotated[int | None, Option("a number", "N", Range(1))] = None
    c: Annotated[float, Option("a share", within=SHARES, group="others")] = 0
    kind: Annotated[Literal["x", "y"], Option("a kind (default: the first)")] = "x"
    names: Annotated[list[str], Option("may be given several times")] = field(default_factory=list)
    upper: Annotated[str, Option("a text", read=str.upper)] = "none"
    on: Annotated[bool, Option("on")] = False


def test_a_command_is_read_from_the_fields_of_its_options(capsys):
    command = Command(lambda options: print(options), Options, "example: python scripts/score.py")
    assert command.parse([]) == Options()
    typed = ["x", "--a-b", "1", "y", "--names", "1", "--on", "--names=2", "--upper", "a", "--kind=y", "--", "-z"]
    assert command.parse(typed) == Options(
        files=["x", "y", "-z"], a_b=1, kind="y", names=["1", "2"], upper="A", on=True
    )
    with pytest.raises(UserError) as caught:
        command.parse(["--a-b=0", "--c=7"])
    assert caught.value.problems == ("--a-b is 0; it must be at least 1.", "--c is 7.0; it must be from 0 to 1.")
    assert command(["--c", "0.5"]) == 0
    assert "c=0.5" in capsys.readouterr().out
    shown = " ".join(command.parser("lmtrain it").format_help().split())
    assert shown.startswith("usage: lmtrain it [-h]")
    for text in (
        "others: --c C a share (default: 0)",
        "--a-b N a number --kind",
        "the first) --names",
        "(default: none)",
    ):
        assert text in shown
    for wrong in (["--c", "x"], ["--kind", "z"], ["--unknown"], ["--a-b"]):
        with pytest.raises(SystemExit) as ended:
            command(wrong)
        assert ended.value.code == 2


def test_what_must_be_given(capsys):
    for script, typed, words in (
        ("export", ["m"], "--format, --output"),
        ("export", ["--format", "flair", "--output", "m"], "MODEL"),
        ("prepare_corpus", ["--output", "c"], "INPUT"),
    ):
        with pytest.raises(SystemExit):
            call(script, *typed)
        assert f"the following arguments are required: {words}" in capsys.readouterr().err


def test_json_has_neither_nan_nor_infinity(model_file, tmp_path, capsys):
    assert to_json({"a": [math.nan, 1.5, (math.inf,)], "b": "nan"}) == '{"a": [null, 1.5, [null]], "b": "nan"}'
    (tmp_path / "text").write_text("a\n\nThe cat\n")

    def refuse(constant):
        raise AssertionError(constant)

    for options in ([], ["--per-line"]):
        assert call("score", model_file, "--json", *options, tmp_path / "text") == 0
        for line in capsys.readouterr().out.splitlines():
            json.loads(line, parse_constant=refuse)


def piped(data: bytes) -> io.BufferedReader:
    """What a process finds at the end of a pipe."""
    reading, writing = os.pipe()
    with open(writing, "wb") as file:
        file.write(data)
    return open(reading, "rb")


def within_a_file(data: bytes) -> io.BufferedReader:
    """What a process finds whose shell has read a line of the file before: `{ read line; score.py ...; } < FILE`."""
    with tempfile.TemporaryFile() as file:
        file.write(b"a line\n" + data)
        file.flush()
        file.seek(len(b"a line\n"))
        return open(os.dup(file.fileno()), "rb")


@pytest.mark.parametrize("made", [piped, within_a_file])
@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_standard_input(made, packed, model_file, tmp_path, capsys, monkeypatch):
    for arguments in (("embed", "--output", tmp_path / "v.npz"), ("score", "--json")):
        script, *options = arguments
        with made(packed(b"The cat\n")) as stream:
            monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream))
            assert call(script, model_file, "-", *options) == 0
    assert read_vectors(tmp_path / "v.npz")[1] == [["The", "cat"]]
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["loss"] == pytest.approx(score(make_model(), ["The cat\n"])[0].loss)


def test_a_pipe_with_a_name(model_file, tmp_path, capsys):
    os.mkfifo(tmp_path / "text")
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit((tmp_path / "text").write_bytes, b"The cat\n")
        assert call("score", model_file, tmp_path / "text", "--json") == 0
        written.result()
    assert json.loads(capsys.readouterr().out)["characters"] == len("The cat\n") - 1


def test_an_output_that_is_a_pipe(model_file, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_bytes)
        assert call("export", model_file, "--format", "flair", "--output", tmp_path / "pipe") == 0
        (tmp_path / "copy.pt").write_bytes(read.result())
    assert capsys.readouterr().out == ""
    assert load_language_model(tmp_path / "copy.pt").dictionary == make_model().dictionary


def test_a_model_of_words_has_words(tmp_path, capsys):
    save_language_model(make_model(["<unk>", "a", "b"], level="word"), tmp_path / "words.pt")
    assert call("generate", tmp_path / "words.pt", "--length", 3) == 0
    assert "nats a word" in capsys.readouterr().err


@pytest.mark.parametrize(("script", "work"), [("generate", "generate text"), ("score", "score text")])
def test_a_model_without_a_decoder_is_named(script, work, tmp_path, capsys):
    save_language_model(make_model(has_decoder=False), tmp_path / "lm.pt")
    (tmp_path / "text.txt").write_text("ab", encoding="utf-8")
    texts = [tmp_path / "text.txt"] if script == "score" else []
    assert call(script, tmp_path / "lm.pt", *texts) == 2
    assert f"lm.pt: It has no decoder, so it can embed but not {work}; give" in capsys.readouterr().err


def commands(text: str) -> list[str]:
    """The example commands of a help text; a backslash at the end of a line goes on in the next."""
    joined = re.sub(r"\\\n\s*", "", text)
    return re.findall(r"^(?:examples?:)?\s*(python scripts/.*)$", joined, re.MULTILINE)


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Does what a shell does with a line, in `tmp_path`; the script itself runs in this process. Gives its status."""

    def run(line: str, *more: str) -> int:
        script, _, then = line.partition(" | ")
        script, _, target = script.partition(" > ")
        script, _, source = script.partition(" < ")
        data = (tmp_path / source).read_bytes() if source else b""
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        _, name, *words = shlex.split(script)
        found = [sorted(glob.glob(word)) if glob.has_magic(word) else [word] for word in words]
        capsys.readouterr()
        try:
            status = call(Path(name).stem, *(word for one in found for word in one), *more)
        except SystemExit as error:
            status = error.code
        printed = capsys.readouterr().out
        if then:
            subprocess.run(["bash", "-o", "pipefail", "-c", then], input=printed, text=True, check=True)
        elif target:
            (tmp_path / target).write_text(printed)
        return status

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMTRAIN_CACHE", str(tmp_path / "cache"))
    return run


NAMES = ["score", "embed", "probe", "generate", "export", "compare", "check_corpus", "build_dictionary"]


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_the_help_work_as_they_are_written(name, typed, pair_of_runs, tmp_path, corpus_folder, capsys):
    """In a folder that has what they speak of."""
    corpus_folder(train={"1.txt": "The cat sat.\n" * 400}, valid="The cat sat.\n" * 90, test="A mat.\n" * 90)
    for direction in ("forward", "backward"):
        shutil.copytree(pair_of_runs / direction, tmp_path / f"runs/small-demo-{direction}")
        (tmp_path / direction).symlink_to(tmp_path / f"runs/small-demo-{direction}")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.txt.gz").write_bytes(gzip.compress(b"abc\n" * 20))
    save_language_model(make_model(), tmp_path / "best-lm.pt")
    for file in ("valid.txt", "test.txt", "sentences.txt"):
        (tmp_path / file).write_text("The cat sat.\nA mat.\n")
    (tmp_path / "crawl.txt").write_text(CRAWL)
    for file, text in (("train", "The cat sat ."), ("test", "A mat sat .")):
        rows = [(token, "NOUN" if len(token) == 3 else "X") for token in text.split()]
        (tmp_path / f"{file}.tsv").write_text(("".join(f"{token}\t{tag}\n" for token, tag in rows) + "\n") * 8)
        words = [f"{n}\t{token}\t_\t{tag}" + "\t_" * 6 + "\n" for n, (token, tag) in enumerate(rows, 1)]
        (tmp_path / f"{file}.conllu").write_text(("".join(words) + "\n") * 8)
    with pytest.raises(SystemExit):
        call(name, "--help")
    found = commands(capsys.readouterr().out)
    assert found
    is_check = name == "check_corpus"
    for line in found:
        assert typed(line, *["--no-cost"] * is_check) in ({0, 1} if is_check else {0}), line
    if name == "score":
        lines = [line for line in CRAWL.splitlines() if len(line) > 1]
        ranked = sorted(lines, key=lambda line: score(make_model(), [line])[0].bits_per_item)
        assert (tmp_path / "ranked.txt").read_text().splitlines() == ranked


CRAWL = "The cat sat.\n\nx\nabc\twith a tab\nqqqqqqq\nan cat\n\n"


def test_time_left_in_lines(capsys, monkeypatch):
    now = iter([0.0, 5.0, 20.0, 30.0, 90.0, 100.0])
    monkeypatch.setattr("lmtrain.program.time_left.time", SimpleNamespace(monotonic=lambda: next(now)))
    with time_left("Scoring", 100) as progress:
        for amount in (5, 15, 10, 30, 40):
            progress(amount)
    assert capsys.readouterr().err.splitlines() == [
        "Scoring: 20% done, about 1:20 min left",
        "Scoring: 60% done, about 1:00 min left",
    ]


def test_time_left_of_what_goes_on(capsys, monkeypatch):
    now = iter([0.0, 20.0])
    monkeypatch.setattr("lmtrain.program.time_left.time", SimpleNamespace(monotonic=lambda: next(now)))
    with time_left_of_each() as show:
        show("Downloading", 50, 100)
        show("Downloading", 60, 100)
    assert capsys.readouterr().err == "Downloading: 60% done, about 1:20 min left\n"


def test_a_user_without_a_home(train_py, tmp_path, monkeypatch, caplog):
    """As in a container, with a user id that no file lists."""

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "LMTRAIN_CACHE"):
        monkeypatch.delenv(name, raising=False)
    ended = train_py("data=folder", "data.path=corpus")
    assert ended.status == 2
    assert "data.cache_dir=~/.cache/lmtrain: it must be a path without ~: this user has no home" in ended.message
    assert call("build_dictionary", "corpus") == 0
    assert "there is no home directory. --cache-dir FOLDER takes another one." in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_variable_that_is_set_to_nothing_names_no_folder(train_py, tmp_path, monkeypatch):
    monkeypatch.setenv("LMTRAIN_CACHE", "")
    ended = train_py("data=folder", "data.path=corpus")
    assert ended.status == 2
    assert "data.cache_dir=: it must be a path" in ended.message
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_dictionary_needs_no_cache(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("ab\n")
    assert call("build_dictionary", tmp_path / "text", "--cache-dir", "/dev/null/cache", "--output", "one.json") == 0
    assert "Doing without the cache /dev/null/cache: Not a directory" in caplog.text
    monkeypatch.setattr("lmtrain.data.cache.records.atomic_write", full)
    assert call("build_dictionary", tmp_path / "text", "--cache-dir", tmp_path / "cache", "--output", "two.json") == 0
    assert caplog.text.count("cannot be written: No space left on device") == 1
    assert Path("one.json").read_bytes() == Path("two.json").read_bytes()


def full(path, **_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@pytest.mark.parametrize("script", ["build_dictionary", "prepare_corpus"])
def test_what_is_to_be_trained_on_has_a_name_that_a_configuration_takes(script, tmp_path, capsys):
    (tmp_path / "text").write_text("ab\n" * 2000)
    output = os.fsdecode(os.fsencode(tmp_path) + b"/c\xff")
    assert call(script, tmp_path / "text", "--output", output) == 2
    assert r"c\xff: the name must be UTF-8" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_options_that_the_documentation_names_exist(capsys):
    typed = [
        (page.name, name, option)
        for page in PAGES
        for line in re.sub(r"\\\n\s*", "", page.read_text(encoding="utf-8")).splitlines()
        for name, rest in re.findall(r"(?:python |`)scripts/(\w+)\.py([^`|]*)", line)
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", rest)
    ]
    assert len(typed) > 10
    helps = {}
    for name in {name for _, name, _ in typed}:
        with pytest.raises(SystemExit):
            call(name, "--help")
        helps[name] = set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))
    assert [one for one in typed if one[2] not in helps[one[1]]] == []
