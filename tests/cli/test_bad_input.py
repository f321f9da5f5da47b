"""Bad input: one clear message that names what is wrong and what to do, exit status 2, and nothing is written."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from corpora import sentences, write_corpus
from filelock import FileLock
from processes import ROOT
from running import SMALL

from lmtrain.data.dictionary import Dictionary

RUN = (*SMALL, "name=run")


def written() -> dict[str, str]:
    """Every file below the working directory but the cache and locks, and a hash of it; folders, too."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        for path in Path().rglob("*")
        if path.parts[0] != "cache" and path.name != ".lock"
    }


@pytest.fixture
def train(train_py, monkeypatch):
    """Runs `train.py OVERRIDES` in a folder with a small corpus."""
    monkeypatch.delenv("LMTRAIN_BILLION", raising=False)
    return lambda *overrides: train_py(*RUN, *overrides)


@pytest.fixture
def refused(train):
    """Runs `train.py OVERRIDES`, which must be refused and write nothing; gives the message."""

    def run(*overrides: str) -> str:
        before = written()
        status, message = train(*overrides)
        assert status == 2, message
        assert "Traceback" not in message
        assert "Error executing job" not in message
        assert written() == before
        return message

    return run


# --- the configuration ---


def test_all_that_is_wrong_with_a_configuration_is_reported_together(refused):
    message = refused(
        *("model.hidden_size=-1", "model.nlayers=abc", "model.dropout=1", "model.recurrent_type=RNN", "model.nout=0"),
        *("data.batch_size=0", "data.level=letter", "data.path=", "data.document_delimiter=''", "data.errors=ignore"),
        *("direction=up", "seed=-1", "resume=maybe", "optimizer.lr=inf", "anneal.factor=1", "trainer.max_epochs=0"),
        *("+model.hiden=3", "+callbacks.x._target_=no.such.thing"),
    )
    expected = [
        "model.hidden_size=-1: it must be greater than 0",
        "model.nlayers=abc: it must be a valid integer",
        "model.dropout=1: it must be less than 1",
        "model.recurrent_type=RNN: it must be one of LSTM, GRU, MINGRU",
        "model.nout=0: it must be greater than 0",
        "data.batch_size=0: it must be greater than 0",
        "data.level=letter: it must be 'character' or 'word'",
        "data.path=: it must have at least 1 character",
        "data.document_delimiter=: it must have at least 1 character",
        "data.errors=ignore: it must be 'strict' or 'replace'",
        "direction=up: it must be 'forward' or 'backward'",
        "seed=-1: it must be greater than or equal to 0",
        "resume=maybe: it must be 'auto' or 'never'",
        "optimizer.lr=inf: it must be a finite number",
        "anneal.factor=1: it must be less than 1",
        "trainer.max_epochs=0: it must be greater than 0, or -1 for no limit",
        "model.hiden is no key of the configuration. Did you mean model.hidden_size",
        "No module named 'no'",
    ]
    for sentence in expected:
        assert sentence in message
    assert message.startswith(f"{len(expected)} errors:\n  1. ")


@pytest.mark.parametrize("dropout", ["-0.1", "1", "1.5", "nan", "much"])
def test_dropout_must_be_below_one_and_not_negative(dropout, refused):
    assert f"Error: model.dropout={dropout}: it must be " in refused(f"model.dropout={dropout}")


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("modle=tiny", "there is no key modle. Did you mean model?"),
        ("model.hiden_size=3", "there is no key model.hiden_size. Did you mean model.hidden_size"),
        ("hidden_size=3", "there is no key hidden_size. Did you mean model.hidden_size"),
        ("lr=3", "there is no key lr. Did you mean optimizer.lr?"),
        (
            "trainer.max_epoch=3",
            "Did you mean trainer.max_epochs or trainer.min_epochs or trainer.max_steps?",
        ),
        ("experimnt=flair", "there is no key experimnt. Did you mean experiment?"),
        ("xyz=1", "there is no key xyz. python train.py --help lists all keys."),
        ("trainer.foo=1", "write +trainer.foo=VALUE"),
        ("optimizer.momentum=0.9", "write +optimizer.momentum=VALUE"),
        ("+trainer.foo=1", "trainer.foo is no argument of Lightning's Trainer"),
        ("+optimizer.foo=1", "unexpected keyword argument 'foo'"),
        ("~model.nlayers", "model.nlayers is missing. Give model.nlayers=VALUE"),
        ("model=larg", "model=larg is no option. Did you mean large? The options are base, large, small, tiny."),
        (
            "experiment=flar",
            "experiment=flar is no option. Did you mean flair? The options are demo, fast, fine_tune, flair.",
        ),
        ("optimizer=adam", "optimizer=adam is no option. Did you mean adamw? The options are adamw, muon, sgd."),
        ("callbacks.x=cb.A", "there is no key callbacks.x. To add one, write '+callbacks.x={_target_: CLASS,"),
        ("callbacks=[cb.A]", "callbacks=cb.A is no option. A class is given as '+callbacks.a={_target_: cb.A}', its"),
        ("+callbacks=[cb.A]", "callbacks=cb.A is no option. A class is given as '+callbacks.a={_target_: cb.A}', its"),
        ("+callbacks.x=cb.A", "callbacks.x=cb.A: it must be a class with its arguments, if it takes any, in quotes:"),
        ("+callbacks.x=[cb.A]", "'{_target_: cb.A, ARGUMENT: VALUE}'"),
        ("+callbacks.x={a: 1}", "'{_target_: module.CLASS, ARGUMENT: VALUE}'"),
        ("logger=[csv,cb.X]", "logger=cb.X is no option. A class is given as '+logger.x={_target_: cb.X}', its"),
        ("optimizer=torch.optim.Adam", "with the chosen one's arguments: optimizer._target_=torch.optim.Adam"),
        ("data=abcdefg", "data=abcdefg is no option. The options are billion, demo, folder."),
    ],
)
def test_for_unknown_keys_and_options_the_nearest_are_named(override, meant, refused):
    assert meant in refused(override)


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("model.hidden_size", "'model.hidden_size' on the command line is not KEY=VALUE (missing EQUAL"),
        ("data", "'data' on the command line is not KEY=VALUE"),
        ("data.batch_size=[a", "'data.batch_size=[a' on the command line is not KEY=VALUE"),
        ("model=null", "takes the name of an option"),
        ("name=${no_such_key}", "name: Interpolation key 'no_such_key' not found"),
        ("name=a/b", "name=a/b: it must be a folder's name without slashes"),
        ("model.hidden_size=1,2", "--multirun"),
    ],
)
def test_what_cannot_be_read_as_a_setting_is_named(override, what, refused):
    message = refused(override)
    assert message.startswith("Error: ")
    assert message.count("\n") == 1
    assert what in message


@pytest.mark.parametrize(
    ("override", "what"),
    [
        pytest.param(
            "trainer.accelerator=gpu", "gpu", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
        ),
        ("trainer.accelerator=foo", "it must be auto, cpu, gpu, cuda or mps"),
        ("trainer.devices=0", "trainer.devices=0: it must be their number"),
        ("trainer.precision=foo", "trainer.precision=foo: it must be one of auto, 32-true"),
        ("trainer.strategy=foo", "trainer.strategy=foo: it must be one of auto, single_device, ddp"),
    ],
)
def test_hardware_that_is_not_there_is_told(override, what, refused):
    assert what in refused(override)


# --- the corpus ---


def test_a_corpus_that_is_not_there_is_told(refused):
    assert "data.path=nowhere does not exist. It must be a folder with train/" in refused("data.path=nowhere")


def test_a_path_that_was_not_given_is_asked_for(refused):
    assert "data=folder needs data.path. Give the folder" in refused("~data.path", "+data.path=null")
    message = refused("data=billion", "data.path=null")
    for part in ("data=billion needs data.path", "statmt.org/lm-benchmark", "LMTRAIN_BILLION"):
        assert part in message


def test_how_to_get_the_benchmark_is_told_where_it_is_incomplete(refused):
    message = refused("data=billion")
    assert "corpus: there is no training-monolingual.tokenized.shuffled/news.en-*" in message
    assert "there is no heldout-monolingual.tokenized.shuffled/news.en.heldout-00001-of-00050" in message
    assert "statmt.org/lm-benchmark" in message


def test_all_that_is_wrong_with_the_files_of_a_corpus_is_reported_together(refused):
    Path("corpus/train/folder").mkdir()
    Path("corpus/train/gone.txt").symlink_to("nowhere")
    Path("corpus/valid.txt").write_text("")
    Path("corpus/test.txt").unlink()
    message = refused()
    assert message.startswith("4 errors:")
    for part in ("train/folder is a folder", "gone.txt cannot be read", "valid.txt is empty", "there is no test"):
        assert part in message


def test_every_file_that_is_not_utf8_is_told_with_the_place(refused):
    Path("corpus/train/1.txt").write_bytes(b"abc\xff")
    Path("corpus/train/2.txt").write_bytes("ä".encode("latin-1"))
    message = refused()
    assert "train/1.txt: byte 0xff at offset 3 is not UTF-8" in message
    assert "train/2.txt: byte 0xe4 at offset 0 is not UTF-8" in message
    assert "data.errors=replace" in message


def test_text_too_short_for_the_lanes_is_told_with_the_largest_batch_that_works(train, refused):
    Path("corpus/train/2.txt").write_text(sentences(4))
    Path("corpus/valid.txt").write_text(sentences(3))
    size = len(sentences(3))
    assert len(sentences(4)) < 200
    message = refused("data.batch_size=100")
    assert "training split train/2.txt is too short for data.batch_size=100" in message
    assert f"validation text is too short for data.batch_size=100 lanes: it has {size} items" in message
    assert "must have at least 200" in message
    assert f"the largest that works is data.batch_size={size // 2}." in message
    assert train(f"data.batch_size={size // 2}").status == 0


def test_text_that_is_too_short_for_any_batch_is_told(refused):
    Path("corpus/train/2.txt").write_text("\n\n\n")
    assert "it has 0 items, and must have at least 8; put more text into it" in refused()


def test_fewer_lanes_than_devices_are_told_with_all_else(refused):
    Path("corpus/valid.txt").write_text("a\n")
    message = refused("trainer=ddp_cpu", "trainer.devices=3", "data.batch_size=2")
    assert "data.batch_size=2 lanes are too few for 3 devices" in message
    assert "Use data.batch_size=3 or more" in message
    assert "validation text is too short" in message


def test_lanes_of_all_devices_and_of_each_are_not_both_taken(refused):
    message = refused("data.batch_size=4", "data.lanes_per_device=2")
    assert "data.batch_size=4 and data.lanes_per_device=2 both say" in message


def test_splits_too_small_for_the_lanes_are_told_once(refused):
    assert "Error: data.max_split_size=15: it must be at least 4 × data.batch_size = 16" in refused(
        "data.max_split_size=15"
    )


def test_a_very_long_list_of_problems_is_cut(refused):
    for number in range(50):
        Path(f"corpus/train/{number}").mkdir()
    message = refused()
    assert message.startswith("50 errors:")
    assert message.endswith("and 30 more\n")


# --- the dictionary ---


def test_dictionary_files_that_cannot_be_used_are_told(refused):
    Path("broken.json").write_text("{")
    Path("broken.pickle").write_bytes(b"\x80\x04}")
    assert "dictionary=file needs dictionary.path" in refused("dictionary=file")
    for name in ("gone.json", "broken.json", "broken.pickle", "corpus"):
        message = refused("dictionary=file", f"dictionary.path={name}")
        assert message.startswith("Error: ")
        assert name in message


def test_a_dictionary_without_unk_is_refused_where_it_is_needed(refused):
    Dictionary("abc \n").save("letters.json")
    message = refused("dictionary=file", "dictionary.path=letters.json")
    for name in ("train/1.txt", "train/2.txt", "valid.txt", "test.txt"):
        assert name in message
    assert "which has no <unk>" in message
    assert "Use dictionary=corpus" in message


@pytest.mark.parametrize(
    ("overrides", "remedy"),
    [
        (["dictionary=file", "dictionary.path=letters.json"], "Use dictionary=corpus"),
        (["dictionary.min_count=100"], "Cut the dictionary less (dictionary.min_count"),
    ],
)
def test_too_many_unknown_items_are_refused_with_a_remedy(overrides, remedy, train, refused):
    Dictionary(["<unk>", *"etaoin \n"]).save("letters.json")
    message = refused(*overrides)
    for part in ("of the items of train are not in", "of the items of valid are not in", "'f'×85", remedy):
        assert part in message
    assert "above dictionary.max_unknown=0.01" in message
    assert train(*overrides, "dictionary.max_unknown=1").status == 0


def test_validation_text_in_another_alphabet_is_refused(refused):
    Path("corpus/valid.txt").write_text("Съешь же ещё этих мягких булок\n" * 9, encoding="utf-8")
    message = refused()
    assert "of the items of valid are not in" in message
    assert "train on text that does" in message


# --- places ---


def test_a_run_folder_that_holds_another_run_is_left_alone(train, refused):
    assert train().status == 0
    message = refused("model.hidden_size=9", "data.sequence_length=21", "dictionary.min_count=2")
    assert "runs/run holds a run with another configuration" in message
    for key in ("model.hidden_size=9 (it was 8)", "data.sequence_length=21 (it was 20)", "dictionary.min_count=2"):
        assert key in message
    for remedy in ("name=NAME", "overwrite=true"):
        assert remedy in message
    assert train("model.hidden_size=9", "overwrite=true").status == 0


def test_places_that_are_no_run_folder_are_told(refused):
    Path("runs").mkdir()
    Path("runs/file").write_text("mine")
    Path("runs/model").mkdir()
    Path("runs/model/best-lm.pt").write_text("mine")
    assert "runs/file is not a folder" in refused("name=file")
    assert "runs/model has a model but no config.yaml" in refused("name=model")
    assert "cannot be made" in refused("runs_dir=/proc/here")
    for key in ("resume=auto", "overwrite=true"):
        assert "cannot be made: File name too long" in refused(f"name={300 * 'a'}", key)
    for name in ("config.yaml", "metrics.csv", "train.log"):  # which would be waited for
        Path("runs/pipe").mkdir()
        os.mkfifo(f"runs/pipe/{name}")
        assert f"runs/pipe/{name}: a run needs files here, not pipes" in refused("name=pipe")
        shutil.rmtree("runs/pipe")


def test_a_folder_in_which_another_process_trains_is_told(refused):
    Path("runs/run").mkdir(parents=True)
    with FileLock("runs/run/.lock"):
        assert "Another process is training in runs/run" in refused()


@pytest.mark.parametrize("cache", ["corpus/valid.txt", "corpus/valid.txt/cache", "/proc/cache"])
def test_a_cache_that_cannot_be_written_is_told(cache, refused):
    assert f"data.cache_dir={cache} cannot be written" in refused(f"data.cache_dir={cache}")


def test_a_model_to_start_from_that_is_not_there_is_told(refused):
    assert "gone.pt cannot be read" in refused("init_from=gone.pt")


# --- the command itself ---


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (["data.path=nowhere"], "data.path=nowhere does not exist"),
        (["modle=tiny"], "Did you mean model?"),
    ],
)
def test_the_command_prints_the_message_alone_and_exits_with_2(overrides, what, tmp_path):
    write_corpus(tmp_path / "corpus")
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *RUN, f"data.cache_dir={tmp_path.parent}/cache", *overrides],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert what in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert sorted(tmp_path.rglob("*")) == before
