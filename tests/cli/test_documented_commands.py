"""The commands of README, docs and `--help` beyond the tutorials, in a folder that has small stand-ins for their files.

What would train for long makes two steps of a tiny model; what needs GPUs, a cluster or a service is composed.
"""

import bz2
import gzip
import io
import re
import shlex
import shutil
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from corpora import sentences, write_corpus
from model_files import make
from processes import ROOT
from running import compose
from script_calls import call
from test_command_lines import commands, typed  # noqa: F401 - a fixture
from test_download import server  # noqa: F401 - a fixture
from wikis import dump, page

from lmtrain.config.schema import check_config
from lmtrain.model_files.flair import save_language_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:optuna")

FOLLOWED = ("tutorial.md", "wikipedia.md")  # by tests of their own
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in FOLLOWED)]
ELSEWHERE = r"trainer=(ddp|slurm)|hydra/launcher=|wandb|mlflow|=[A-Z]{2,}\b"  # the last: the reader's own files


def typed_lines(text: str) -> list[str]:
    """The commands of a page, in blocks and between backticks, each on one line and without its comment."""
    joined = re.sub(r"\\\n\s*", "", text)
    found = re.findall(r"(?:^|[`\s])python ((?:train\.py|scripts/\w+\.py)[^`\n]*)", joined, re.MULTILINE)
    found += re.findall(r"^(?:torchrun|srun).*?(train\.py .*)$", joined, re.MULTILINE)
    return [line for line in (re.sub(r"\s+#.*| \|.*", "", line).strip() for line in found) if " " in line]


def printed_help(script: str, capsys) -> str:
    with pytest.raises(SystemExit):
        call(script, "--help")
    return capsys.readouterr().out


def of_train(capsys) -> list[str]:
    of_train_py = (ROOT / "conf/hydra/help/lmtrain.yaml").read_text().replace("${program:}", "python train.py")
    help_texts = printed_help("download_billion", capsys) + of_train_py
    texts = [help_texts, *(path.read_text(encoding="utf-8") for path in PAGES)]
    lines = [line for text in texts for line in typed_lines(text) if line.startswith("train.py ")]
    return list(dict.fromkeys(lines))


@pytest.fixture
def stand_ins(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMTRAIN_CACHE", str(tmp_path / "cache"))
    write_corpus(Path("corpus"))
    Path("my_domain").symlink_to("corpus")
    Path("corpora").mkdir()
    Path("corpora/1.1").symlink_to("../corpus")
    for folder in ("billion", "1-billion-word-language-modeling-benchmark-r13output"):
        for part, name in (
            ("training", "news.en-00001-of-00100"),
            *(("heldout", f"news.en.heldout-0000{number}-of-00050") for number in (0, 1)),
        ):
            place = Path(folder, f"{part}-monolingual.tokenized.shuffled")
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(sentences(60, 1), encoding="utf-8")
    save_language_model(make(("<unk>", "\n", " ", *"abcdefghijklmnopqrstuvwxyz.I")), Path("best-lm.pt"))
    Path("my-model-forward").mkdir()
    shutil.copy("best-lm.pt", "my-model-forward")
    return tmp_path


SMALL = (
    *(
        "trainer.max_steps=2",
        "logger=[]",
        "trainer.accelerator=cpu",
        "data.batch_size=2",
        "data.sequence_length=10",
        "test=false",
    ),
    "overwrite=true",
)


def as_typed(line: str) -> list[str]:
    words = re.sub(r"=N\b", "=2", line)  # any number
    return [part for word in shlex.split(words)[1:] for part in ([*OWN] if word == "..." else [word])]


OWN = ("data=folder", "data.path=corpus")


def check_composition(words: list[str]) -> None:
    """Of what a sweep tries the first."""
    first = [
        re.sub(r"=([^,=\[]+),[^=\]]*$", r"=\1", word)
        for word in words
        if not word.startswith(("hydra", "hparams", "-"))
    ]
    check_config(compose(*first))


@pytest.mark.usefixtures("stand_ins")
def test_what_trains_makes_two_steps(train_py, capsys):
    lines = of_train(capsys)
    assert len(lines) > 15
    pages = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    blocks = re.sub(r"\\\n\s*", "", "\n".join(re.findall(r"^```\w*\n(.*?)^```$", pages, re.MULTILINE | re.DOTALL)))
    run = [line for line in lines if line in blocks and not re.search(ELSEWHERE, line)]
    assert len(run) > 10
    for line in sorted(set(lines) - set(run)):
        check_composition(as_typed(line))
    for line in run:
        words = as_typed(line)
        small = [*SMALL, *([] if "init_from" in line else ["model.hidden_size=8", "model.embedding_size=4"])]
        small += [] if any(word.startswith("data=") for word in words) else OWN
        small += ["hydra.sweeper.n_trials=1"] if "hparams_search" in line else []
        status, message = train_py(*words, *(small if "--help" not in words else []))
        assert status == 0, f"{line}\n{message}"
        assert "Best validation" in message or "--help" in line, line


@pytest.mark.usefixtures("stand_ins")
def test_preparing_as_its_help_says(typed, capsys):  # noqa: F811
    Path("raw").mkdir()
    Path("books").mkdir()
    Path("raw/a.txt.gz").write_bytes(gzip.compress(sentences(300, 1).encode()))
    Path("RAW").symlink_to("raw")
    Path("books/a.txt").write_text(sentences(300, 2).replace("\n", "\n\n"))
    pages = [page(f"T{number}", text) for number, text in enumerate(sentences(800, 3).splitlines())]
    Path("iswiki-latest-pages-articles.xml.bz2").write_bytes(bz2.compress(dump(*pages)))
    texts = [f"{number} {text}" for number, text in enumerate(sentences(6000, 4).splitlines())]
    pyarrow.parquet.write_table(pyarrow.table({"content": texts}), "part-1.parquet")
    found = commands(printed_help("prepare_corpus", capsys))
    found += [
        "python " + line
        for path in PAGES
        for line in typed_lines(path.read_text(encoding="utf-8"))
        if "prepare_corpus.py " in line
    ]
    assert len(found) > 4
    for line in dict.fromkeys(line.replace("s3://bucket/", "").replace("corpus ", "") for line in found):
        if "--output" in line:
            shutil.rmtree("corpus")
            assert typed(line, "--workers", "1") == 0, line
            assert Path("corpus/valid.txt").stat().st_size > 0


@pytest.mark.usefixtures("stand_ins")
def test_the_other_scripts_as_the_pages_say(typed, pair_of_runs):  # noqa: F811
    shutil.copytree(pair_of_runs / "forward", "runs/base-folder-forward")
    shutil.rmtree("my-model-forward")
    shutil.copy("best-lm.pt", "MODEL")
    Path("TEXT").write_text("a cat.\nI am.\n")
    lines = [line for path in PAGES for line in typed_lines(path.read_text(encoding="utf-8"))]
    lines = [f"python {line}" for line in lines if re.match(r"scripts/(export|score|check_corpus)\.py", line)]
    assert len(lines) >= 3
    for line in dict.fromkeys(lines):
        more = ["--no-cost"] if "check_corpus" in line else []
        assert typed(line, *more) in ({0, 1} if more else {0}), line


@pytest.mark.usefixtures("stand_ins")
def test_downloading_as_its_help_says(typed, server, capsys):  # noqa: F811
    with io.BytesIO() as packed:
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add("billion", "1-billion-word-language-modeling-benchmark-r13output")
        server.content = packed.getvalue()
    shutil.rmtree("billion")
    (line, *_) = commands(printed_help("download_billion", capsys))
    assert typed(line, "--url", server.url) == 0
    assert list(Path("billion").glob("training-*/news.en-*"))
