"""The one command `lmtrain`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT
from running import SMALL

from lmtrain.cli.main import main
from lmtrain.program.command import SUBCOMMANDS, as_typed_here, program, script


@pytest.fixture
def lmtrain(monkeypatch, capsys):
    """Runs `lmtrain ARGUMENTS` in this process; gives its status and what it printed on both streams."""

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["/usr/bin/lmtrain", *map(str, arguments)])
        capsys.readouterr()
        try:
            status = main()
        except SystemExit as error:
            status = error.code
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize("arguments", [[], ["--help"], ["help"]])
def test_help_lists_every_command_with_what_it_does(arguments, lmtrain):
    status, text, _ = lmtrain(*arguments)
    assert status == 0
    listed = dict(re.findall(r"^  ([\w-]+) +(\w.{15,})$", text, re.MULTILINE))
    assert list(listed) == list(SUBCOMMANDS)


def test_the_version_is_that_of_pyproject(lmtrain):
    (version,) = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert lmtrain("--version") == (0, f"lmtrain {version}\n", "")
    assert lmtrain("train", "--version") == (0, f"lmtrain {version}\n", "")


def test_python_dash_m_is_the_command_and_is_named_in_messages(monkeypatch):
    command = [sys.executable, "-m", "lmtrain", "scroe"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Did you mean `lmtrain score`?" in done.stderr
    monkeypatch.setattr(sys, "argv", ["/x/lmtrain/__main__.py", "train"])
    assert [program(), script("score")] == ["python -m lmtrain", "python -m lmtrain score"]
    assert as_typed_here("python train.py model=tiny") == "python -m lmtrain train model=tiny"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("nonsense", "The commands are train, prepare, check,"),
        ("scroe", "Did you mean `lmtrain score`?"),
        ("prepare_corpus", "Did you mean `lmtrain prepare`?"),
        ("build-dictionary", "Did you mean `lmtrain dictionary`?"),
        ("model=base", "To train: lmtrain train model=base ..."),
    ],
)
def test_what_is_no_command_has_status_2_and_what_may_be_meant(typed, words, lmtrain):
    status, printed, said = lmtrain(typed)
    assert (status, printed) == (2, "")
    assert said.startswith(f"Error: lmtrain has no command {typed!r}. ")
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", [name for name in SUBCOMMANDS if name != "train"])
def test_each_command_has_its_script_and_examples_in_its_own_words(name, lmtrain):
    status, text, _ = lmtrain(name, "--help")
    assert status == 0
    assert text.startswith(f"usage: lmtrain {name} [-h]")
    assert f"  lmtrain {name}" in text
    assert "scripts/" not in text
    assert "python train.py" not in text
    script = (ROOT / f"scripts/{SUBCOMMANDS[name]}.py").read_text()
    assert f"from lmtrain.cli.{SUBCOMMANDS[name]} import command\n" in script


@pytest.mark.usefixtures("train_py")
def test_training_and_using_the_model_name_the_next_commands(lmtrain):
    status, _, said = lmtrain("train", *SMALL, "name=run")
    assert status == 0
    assert "lmtrain generate runs/run/best-lm.pt" in said
    assert re.search(
        r"^- `lmtrain train data=folder .*name=run`$", Path("runs/run/README.md").read_text(), re.MULTILINE
    )
    assert lmtrain("score", "runs/run", "corpus/test.txt", "--json")[0] == 0
    status, _, said = lmtrain("train", "data=folder", "data.path=nowhere")
    assert (status, "lmtrain prepare makes one from raw text" in said) == (2, True)
    status, _, said = lmtrain("score", "mine/scripts/score.py")
    assert said == "Error: The model mine/scripts/score.py cannot be read: No such file or directory.\n"
    status, _, said = lmtrain("train", "model=tny")
    assert status == 2
    assert said.startswith("Error: model=tny is no option. Did you mean tiny?")
    assert "lmtrain train experiment=fast data=folder data.path=corpus" in lmtrain("train", "--help")[1]


def test_a_job_of_a_sweep_in_a_process_of_its_own_is_the_same_command(installed_command, tmp_path, monkeypatch, capfd):
    """With several devices each job is `lmtrain train ...` again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # as main does, but undone afterwards
    monkeypatch.setattr(
        sys, "argv", [str(installed_command), "train", "-m", *SMALL, "trainer.devices=2", "data.path=nowhere", "seed=1"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "Error: data.path=nowhere does not exist." in capfd.readouterr().err


def test_the_command_of_contributing_md_works(tmp_path, capsys):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"^```python\n(# lmtrain/cli/.*?)^```$", text, re.MULTILINE | re.DOTALL)
    names: dict = {"__name__": "count_lines"}
    exec(compile(code, "count_lines.py", "exec"), names)
    (tmp_path / "a.txt").write_text("one\n\ntwo\nthree\n")
    assert names["command"]([str(tmp_path / "a.txt"), "--least", "4"]) == 0
    assert capsys.readouterr().out == f"1  {tmp_path}/a.txt\n"
    assert names["command"](["--least", "-1", "x"]) == 2
    assert capsys.readouterr().err == "Error: --least is -1; it must be at least 0.\n"


def test_help_and_errors_of_arguments_import_no_torch():
    code = (
        "import sys\n"
        "from lmtrain.cli.main import main\n"
        f"for name in {[name for name in SUBCOMMANDS if name != 'train']}:\n"
        "    for option in ('--help', '--nonsense'):\n"
        "        sys.argv = ['/bin/lmtrain', name, option]\n"
        "        try: main()\n"
        "        except SystemExit as end: print(end.code, 'torch' in sys.modules, name, file=sys.__stdout__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    ended = [line for line in done.stdout.splitlines() if re.match(r"\d (True|False) ", line)]
    names = [name for name in SUBCOMMANDS if name != "train"]
    assert ended == [f"{status} False {name}" for name in names for status in (0, 2)]
