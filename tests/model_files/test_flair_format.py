"""What lmtrain writes for Flair, what it reads, and what it says when a file's parts do not fit."""

import io
import json
import pickle
import sys
import types
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_files import ITEMS, flair_content, flairs_dictionary, lightning_content, make, mappings, refused, write

from lmtrain.data.dictionary import Dictionary
from lmtrain.model.language_model import LanguageModel
from lmtrain.model_files.export import load_model
from lmtrain.model_files.flair import (
    load_dictionary,
    load_language_model,
    save_dictionary_for_flair,
    save_language_model,
)


def assert_equal(first, second):
    assert first.dictionary == second.dictionary
    assert (first.is_forward_lm, first.document_delimiter, first.level) == (
        second.is_forward_lm,
        second.document_delimiter,
        second.level,
    )
    weights, others = first.model.state_dict(), second.model.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


# ----- models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recurrent_type", ["LSTM", "lstm", "GRU"])
@pytest.mark.parametrize("nlayers", [1, 3])
@pytest.mark.parametrize("nout", [None, 5])
@pytest.mark.parametrize("has_decoder", [True, False])
def test_a_saved_model_is_loaded_as_it_was(tmp_path, recurrent_type, nlayers, nout, has_decoder):
    model = make(recurrent_type=recurrent_type, nlayers=nlayers, nout=nout, has_decoder=has_decoder).model
    saved = LanguageModel(model, Dictionary(ITEMS), is_forward_lm=False, document_delimiter="##", level="word")
    save_language_model(saved, tmp_path / "lm.pt")
    loaded = load_language_model(tmp_path / "lm.pt")
    assert_equal(loaded, saved)
    for name in ("hidden_size", "nlayers", "embedding_size", "nout", "dropout", "recurrent_type"):
        assert getattr(loaded.model.sizes, name) == getattr(model.sizes, name)
    assert not loaded.model.training


def test_a_loaded_model_can_be_trained(tmp_path):
    save_language_model(make(nlayers=2), tmp_path / "lm.pt")
    model = load_language_model(tmp_path / "lm.pt").model.train()
    ids = torch.zeros(6, 2, dtype=torch.long)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        loss, _ = model.loss(ids, ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > losses[-1]


def test_loading_draws_no_random_numbers(tmp_path):
    save_language_model(make(), tmp_path / "lm.pt")
    before = torch.get_rng_state()
    load_language_model(tmp_path / "lm.pt")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_model_is_the_same_bytes(tmp_path):
    model = make()
    for name in ("first.pt", "second.pt"):
        save_language_model(model, tmp_path / name)
    assert (tmp_path / "first.pt").read_bytes() == (tmp_path / "second.pt").read_bytes()


@pytest.mark.parametrize("flair", [None, "absent", "imported"])
def test_saving_needs_no_flair_and_leaves_it_as_it_was(tmp_path, monkeypatch, flair):
    for name in ("flair", "flair.data"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        if flair:
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name) if flair == "imported" else None)
    before = {name: module for name, module in sys.modules.items() if name.startswith("flair")}
    save_language_model(make(), tmp_path / "lm.pt")
    assert {name: module for name, module in sys.modules.items() if name.startswith("flair")} == before
    load_language_model(tmp_path / "lm.pt")
    assert {name: module for name, module in sys.modules.items() if name.startswith("flair")} == before


def test_the_bytes_are_those_of_pickle_itself_with_flairs_class(tmp_path, monkeypatch):
    model = make(["<unk>", *map(chr, range(0x4E00, 0x4E00 + 2500))], nout=2)
    save_language_model(model, tmp_path / "lm.pt")
    with flairs_dictionary() as flairs:
        monkeypatch.setattr("lmtrain.model_files.flair._FlairsDictionary", flairs)
        monkeypatch.setattr("lmtrain.model_files.flair._pickling", pickle)
        save_language_model(model, tmp_path / "expected.pt")
    assert (tmp_path / "lm.pt").read_bytes() == (tmp_path / "expected.pt").read_bytes()


def test_no_thread_sees_another_flair_while_a_model_is_saved(tmp_path, monkeypatch):
    for name in ("flair", "flair.data"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    before = {name: sys.modules[name] for name in ("flair", "flair.data")}
    seen, original = [], io.BytesIO.write

    class Looking(io.BytesIO):  # torch writes the pickle into one
        def write(self, data):
            seen.append({name: sys.modules[name] for name in before} == before)
            return original(self, data)

    monkeypatch.setattr("io.BytesIO", Looking)
    save_language_model(make(), tmp_path / "lm.pt")
    assert len(seen) > 0
    assert all(seen)


def test_a_failed_save_keeps_the_file_and_puts_flair_back(tmp_path, monkeypatch):
    save_language_model(make(), tmp_path / "lm.pt")
    before = (tmp_path / "lm.pt").read_bytes()

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    modules = sys.modules.get("flair"), sys.modules.get("flair.data")
    with pytest.raises(OSError, match="No space"):
        save_language_model(make(), tmp_path / "lm.pt")
    assert (tmp_path / "lm.pt").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "lm.pt"]
    assert (sys.modules.get("flair"), sys.modules.get("flair.data")) == modules


def test_half_a_character_can_be_saved(tmp_path):
    save_language_model(make(["<unk>", "\ud800"]), tmp_path / "lm.pt")
    assert len(load_language_model(tmp_path / "lm.pt").dictionary) == 2


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before archives"])
def test_a_checkpoint_of_ours_is_a_model(tmp_path, archive):
    saved = LanguageModel(make(nout=5, nlayers=2).model, Dictionary(ITEMS), False, "##", "word")
    write(lightning_content(saved), tmp_path / "last.ckpt", archive)
    assert_equal(load_language_model(tmp_path / "last.ckpt"), saved)


@pytest.mark.parametrize("missing", ["items", "is_forward_lm", "document_delimiter", "level", "model"])
def test_a_checkpoint_without_what_it_needs_says_so(tmp_path, missing):
    content = lightning_content(make())
    del content["lmtrain"][missing]
    torch.save(content, tmp_path / "last.ckpt")
    message = refused(tmp_path / "last.ckpt")
    assert "lacks" in message
    assert missing in message or missing == "items"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("items", "abc", "items are not a list of strings"),
        ("items", ["a", "a", "b", "c", "d"], "'a' more than once"),
        ("items", ["a"], "has the shape"),
        ("level", "syllable", "character or word is required"),
        ("model", [1], "model is not a dict"),
    ],
)
def test_a_checkpoint_with_wrong_values_says_so(tmp_path, name, value, said):
    content = lightning_content(make())
    content["lmtrain"][name] = value
    torch.save(content, tmp_path / "last.ckpt")
    assert said in refused(tmp_path / "last.ckpt")


REQUIRED = ["state_dict", "dictionary", "is_forward_lm", "hidden_size", "nlayers", "embedding_size", "nout", "dropout"]


def test_missing_entries_are_all_named(tmp_path):
    content = {name: value for name, value in flair_content().items() if name not in REQUIRED}
    write(content, tmp_path / "lm.pt")
    assert f"It lacks {', '.join(REQUIRED)}" in refused(tmp_path / "lm.pt")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("hidden_size", "4", "Its hidden_size is '4'; a whole number above 0 is required."),
        ("hidden_size", True, "Its hidden_size is True"),
        ("hidden_size", 4.0, "Its hidden_size is 4.0"),
        ("hidden_size", -4, "Its hidden_size is -4"),
        ("hidden_size", 5, "rnn.weight_ih_l0 has the shape (16, 3), but its dictionary and sizes require (20, 3)"),
        ("hidden_size", 2**62, "hidden_size=4611686018427387904, nlayers=1, embedding_size=3"),
        ("hidden_size", [[[[[[[]]]]]]], "Its hidden_size is [["),
        ("embedding_size", 10**30, "are too large for any model"),
        ("nlayers", 0, "Its nlayers is 0"),
        ("nlayers", 2, "it has only 7 tensors"),
        ("nlayers", 10**12, "Its nlayers is 1000000000000"),
        ("nout", 0, "Its nout is 0"),
        ("nout", 7, "lacks the weights proj.weight, proj.bias"),
        ("dropout", "0.1", "Its dropout is '0.1'; a number from 0 to 1"),
        ("dropout", float("nan"), "Its dropout is nan"),
        ("dropout", 1.5, "Its dropout is 1.5"),
        ("recurrent_type", "RNN", "Its recurrent_type is 'RNN'; one of LSTM, GRU, MINGRU is required."),
        ("recurrent_type", "GRU", "rnn.weight_ih_l0 has the shape"),
        ("recurrent_type", None, "Its recurrent_type is None"),
        ("has_decoder", "no", "Its has_decoder is 'no'; True or False"),
        ("is_forward_lm", 1, "Its is_forward_lm is 1"),
        ("document_delimiter", 10, "Its document_delimiter is 10"),
        ("state_dict", [], "Its state_dict is a list"),
        ("state_dict", {}, "too few for that"),
        ("state_dict", {"encoder.weight": 3}, "'encoder.weight' is not a tensor"),
        ("state_dict", {"encoder.weight": torch.zeros(5, 3, dtype=torch.long)}, "not a tensor of floating-point"),
        ("dictionary", {"idx2item": [b"a"]}, "Its dictionary is a dict"),
        ("dictionary", mappings(idx2item=[b"a"]), "The dictionary lacks item2idx"),
        ("dictionary", mappings(idx2item=[], item2idx={}), "no items"),
        ("dictionary", mappings(idx2item="ab", item2idx={}), "idx2item is not a list"),
        ("dictionary", mappings(idx2item=[b"a", 3], item2idx={}), "idx2item is not a list of bytes"),
        ("dictionary", mappings(idx2item=[b"a"], item2idx={b"a": 0}), "encoder.weight has the shape (5, 3)"),
        ("dictionary", mappings(idx2item=[b"a", b"a"], item2idx={b"a": 0}), "more than once"),
        ("dictionary", mappings(idx2item=[b"a", b"b"], item2idx={b"a": 0, b"b": 5}), "both must agree"),
        ("dictionary", mappings(idx2item=[b"a"], item2idx={b"a": 0, b"b": 1}), "both must agree"),
        ("dictionary", mappings(idx2item=[b"a"], item2idx=[0]), "item2idx is a list"),
        ("lmtrain", {"level": "syllable"}, "Its level is 'syllable'"),
        ("lmtrain", "character", "lmtrain is not a dict"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, name, value, said):
    write(flair_content(**{name: value}), tmp_path / "lm.pt")
    assert said in refused(tmp_path / "lm.pt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rnn.bias_hh_l0": None}, "lacks the weights rnn.bias_hh_l0"),
        ({"decoder.weight": None, "decoder.bias": None}, "lacks the weights decoder.weight, decoder.bias"),
        ({"attention.weight": torch.zeros(1)}, "'attention.weight'"),
        ({"encoder.weight": torch.zeros(6, 3)}, "encoder.weight has the shape (6, 3)"),
        ({"decoder.bias": torch.zeros(())}, "decoder.bias has the shape ()"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, change, said):
    weights = make().model.state_dict() | change
    weights = {name: tensor for name, tensor in weights.items() if tensor is not None}
    write(flair_content(state_dict=weights), tmp_path / "lm.pt")
    assert said in refused(tmp_path / "lm.pt")


def test_a_decoder_that_is_not_announced_is_left_out_as_in_flair(tmp_path):
    write(flair_content(has_decoder=False), tmp_path / "lm.pt")
    assert load_language_model(tmp_path / "lm.pt").model.decoder is None


def test_weights_that_are_not_numbers_are_loaded(tmp_path):
    model = make()
    torch.nn.init.constant_(model.model.encoder.weight, float("nan"))
    save_language_model(model, tmp_path / "lm.pt")
    assert load_language_model(tmp_path / "lm.pt").model.encoder.weight.isnan().all()


def test_a_model_without_decoder_says_what_it_cannot_do(tmp_path):
    save_language_model(make(has_decoder=False), tmp_path / "lm.pt")
    load_language_model(tmp_path / "lm.pt")
    message = refused(tmp_path / "lm.pt", partial(load_model, needs_decoder="be fine-tuned"))
    assert "It has no decoder, so it can embed but not be fine-tuned" in message


@pytest.mark.parametrize("load", [load_language_model, load_dictionary])
def test_files_that_cannot_be_read_are_named(tmp_path, load):
    assert "No such file" in refused(tmp_path / "none.pt", load)
    assert "Is a directory" in refused(tmp_path, load)
    (tmp_path / "empty").write_bytes(b"")
    assert "it is empty" in refused(tmp_path / "empty", load)


@pytest.mark.parametrize("content", [b"\0" * 500, b"<html>not found</html>", b"PK\x03\x04 torn", b"\x80\x04N.", b"{}"])
def test_files_of_other_kinds_are_not_models(tmp_path, content):
    (tmp_path / "lm.pt").write_bytes(content)
    assert "not a model that can be read" in refused(tmp_path / "lm.pt")


@pytest.mark.parametrize("archive", [True, False])
def test_what_is_no_dict_is_not_a_model(tmp_path, archive):
    torch.save([torch.zeros(2)], tmp_path / "lm.pt", _use_new_zipfile_serialization=archive)
    assert "It holds a list; a model file holds a dict" in refused(tmp_path / "lm.pt")


# ----- dictionaries -------------------------------------------------------------------------------------------

items = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), min_size=1, unique=True)


@settings(max_examples=40, deadline=None)
@given(items=items)
def test_every_dictionary_comes_back_from_flairs_format(tmp_path_factory, items):
    path = tmp_path_factory.mktemp("dictionary") / "mappings"
    save_dictionary_for_flair(Dictionary(items), path)
    assert load_dictionary(path) == Dictionary(items)


@settings(max_examples=40, deadline=None)
@given(items=st.lists(st.binary(max_size=3), min_size=1, unique=True), protocol=st.integers(0, 5))
def test_items_keep_their_bytes_even_if_they_are_not_utf8(tmp_path_factory, items, protocol):
    folder = tmp_path_factory.mktemp("dictionary")
    mapping = {"idx2item": items, "item2idx": {item: index for index, item in enumerate(items)}}
    (folder / "mappings").write_bytes(pickle.dumps(mapping, protocol))
    save_dictionary_for_flair(load_dictionary(folder / "mappings"), folder / "again")
    assert pickle.loads((folder / "again").read_bytes()) == mapping


@pytest.mark.parametrize("name", ["dictionary.json", "dictionary.pickle", "dictionary"])
def test_the_content_decides_not_the_name(tmp_path, name):
    dictionary = Dictionary(ITEMS)
    dictionary.save(tmp_path / name)
    assert load_dictionary(tmp_path / name) == dictionary
    save_dictionary_for_flair(dictionary, tmp_path / name)
    assert load_dictionary(tmp_path / name) == dictionary


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x04N.", "It holds a NoneType; a dictionary has idx2item and item2idx."),
        (pickle.dumps({"item2idx": {}}), "The dictionary lacks idx2item."),
        (pickle.dumps({}), "The dictionary lacks idx2item and item2idx."),
        (b"abc\n", "not a dictionary that can be read"),
        (b"PK\x03\x04", "not a dictionary but an archive"),
        (b'{"items": 3}', "is not a dictionary"),
        (b'{"items": ["a", "a"]}', "'a' more than once"),
        (b'{"items": ' + b"[" * 100_000, "is not a dictionary"),
        (b"[1]", "is not a dictionary"),
    ],
)
def test_what_is_no_dictionary_is_named(tmp_path, content, said):
    (tmp_path / "dictionary").write_bytes(content)
    assert said in refused(tmp_path / "dictionary", load_dictionary)


def test_json_that_people_edited_is_read(tmp_path):
    (tmp_path / "dictionary").write_text("\n  " + json.dumps({"items": ["<unk>", "ä"]}))
    assert load_dictionary(tmp_path / "dictionary") == Dictionary(["<unk>", "ä"])
