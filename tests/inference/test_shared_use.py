"""One object or file and several users at once: threads, forked and spawned processes, equal process ids."""

import contextlib
import copy
import multiprocessing
import os
import pickle
import random
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import CHARACTERS, make_model

from lmtrain.data.cache.text_cache import count_items, encode_file
from lmtrain.data.corpus import TextFile
from lmtrain.data.dictionary import Dictionary
from lmtrain.data.id_cache import TextFormat
from lmtrain.inference.embeddings import StringEmbeddings
from lmtrain.inference.generation import generate
from lmtrain.inference.scoring import score
from lmtrain.inference.stepper import Stepper
from lmtrain.model_files.export import load_model, save_safetensors
from lmtrain.model_files.flair import save_language_model
from lmtrain.program.command import check_outputs
from lmtrain.program.files import atomic_write, open_file, unfinished_name
from lmtrain.training.muon import Muon

SENTENCES = [[["The", "cat"], ["a"]], [["b" * 40]], [["an", "☃", "жя", "."]], [[]], [["c"], ["d", "e"], ["äö"] * 9]]


def in_threads(function, arguments, threads=4):
    """The results of calls that begin at once."""
    gate = threading.Barrier(threads)

    def work(number):
        gate.wait()
        return {index: function(arguments[index]) for index in range(number, len(arguments), threads)}

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(work, range(threads)))
    results = {index: result for part in parts for index, result in part.items()}
    return [results[index] for index in range(len(arguments))]


@given(st.lists(st.lists(st.lists(st.text("abcdeä☃", min_size=1, max_size=9), max_size=5), max_size=3), min_size=8))
@settings(max_examples=10)
def test_threads_embed_what_one_call_after_the_other_does(batches):
    embeddings = StringEmbeddings(make_model(), make_model(is_forward_lm=False, recurrent_type="GRU"))
    expected = [embeddings.embed(sentences) for sentences in batches]
    for vectors, right in zip(in_threads(embeddings.embed, batches), expected, strict=True):
        for one, other in zip(vectors, right, strict=True):
            torch.testing.assert_close(one, other, atol=2e-6, rtol=0)


def test_a_hundred_short_calls_from_threads():
    embeddings = StringEmbeddings(make_model(), make_model(is_forward_lm=False))
    batches = SENTENCES * 20
    expected = [torch.cat(embeddings.embed(sentences)) for sentences in batches]
    results = in_threads(lambda sentences: torch.cat(embeddings.embed(sentences)), batches)
    assert max((one - other).abs().max() for one, other in zip(results, expected, strict=True) if len(one)) < 2e-6


def test_threads_score_generate_and_encode_alike():
    language_model = make_model()
    texts = ["".join(random.Random(seed).choices(CHARACTERS[1:], k=3 * seed)) for seed in range(2, 22)]
    for function, arguments in [
        (lambda text: score(language_model, [text, text])[1], texts),
        (lambda seed: generate(language_model, "a", length=30, samples=2, seed=seed), list(range(20))),
        (lambda text: Dictionary(CHARACTERS).encode(text).tolist(), texts),
        (lambda text: language_model.dictionary.encode(text).tolist(), texts),
    ]:
        assert in_threads(function, arguments) == [function(argument) for argument in arguments]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_threads_that_load_models_draw_no_random_numbers(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    save = save_safetensors if suffix == ".safetensors" else save_language_model
    save(make_model(), path)
    before = torch.get_rng_state()
    loaded = in_threads(load_model, [path] * 8)
    assert torch.equal(torch.get_rng_state(), before)
    assert len({score(one, ["The cat."])[0].nats for one in loaded}) == 1
    assert all(parameter.requires_grad for one in loaded for parameter in one.model.parameters())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda used: pickle.loads(pickle.dumps(used))])
def test_used_objects_can_be_copied_and_pickled(duplicate):
    embeddings = StringEmbeddings(make_model(), make_model(is_forward_lm=False))
    expected = embeddings.embed(SENTENCES[0])
    for one, other in zip(duplicate(embeddings).embed(SENTENCES[0]), expected, strict=True):
        assert torch.equal(one, other)
    language_model = embeddings.language_models[0]
    assert score(duplicate(language_model), ["The cat"]) == score(language_model, ["The cat"])
    dictionary = language_model.dictionary
    assert duplicate(dictionary) == dictionary
    assert len(pickle.dumps(dictionary)) < 2000  # without its tables


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda used: pickle.loads(pickle.dumps(used))])
def test_a_used_muon_goes_on_as_a_copy(duplicate):
    def step(model, optimizer):
        optimizer.zero_grad()
        model.loss(torch.arange(12).view(6, 2), torch.arange(12).view(6, 2))[0].backward()
        optimizer.step()

    model = make_model(nlayers=2).model
    optimizer = Muon(model.named_parameters())
    step(model, optimizer)
    other_model, other = duplicate((model, optimizer))
    step(model, optimizer)
    step(other_model, other)
    for one, same in zip(model.parameters(), other_model.parameters(), strict=True):
        assert torch.equal(one, same)


def _embed_in_process(sender, embeddings):
    torch.set_num_threads(1)
    sender.send([rows.tolist() for rows in embeddings.embed(SENTENCES[0])])


# Python 3.12 and newer warn of forking while there are threads, which is what is tried here
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_embed_while_a_thread_does(method):
    embeddings = StringEmbeddings(make_model())
    expected = [rows.tolist() for rows in embeddings.embed(SENTENCES[0])]
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    with embeddings._lock:  # as a thread holds it in the middle of a call
        process = context.Process(target=_embed_in_process, args=(sender, embeddings))
        process.start()
    assert receiver.poll(60)
    assert receiver.recv() == expected
    process.join()
    assert process.exitcode == 0


def write(path: Path, byte: bytes, pieces: int = 40) -> None:
    with atomic_write(path) as unfinished, unfinished.open("wb") as file:
        for _ in range(pieces):
            file.write(byte * 1000)
            file.flush()


def test_writers_with_one_process_id_leave_one_whole_file(tmp_path):
    path = tmp_path / "file"
    for _ in range(5):
        in_threads(lambda byte: write(path, byte), [bytes([65 + number]) for number in range(8)])
        content = path.read_bytes()
        assert len(content) == 40_000
        assert len(set(content)) == 1
        assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_of_two_exports_to_one_place_at_once_both_files_are_one_models(tmp_path, monkeypatch):
    models = [make_model(), make_model(["<unk>", "a"], is_forward_lm=False)]
    rename, gate = os.replace, threading.Barrier(2)

    def slow_rename(*places):
        rename(*places)
        with contextlib.suppress(threading.BrokenBarrierError):
            gate.wait(0.2)  # here the other could rename, were it not kept out

    monkeypatch.setattr(os, "replace", slow_rename)
    in_threads(lambda model: save_safetensors(model, tmp_path / "m.safetensors"), models, threads=2)
    loaded = load_model(tmp_path / "m.safetensors")  # which refuses files that do not belong together
    assert loaded.dictionary in [model.dictionary for model in models]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "m.safetensors"]


def test_encoders_with_one_process_id_leave_one_whole_entry(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The cat sat.\n" * 20_000)
    file = TextFile(str(text), "text.txt", text.stat().st_size, "1")
    dictionary, cache = Dictionary(CHARACTERS), tmp_path / "cache"
    cache.mkdir()
    encoded = in_threads(lambda _: encode_file(file, TextFormat(), dictionary, cache), range(8))
    counts = in_threads(lambda _: count_items(file, TextFormat(), cache), range(8))
    assert {(one.items, one.documents, one.checksum()) for one in encoded} == {(260_000, 20_000, encoded[0].checksum())}
    assert all(one == counts[0] for one in counts)
    kinds = sorted(path.name.partition("-")[0] for path in cache.iterdir() if not path.is_dir())
    assert kinds == ["checked", "content", "counts"]
    assert len(list(cache.iterdir())) == 4  # and one entry, nothing unfinished


def test_permissions_are_those_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "file", b"a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_unfinished_names_can_be_recognised_and_fit(tmp_path):
    assert unfinished_name("best-lm.pt").startswith(".best-lm.pt.")
    assert unfinished_name("best-lm.pt").endswith(".tmp")
    assert len({unfinished_name("x") for _ in range(100)}) == 100
    longest = tmp_path / ("ä" * 127)
    write(longest, b"a")
    assert longest.stat().st_size == 40_000


def test_devices_and_pipes_are_written_to_and_not_replaced(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(fifo.read_bytes)
        write(fifo, b"a", 100)
        assert read.result() == b"a" * 100_000
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert [item.name for item in tmp_path.iterdir()] == ["fifo"]
    write(Path("/dev/null"), b"a")
    with (tmp_path / "figures.csv").open("wb") as file:  # as `> figures.csv`
        file.write(b"before\n")
        file.flush()
        stdout = tmp_path / "stdout"
        stdout.symlink_to(f"/proc/self/fd/{file.fileno()}")  # as /dev/stdout
        check_outputs(stdout)
        for _ in range(2):
            write(stdout, b"a", 1)
    assert stdout.is_symlink()
    assert (tmp_path / "figures.csv").read_bytes() == b"before\n" + b"a" * 2000
    assert open_file(tmp_path / "figures.csv") is None
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_stepper_says_that_it_cannot_be_copied(copied):
    with pytest.raises(TypeError, match="Make another one from the model, and set its state"):
        copied(Stepper(make_model().model, 2))
