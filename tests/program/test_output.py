"""A terminal, pipe or disk that takes no more messages, or not these characters, ends no run and gives no traceback."""

import io
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from corpora import write_corpus
from running import SMALL, compose, train
from script_calls import SCRIPTS, call

from lmtrain.data.dictionary import Dictionary
from lmtrain.inference.generation import readable
from lmtrain.model.language_model import LanguageModel, RecurrentLM, Sizes
from lmtrain.model_files.flair import save_language_model

BYTES = ["<unk>", *map(chr, range(128)), *(chr(0xDC00 + byte) for byte in range(128, 256))]


class DeadTerminal(io.StringIO):
    """What is left of a terminal whose window was closed."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:  # noqa: ARG002
        raise OSError(5, "Input/output error")

    def flush(self) -> None:
        self.write("")


@pytest.fixture
def byte_model(tmp_path: Path) -> Path:
    """A model whose items are bytes, as those of Flair dictionaries that are not of characters."""
    model = RecurrentLM(Sizes(len(BYTES), hidden_size=8, embedding_size=8))
    path = tmp_path / "bytes.pt"
    save_language_model(LanguageModel(model, Dictionary(BYTES), True, "\n"), path)
    return path


def test_a_run_whose_terminal_has_gone_ends_as_ever_and_its_log_has_everything(train_py, monkeypatch):
    status, said = train_py(*SMALL, "name=seen")
    assert status == 0
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", DeadTerminal())
        patch.setattr(sys, "stdout", DeadTerminal())
        assert train_py(*SMALL, "name=unseen") == (0, "")
    log = Path("runs/unseen/train.log").read_text()
    lines = [line for line in said.splitlines() if line.startswith(("Best validation", "Test of", "Next"))]
    assert len(lines) == 3
    assert all(line in log for line in lines)
    assert Path("runs/unseen/results.json").exists()


def test_a_full_disk_under_the_log_is_told_once(train_py):
    Path("runs/run").mkdir(parents=True)
    Path("runs/run/train.log").symlink_to("/dev/full")
    status, message = train_py(*SMALL, "name=run")
    assert status == 0
    assert message.count("train.log cannot be written: No space left on device. The run goes on") == 1
    assert "Traceback" not in message
    assert "Test of the best model" in message


def test_the_log_goes_on_when_there_is_room_again(tmp_path):
    """What stands in the buffer while the disk is full is not lost."""
    code = """
import logging, resource, signal, sys
from pathlib import Path
from rich.console import Console
from lmtrain.program.log import log_to_file, logging_to
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with logging_to(Console(stderr=True)):
    log_to_file(Path(sys.argv[1]))
    for size, line in ((-1, "one"), (1, "two"), (1, "three"), (-1, "four")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1))
        logging.getLogger("lmtrain").info(line)
"""
    command = [sys.executable, "-c", code, tmp_path / "train.log"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True, env=os.environ)
    assert [
        line.split()[-1]
        for line in (tmp_path / "train.log").read_text().splitlines()
        if "cannot be written" not in line
    ] == [*("one", "two", "three", "four")]
    assert done.stderr.count("train.log cannot be written") == 1


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("[!_]*.py")))
def test_help_that_nobody_takes_ends_with_1_and_a_sentence(script, monkeypatch, capsys):
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as end:
            sys.exit(call(script, "--help"))
    assert end.value.code == 1
    assert capsys.readouterr().err == "Error: standard output cannot be written: No space left on device.\n"


def test_help_of_train_py_likewise(train_py, monkeypatch):
    for option in ("--help", "--cfg=job"):
        with open("/dev/full", "w") as full, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", full)
            assert train_py(option) == (1, "Error: standard output cannot be written: No space left on device.\n")


def test_a_configuration_that_nobody_reads_any_more_ends_with_141(train_py, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        assert train_py("--cfg=job") == (141, "")


def test_a_run_whose_output_nobody_reads_any_more_comes_to_its_end(train_py, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe, monkeypatch.context() as patch:
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, pipe)  # as of `2>&1 | head -1`
        assert train_py(*SMALL, "name=run") == (0, "")
    assert Path("runs/run/results.json").exists()
    assert "Best validation" in Path("runs/run/train.log").read_text()


def test_figures_that_nobody_takes(byte_model, monkeypatch, capsys, tmp_path):
    (tmp_path / "text").write_text("abc\n" * 3)
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert call("score", byte_model, tmp_path / "text") == 1
    assert capsys.readouterr().err == "Error: standard output cannot be written: No space left on device.\n"
    reading, writing = os.pipe()
    os.close(reading)  # as `| head -1` does when it has its line
    with open(writing, "w") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        assert call("score", byte_model, tmp_path / "text", "--per-line") == 141
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("[!_]*.py")))
def test_help_that_nobody_reads_any_more_ends_with_141_and_without_a_word(script, monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as end:
            sys.exit(call(script, "--help"))
    assert (end.value.code, capsys.readouterr().err) == (141, "")


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("[!_]*.py")))
def test_help_without_a_standard_output_ends_with_1_and_a_sentence(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)  # Python's own for `>&-`
    with pytest.raises(SystemExit) as end:
        sys.exit(call(script, "--help"))
    assert (end.value.code, capsys.readouterr().err) == (1, "Error: standard output cannot be written: it is closed.\n")


def test_a_file_that_is_a_pipe_which_nobody_reads(byte_model, tmp_path):
    reading, writing = os.pipe()
    try:
        command = [sys.executable, SCRIPTS / "export.py", byte_model, "--format=flair", f"--output=/dev/fd/{writing}"]
        process = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.PIPE, cwd=tmp_path)
        os.close(reading)
        assert (process.communicate(timeout=100)[1], process.returncode) == (b"", 141)
    finally:
        os.close(writing)


def test_a_closed_standard_error_gives_its_number_to_no_file(tmp_path):
    code = """
import os, sys
from lmtrain.program.command import run
def main():
    with open(sys.argv[1], "w") as file:
        os.write(1, b"library"), os.write(2, b"library"), print("said", file=sys.stderr)
        file.write("data")
        print("said")
sys.exit(run(main))
"""
    shell = f"exec {sys.executable} -c '{code}' {tmp_path / 'file'} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", shell], timeout=100, check=False, cwd=SCRIPTS.parent).returncode == 1
    assert (tmp_path / "file").read_text() == "data"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_lines_with_characters_that_the_output_does_not_have_are_escaped(encoding, byte_model, monkeypatch, tmp_path):
    (tmp_path / "text").write_text("aé中\n", encoding="utf-8")
    taken = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream := io.TextIOWrapper(taken, encoding=encoding))
        assert call("score", byte_model, tmp_path / "text", "--per-line") == 0
    assert not stream.closed
    line = taken.getvalue().decode(encoding).rstrip("\n").split("\t")[2]
    assert line == {"latin-1": "aé\\u4e2d", "ascii": "a\\xe9\\u4e2d"}[encoding]


def test_a_model_of_bytes_trains_and_shows_samples(byte_model, tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "corpus")
    (corpus / "train/1.txt").rename(corpus / "train" / os.fsdecode(b"\xff.txt"))  # a file's name need not be UTF-8
    screen = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream := io.TextIOWrapper(screen, encoding="ascii"))
        patch.setattr(
            "lmtrain.training.callbacks.text_samples.generate", lambda *_, **__: [("b\udcc3\udca9 \udcff\ud800.", 1.0)]
        )
        values = compose(*SMALL, f"init_from={byte_model}", "logger=tensorboard", "dictionary.max_unknown=1")
        values["data"] |= {"path": str(corpus), "cache_dir": str(tmp_path / "cache")}
        train(values | {"runs_dir": str(tmp_path), "name": "run"}, {"name"})
    assert "  bé \ufffd\ufffd." in (tmp_path / "run/train.log").read_text(encoding="utf-8")
    stream.flush()
    assert b"b\\xe9 \\ufffd\\ufffd." in screen.getvalue()


def test_bytes_that_are_characters_are_shown_as_such(byte_model, capsys):
    assert readable("a\udcd0\udcb6中\udcff\U0001f600\ud800") == "aж中\ufffd\U0001f600\ufffd"
    assert call("generate", byte_model, "--length", 400, "--seed", 1) == 0
    assert "\ufffd" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    ["embed {} text --output out.npz", "embed {} text --output out.safetensors"]
    + [f"export {{}} --format {format} --output out.{format}" for format in ("flair", "safetensors")],
)
def test_outputs_for_which_there_is_no_room_end_scripts_with_2_and_a_sentence(
    command, byte_model, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("the cat\n" * 300)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handling = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        status = call(*command.format(byte_model).split())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handling)
    assert status == 2
    output = Path(command.split()[-1])  # a .safetensors file and the JSON beside it are written together
    assert capsys.readouterr().err in [
        f"Error: {output.with_suffix(end)}: File too large.\n" for end in (output.suffix, ".json")
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bytes.pt", "text"]


def test_a_device_that_is_full_likewise(capsys, tmp_path):
    (tmp_path / "text").write_text("the cat\n")
    assert call("build_dictionary", tmp_path / "text", "--output", "/dev/full") == 2
    assert capsys.readouterr().err == "Error: /dev/full: No space left on device.\n"
