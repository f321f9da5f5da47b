"""Files of models and dictionaries go from real Flair to lmtrain and back without losing anything."""

import io
import pickle
import sys
from collections import OrderedDict
from dataclasses import replace
from functools import partial

import flair
import pytest
import torch
from flair.data import Dictionary as FlairDictionary
from flair.data import Sentence
from flair.embeddings import FlairEmbeddings
from flair.models import LanguageModel as FlairLanguageModel

from lmtrain.data.dictionary import Dictionary
from lmtrain.errors import UserError
from lmtrain.model.cells import CELLS
from lmtrain.model.language_model import LanguageModel, RecurrentLM, Sizes
from lmtrain.model_files.export import load_model
from lmtrain.model_files.flair import (
    load_dictionary,
    load_language_model,
    save_dictionary_for_flair,
    save_for_lmtrain,
    save_language_model,
)

ITEMS = ["<unk>", "a", "b", "ä", "😀", "\n", " ", "T", "h"]
SIZES = ("hidden_size", "nlayers", "embedding_size", "nout", "dropout", "recurrent_type")
KINDS = {
    "lstm": {},
    "LSTM of three layers": {"nlayers": 3, "dropout": 0.5, "recurrent_type": "LSTM"},
    "projected": {"nout": 6},
    "GRU": {"recurrent_type": "GRU"},
    "gru of two layers, projected": {"recurrent_type": "gru", "nlayers": 2, "nout": 4},
    "backward by another delimiter": {"is_forward_lm": False, "document_delimiter": "<doc>"},
    "without dropout": {"dropout": 0},
    "without decoder": {"has_decoder": False},
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def flair_dictionary(items=ITEMS):
    dictionary = FlairDictionary(add_unk="<unk>" in items)
    for item in items:
        dictionary.add_item(item)
    return dictionary


def flair_model(dictionary=None, **kind):
    torch.manual_seed(1)
    arguments = {"is_forward_lm": True, "hidden_size": 8, "nlayers": 1, "embedding_size": 5, "dropout": 0.1} | kind
    return FlairLanguageModel(dictionary or flair_dictionary(), **arguments)


def our_model(items=ITEMS, level="character", has_decoder=True, **kind):
    torch.manual_seed(2)
    about = {name: kind.pop(name) for name in ("is_forward_lm", "document_delimiter") if name in kind}
    model = RecurrentLM(Sizes(len(items), **({"hidden_size": 8, "embedding_size": 5} | kind)), has_decoder)
    return LanguageModel(model.eval(), Dictionary(items), level=level, **about)


def assert_same_tensors(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype
        assert first[name].numpy().tobytes() == second[name].numpy().tobytes()


def assert_same(flairs, ours):
    """Every field of Flair's model, every byte of its tensors and every item is in ours."""
    assert_same_tensors(flairs, ours.model)
    assert flairs.dictionary.idx2item == [item.encode("utf-8", "surrogateescape") for item in ours.dictionary.items]
    assert flairs.dictionary.item2idx == {item: index for index, item in enumerate(flairs.dictionary.idx2item)}
    assert flairs.dictionary.add_unk == ours.dictionary.has_unk
    assert flairs.is_forward_lm == ours.is_forward_lm
    assert flairs.document_delimiter == ours.document_delimiter
    assert {name: getattr(flairs, name) for name in SIZES} == {name: getattr(ours.model.sizes, name) for name in SIZES}
    assert (flairs.decoder is None) == (ours.model.decoder is None)


def saved_state(model):
    """What Flair writes for a model, as a dict to take keys from."""
    file = io.BytesIO()
    torch.save(model.__getstate__(), file)
    file.seek(0)
    return torch.load(file, weights_only=False)


# ----- from Flair ---------------------------------------------------------------------------------------------


@each_kind
def test_flairs_models_are_read(tmp_path, kind):
    model = flair_model(**kind)
    model.save(tmp_path / "best-lm.pt")
    assert_same(model, load_language_model(tmp_path / "best-lm.pt"))


@each_kind
def test_a_model_computes_what_it_computes_in_flair(tmp_path, kind):
    model = flair_model(**kind).eval()
    model.save(tmp_path / "best-lm.pt")
    ours = load_language_model(tmp_path / "best-lm.pt")
    ids = torch.randint(len(ITEMS), (7, 3))
    with torch.no_grad():
        expected, state = model(ids, model.init_hidden(3), decode=False)
        output, hidden = ours.model(ids)
    assert torch.equal(output, expected)
    assert all(map(torch.equal, hidden, state))


@pytest.mark.parametrize("name", ["checkpoint.pt", "epoch_3.pt"])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_flairs_checkpoints_are_read(tmp_path, name, optimizer):
    model = flair_model()
    optimizer = optimizer(model.parameters(), lr=0.1)
    ids = torch.randint(len(ITEMS), (7, 3))
    model(ids, model.init_hidden(3))[0].sum().backward()
    optimizer.step()
    model.save_checkpoint(tmp_path / name, optimizer, epoch=3, split=2, loss=1.5)
    assert_same(model, load_language_model(tmp_path / name))


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before archives"])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("missing", [(), ("recurrent_type",), ("recurrent_type", "document_delimiter", "has_decoder")])
def test_files_of_every_age_are_read(tmp_path, archive, protocol, missing):
    model = flair_model()
    state = {name: value for name, value in saved_state(model).items() if name not in missing}
    for attribute in ("add_unk", "multi_label", "span_labels")[: len(missing)]:
        del state["dictionary"].__dict__[attribute]
    torch.save(state, tmp_path / "lm.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    ours = load_language_model(tmp_path / "lm.pt")
    ours.model.sizes = replace(ours.model.sizes, recurrent_type=model.recurrent_type)
    assert_same(model, ours)


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before archives"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_types_are_read_as_flair_reads_them(tmp_path, archive, dtype):
    state = saved_state(flair_model())
    state["state_dict"] = OrderedDict((name, tensor.to(dtype)) for name, tensor in state["state_dict"].items())
    torch.save(state, tmp_path / "lm.pt", _use_new_zipfile_serialization=archive)
    assert_same(FlairLanguageModel.load_language_model(tmp_path / "lm.pt"), load_language_model(tmp_path / "lm.pt"))


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before archives"])
def test_weights_saved_on_a_gpu_are_read_on_the_cpu(tmp_path, monkeypatch, archive):
    model = flair_model(nlayers=2)
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        torch.save(model.__getstate__(), tmp_path / "lm.pt", _use_new_zipfile_serialization=archive)
    assert b"cuda:0" in (tmp_path / "lm.pt").read_bytes()
    ours = load_language_model(tmp_path / "lm.pt")
    assert {parameter.device.type for parameter in ours.model.parameters()} == {"cpu"}
    assert_same(model, ours)


def test_weights_that_share_one_flat_buffer_are_read(tmp_path):
    """On a GPU, cuDNN keeps all weights of an LSTM in one buffer, which is saved once."""
    model = flair_model()
    state = saved_state(model)
    flat = torch.cat([tensor.flatten() for tensor in state["state_dict"].values()])
    begin = 0
    for name, tensor in list(state["state_dict"].items()):
        state["state_dict"][name] = flat[begin : begin + tensor.numel()].view(tensor.shape)
        begin += tensor.numel()
    torch.save(state, tmp_path / "lm.pt")
    assert_same(model, load_language_model(tmp_path / "lm.pt"))


def test_a_dictionary_that_has_been_used_is_read(tmp_path):
    model = flair_model()
    model.get_representation(["ab", "a"], "\n", "\n")
    assert hasattr(model.dictionary, "item2idx_not_encoded")
    model.save(tmp_path / "lm.pt")
    torch.save(model.__getstate__(), tmp_path / "old.pt", pickle_protocol=2)
    assert_same(model, load_language_model(tmp_path / "lm.pt"))
    assert_same(model, load_language_model(tmp_path / "old.pt"))


def test_a_dictionary_without_unk_stays_without(tmp_path):
    model = flair_model(flair_dictionary(["a", "b", " "]))
    model.save(tmp_path / "lm.pt")
    ours = load_language_model(tmp_path / "lm.pt")
    assert not ours.dictionary.has_unk
    assert_same(model, ours)


def test_a_model_without_decoder_says_what_it_cannot_do(tmp_path):
    flair_model(has_decoder=False).save(tmp_path / "lm.pt")
    assert load_language_model(tmp_path / "lm.pt").model.decoder is None
    with pytest.raises(UserError, match=r"lm\.pt: It has no decoder, so it can embed but not generate text"):
        load_model(tmp_path / "lm.pt", needs_decoder="generate text")


# ----- to Flair -----------------------------------------------------------------------------------------------


@each_kind
def test_flair_reads_our_models(tmp_path, kind):
    ours = our_model(**kind)
    save_language_model(ours, tmp_path / "best-lm.pt")
    flairs = FlairLanguageModel.load_language_model(tmp_path / "best-lm.pt")
    assert_same(flairs, ours)
    assert (flairs.dictionary.multi_label, flairs.dictionary.span_labels) == (False, False)
    assert type(flairs.dictionary) is FlairDictionary


def test_flair_reads_a_word_level_model(tmp_path):
    ours = our_model(["<unk>", "the", "Straße"], level="word")
    save_language_model(ours, tmp_path / "lm.pt")
    assert_same(FlairLanguageModel.load_language_model(tmp_path / "lm.pt"), ours)
    assert load_language_model(tmp_path / "lm.pt").level == "word"


@each_kind
def test_flair_embeds_with_our_models(tmp_path, kind):
    ours = our_model(**kind)
    save_language_model(ours, tmp_path / "lm.pt")
    sentence = Sentence("Th ab a", use_tokenizer=False)
    FlairEmbeddings(str(tmp_path / "lm.pt")).embed(sentence)
    assert sentence[1].embedding.shape == (ours.model.sizes.output_size,)
    read, rest = ("Th ab ", "a ") if ours.is_forward_lm else ("a ba ", "hT ")
    text, end = ours.document_delimiter + read + rest, len(ours.document_delimiter + read)
    with torch.no_grad():
        output, _ = ours.model(torch.from_numpy(ours.dictionary.encode(text))[:, None])
    torch.testing.assert_close(sentence[1].embedding, output[end - 1, 0])


def test_flair_generates_and_scores_with_our_models(tmp_path):
    ours = our_model()
    save_language_model(ours, tmp_path / "lm.pt")
    flairs = FlairLanguageModel.load_language_model(tmp_path / "lm.pt")
    text, _ = flairs.generate_text("Th", 20)
    assert text.startswith("Th")
    ids = torch.from_numpy(ours.dictionary.encode("Th ab ä"))[:, None]
    with torch.no_grad():
        loss, _ = ours.model.loss(ids[:-1], ids[1:])
    assert flairs.calculate_perplexity("Th ab ä") == pytest.approx(loss.exp().item())


def test_saving_leaves_flair_as_it_was(tmp_path):
    before = sys.modules["flair"], sys.modules["flair.data"]
    save_language_model(our_model(), tmp_path / "lm.pt")
    assert (sys.modules["flair"], sys.modules["flair.data"]) == before
    assert flair.data.Dictionary is FlairDictionary


# ----- there and back -----------------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("items", [ITEMS, ["a", "b"]], ids=["with unk", "without"])
def test_there_and_back_changes_nothing(tmp_path, kind, items):
    first = flair_model(flair_dictionary(items), **kind)
    first.save(tmp_path / "flair.pt")
    save_language_model(load_language_model(tmp_path / "flair.pt"), tmp_path / "ours.pt")
    second = FlairLanguageModel.load_language_model(tmp_path / "ours.pt")
    second.save(tmp_path / "again.pt")
    third = load_language_model(tmp_path / "again.pt")
    assert_same_tensors(first, second)
    assert first.dictionary.__dict__ == second.dictionary.__dict__
    expected, found = saved_state(first), saved_state(second)
    for name in expected.keys() - {"state_dict", "dictionary"}:
        assert found[name] == expected[name]
    assert_same(first, third)


def test_an_item_that_is_not_utf8_comes_back_as_it_was(tmp_path):
    dictionary = flair_dictionary()
    dictionary.idx2item.append(b"\xff\xc3")
    dictionary.item2idx[b"\xff\xc3"] = len(ITEMS)
    model = flair_model(dictionary)
    model.save(tmp_path / "flair.pt")
    ours = load_language_model(tmp_path / "flair.pt")
    assert_same(model, ours)
    ours.dictionary.save(tmp_path / "dictionary.json")
    assert load_dictionary(tmp_path / "dictionary.json") == ours.dictionary
    save_language_model(ours, tmp_path / "ours.pt")
    assert_same(FlairLanguageModel.load_language_model(tmp_path / "ours.pt"), ours)


# ----- dictionaries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [ITEMS, ["a", "b"]], ids=["with unk", "without"])
def test_flairs_dictionaries_are_read(tmp_path, items):
    flair_dictionary(items).save(tmp_path / "mappings")
    assert load_dictionary(tmp_path / "mappings") == Dictionary(items)


@pytest.mark.parametrize("items", [ITEMS, ["a", "b"]], ids=["with unk", "without"])
def test_flair_reads_our_dictionaries(tmp_path, items):
    save_dictionary_for_flair(Dictionary(items), tmp_path / "mappings")
    assert FlairDictionary.load_from_file(tmp_path / "mappings") == flair_dictionary(items)
    assert FlairDictionary.load(str(tmp_path / "mappings")).__dict__ == flair_dictionary(items).__dict__


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", [bytes, str])
def test_mappings_of_every_protocol_are_read(tmp_path, protocol, kind):
    items = [item.encode() if kind is bytes else item for item in ITEMS]
    mapping = {"idx2item": items, "item2idx": {item: index for index, item in enumerate(items)}}
    (tmp_path / "mappings").write_bytes(pickle.dumps(mapping, protocol))
    assert FlairDictionary.load_from_file(tmp_path / "mappings").idx2item == items
    assert load_dictionary(tmp_path / "mappings") == Dictionary(ITEMS)


PYTHON_2 = {
    0: b"(dp0\nS'idx2item'\np1\n(lp2\nS'<unk>'\np3\naS'\\xe4'\np4\nasS'item2idx'\np5\n(dp6\ng3\nI0\nsg4\nI1\nss.",
    1: b"}q\x00(U\x08idx2itemq\x01]q\x02(U\x05<unk>q\x03U\x01\xe4q\x04e"
    b"U\x08item2idxq\x05}q\x06(h\x03K\x00h\x04K\x01uu.",
}
PYTHON_2[2] = b"\x80\x02" + PYTHON_2[1]


@pytest.mark.parametrize("protocol", PYTHON_2)
def test_python_2s_mappings_are_read(tmp_path, protocol):
    (tmp_path / "mappings").write_bytes(PYTHON_2[protocol])
    expected = FlairDictionary.load_from_file(tmp_path / "mappings").idx2item
    assert list(load_dictionary(tmp_path / "mappings").items) == expected == ["<unk>", "ä"]


@pytest.mark.parametrize("options", [{}, {"has_decoder": False}])  # without one Flair takes weights that do not fit
def test_a_model_with_a_cell_that_flair_does_not_have_is_not_taken_for_another(tmp_path, monkeypatch, options):
    monkeypatch.setitem(CELLS, "NEW", CELLS["GRU"])  # with the very weights of a GRU
    save_for_lmtrain(our_model(recurrent_type="NEW"), tmp_path / "best-lm.pt")
    for load in (FlairEmbeddings, partial(FlairLanguageModel.load_language_model, **options)):
        with pytest.raises(
            ModuleNotFoundError, match=r"No module named 'such a recurrent cell in Flair.*with lmtrain'"
        ):
            load(str(tmp_path / "best-lm.pt"))
    assert load_language_model(tmp_path / "best-lm.pt").model.sizes.recurrent_type == "NEW"
