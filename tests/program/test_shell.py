"""What people type: texts, escapes and groups are read as they mean them; what lmtrain prints can be pasted."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from corpora import sentences, write_corpus
from hypothesis import given
from hypothesis import strategies as st
from processes import ROOT
from running import SMALL, compose
from script_calls import call

from lmtrain.config.overrides import as_hydra_reads, in_any_order
from lmtrain.errors import UserError
from lmtrain.program.shell import escaped, override_of, unescaped

NAMES = ["a b", "größe", "日本語", "a=b", "it's", 'say "x"', "a(b)", "[x].pt", "{x}", "a#b&c;d", "a\\b", "100%", "a@b!"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_is_taken_as_it_stands(name):
    values = compose(
        f"data.path={name}", f"init_from={name}", f"data.train={name}", "dictionary=file", f"dictionary.path={name}"
    )
    found = values["data"]["path"], values["init_from"], values["data"]["train"], values["dictionary"]["path"]
    assert found == (name, name, name, name)


@pytest.mark.parametrize("name", ["007", "1e5", "1_000", "true", "3.10", "null_", "-1"])
def test_a_text_that_looks_like_something_else_stays_a_text(name):
    assert compose(f"name={name}")["name"] == name


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_what_is_printed_is_read_back_by_the_shell_and_by_hydra(text):
    [argument] = shlex.split(override_of("data.path", text))
    from hydra.core.override_parser.overrides_parser import OverridesParser

    [read] = as_hydra_reads([argument])
    assert OverridesParser.create().parse_override(read).value() == text
    assert unescaped(escaped(text)) == text


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (r"\n\n", "\n\n"),
        (r'"\n\n"', "\n\n"),
        (r"'\t'", "\t"),
        ("\n\n", "\n\n"),
        (r"\\n", r"\n"),
        (r"\u2029", "\u2029"),
        (r"\x0c", "\f"),
        (r"\U0001F600", "😀"),
        ("¶", "¶"),
        (r"</s>\n", "</s>\n"),
        ("a, b", "a, b"),
    ],
)
def test_escapes_are_read_alike_everywhere(typed, meant):
    if "," not in typed:  # which is Hydra's for several values
        assert compose(f"data.document_delimiter={typed}")["data"]["document_delimiter"] == meant
    plain = typed.strip("'\"")
    assert unescaped(plain) == meant


def test_a_number_that_is_no_character_is_named(train_py):
    status, message = train_py(*SMALL, r"data.document_delimiter=\ud800")
    assert (status, message) == (
        2,
        "Error: \\ud800 in '\\\\ud800' is no Unicode character. A number is at most 10FFFF, and not in D800 to DFFF.\n",
    )


def test_a_delimiter_of_two_line_breaks_ends_documents_and_is_no_backslash(train_py):
    for name in ("train/1.txt", "train/2.txt", "valid.txt", "test.txt"):
        text = Path("corpus", name).read_text()
        Path("corpus", name).write_text(text.replace(".\n", ".\n\n"))
    assert train_py(*SMALL, r"data.document_delimiter=\n\n", "name=run").status == 0
    assert "\\" not in json.loads(Path("runs/run/dictionary.json").read_text())["items"]
    assert {path.read_text().split('"documents": ')[1].split(",")[0] for path in Path("cache").glob("*/meta.json")} == {
        *("60", "50", "30")
    }
    assert train_py(*SMALL, "data.document_delimiter='\n\n'", "name=run").status == 0  # the same


@pytest.mark.parametrize("typed", ["logger=[]", "logger=null", "~logger", "logger={}", "logger="])
def test_a_run_needs_no_logger(typed, train_py):
    arguments = [argument for argument in SMALL if not argument.startswith("logger")]
    status, message = train_py(*arguments, typed, "trainer.max_steps=1")
    assert status == 0, message
    assert "tensorboard" not in message
    assert not {"metrics.csv", "tensorboard", "report.png"} & {path.name for path in Path("runs").glob("*/*")}
    folder = next(Path("runs").iterdir())
    assert call("export", folder / "best-lm.pt", "--format", "hub", "--output", "hub") == 0
    assert not Path("hub/report.png").exists()


@pytest.mark.parametrize(
    ("group", "typed"),
    [
        *(("callbacks", typed) for typed in ("callbacks=[]", "callbacks=null", "~callbacks", "callbacks={}")),
        *(("experiment", typed) for typed in ("experiment=[]", "experiment=null", "~experiment")),
        *(("hparams_search", typed) for typed in ("hparams_search=[]", "hparams_search=null", "~hparams_search")),
        *(("logger", typed) for typed in ("logger.csv=null", "~logger.csv")),
    ],
)
def test_a_group_that_may_be_empty_is_empty(group, typed):
    from lmtrain.config.schema import check_config

    plain, values = (check_config(compose(*more)).model_dump() for more in ((), (typed,)))
    if group == "logger":
        assert set(values["logger"]) == {"tensorboard"}
        values["logger"] = plain["logger"]
    assert values == plain


@pytest.mark.parametrize("group", ["model", "data", "dictionary", "optimizer", "trainer"])
@pytest.mark.parametrize("form", ["~{}", "{}=null", "{}=[]", "{}={{}}"])
def test_a_group_that_a_run_needs_cannot_be_taken_away(group, form, train_py):
    status, message = train_py(form.format(group))
    assert status == 2
    assert message.startswith(f"Error: {form.format(group)}: {group} takes the name of an option, and a run needs one")
    assert message.count("\n") == 1


def test_one_option_in_a_list_is_that_option():
    assert compose("optimizer=[adamw]", "experiment=[fast]") == compose("optimizer=adamw", "experiment=fast")


def test_two_recipes_are_refused(train_py):
    assert "experiment takes one option. Choose one of fast, demo" in train_py("experiment=[fast,demo]").message


def printed_commands(text: str) -> list[str]:
    """Without the words that stand for what the user has, such as SENTENCES.txt."""
    found = re.findall(r"(?:more text|embeddings)\s+(.*)", text)
    return [command.replace("SENTENCES.txt", "corpus/test.txt") for command in found]


def run_in_shell(command: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=120, env=environment, check=False
    )


def test_the_commands_that_are_printed_work_in_a_shell(train_py):
    place = "it's a run & more"
    Path("corpus").rename("my corpus")
    status, message = train_py(*SMALL[:1], "data.path=my corpus", *SMALL[2:], f"name={place}")
    assert status == 0, message
    log = Path("runs", place, "train.log").read_text()
    commands = printed_commands(log)
    assert len(commands) == 2
    Path("corpus").symlink_to("my corpus")
    for command in commands:
        done = run_in_shell(command)
        assert done.returncode == 0, (command, done.stderr)
    assert Path("vectors.npz").exists()
    card = Path("runs", place, "README.md").read_text()
    [again] = re.findall(r"^- `+ ?(python .*?) ?`+$", card, re.MULTILINE)
    assert "is finished" in train_py(*shlex.split(again)[2:]).message


def test_the_commands_that_preparing_prints_can_be_pasted(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text(sentences(300).replace(".\n", ".\n\n"))
    place = "it's a corpus, too"
    assert (
        call("prepare_corpus", "a.txt", "--output", place, "--split-at", r"\n\n", "--document-delimiter", r"\n\n") == 0
    )
    output = capsys.readouterr().out
    [train] = re.findall(r"Train:\s+(.*)", output)
    assert r"data.document_delimiter=\n\n" in train
    words = shlex.split(train)
    values = compose(*words[2:])
    assert (values["data"]["path"], values["data"]["document_delimiter"]) == (place, "\n\n")
    assert Path(words[1]).resolve() == ROOT / "train.py"
    [check] = re.findall(r"Check it:\s+(.*)", output)
    assert shlex.split(check)[2] == place


def test_a_checkpoint_that_cannot_be_mended_names_a_command_that_can_be_pasted(train_py):
    name = "a b's"
    assert train_py(*SMALL, f"name={name}").status == 0
    for path in Path("runs", name, "checkpoints").iterdir():
        path.write_bytes(b"broken")
    _, message = train_py(*SMALL, f"name={name}", "trainer.max_steps=9")
    [argument] = shlex.split(re.search(r"best model: (.*) under another", message)[1])
    assert compose(argument)["init_from"] == f"runs/{name}/best-lm.pt"


def test_what_needs_quotes_is_told_with_them(train_py):
    message = train_py("model.hidden_size=[a").message
    [argument] = shlex.split(message.rsplit("leaves: ", 1)[1])
    assert argument == "model.hidden_size='[a'"


def test_a_comma_is_for_several_values_and_it_is_told_how_to_mean_one(train_py):
    assert compose("data.path=it's a,b")["data"]["path"] == "it's a,b"  # which are no several values for Hydra
    message = train_py("data.path=a,b c").message
    [argument] = shlex.split(message.rsplit("As one text: ", 1)[1])
    assert compose(argument)["data"]["path"] == "a,b c"


def test_a_callback_in_the_working_directory_is_found(tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus")
    source = "from lightning.pytorch import Callback\nclass Say(Callback):\n    def on_train_start(self, *_):\n"
    (tmp_path / "own.py").write_text(f"{source}        open('said', 'w').close()\n")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    installed = "import sys\nfrom lmtrain.cli.train import main\nsys.exit(main())\n"
    (bin_folder / "lmtrain-train").write_text(f"#!{sys.executable}\n{installed}")
    (bin_folder / "lmtrain-train").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    done = run_in_shell(f"{bin_folder}/lmtrain-train {shlex.join(SMALL)} '+callbacks.own={{_target_: own.Say}}'")
    assert done.returncode == 0, done.stderr
    assert Path("said").exists()
    assert "lmtrain-generate runs/" in done.stderr


def test_a_name_of_flairs_tells_how_to_get_the_model(train_py, monkeypatch, tmp_path):
    monkeypatch.setenv("FLAIR_CACHE_ROOT", str(tmp_path / "flair"))
    status, message = train_py(*SMALL, "init_from=news-forward")
    assert status == 2
    assert f"this downloads it into {tmp_path}/flair/embeddings" in message
    words = shlex.split(re.search(r"embeddings: (python .*?)\. Then", message)[1])
    assert words == ["python", "-c", "from flair.embeddings import FlairEmbeddings; FlairEmbeddings('news-forward')"]
    (tmp_path / "flair/embeddings").mkdir(parents=True)
    (tmp_path / "flair/embeddings/news-forward-0.4.1.pt").touch()
    assert (
        f"init_from={tmp_path}/flair/embeddings/news-forward-0.4.1.pt"
        in train_py(*SMALL, "init_from=news-forward").message
    )
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "typed",
    [
        *("hydra.run.dir=x", "++hydra.run={dir: x}", "hydra.sweep.dir=x", "hydra.sweep.subdir=x", "hydra.job.name=x"),
        *("hydra.job.chdir=true", "hydra.output_subdir=.hydra", "hydra/job_logging=default"),
    ],
)
def test_keys_of_hydra_that_would_have_no_effect_are_refused(typed):
    with pytest.raises(UserError, match=r"has no effect here; .*(runs_dir=FOLDER|leave it out)"):
        as_hydra_reads(["seed=1", typed])


def test_keys_of_hydra_that_have_an_effect_are_left_alone():
    typed = ["hydra.mode=MULTIRUN", "hydra.sweeper.n_trials=2", "hydra/launcher=joblib", "+hydra.runtime.x=1"]
    assert as_hydra_reads(typed) == typed


def test_options_may_stand_between_keys():
    typed = ["seed=1", "-m", "name=a", "--config-dir", "x=y", "~logger", "--cfg=job"]
    assert in_any_order(typed) == ["seed=1", "name=a", "~logger", "-m", "--config-dir", "x=y", "--cfg=job"]
