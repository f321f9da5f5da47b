"""Files that claim to be larger than they are, and damaged ones: each is refused in one line that names it."""

import io
import pickle
import random
import struct
import zipfile
from collections import OrderedDict

import pytest
import torch
from model_files import Calls, flair_content, lightning_content, make, refused, write

from lmtrain.data.dictionary import Dictionary
from lmtrain.errors import UserError
from lmtrain.model_files.flair import (
    load_dictionary,
    load_language_model,
    save_dictionary_for_flair,
    save_language_model,
)

both_formats = pytest.mark.parametrize("archive", [True, False], ids=["archive", "before archives"])


# ----- sizes --------------------------------------------------------------------------------------------------


def stored(tensor):
    return torch.storage.TypedStorage(wrap_storage=tensor.untyped_storage(), dtype=tensor.dtype, _internal=True)


def tensor_of(*geometry):
    """Pickles as a tensor of (offset, size, stride) over nine stored numbers."""
    return Calls(torch._utils._rebuild_tensor_v2, stored(torch.zeros(3, 3)), *geometry, False, OrderedDict())


@both_formats
@pytest.mark.parametrize(
    ("geometry", "said"),
    [
        ((0, (1 << 40,), (1,)), "reaches beyond its 9 stored numbers"),
        ((0, (1 << 40, 1 << 40), (1 << 40, 1)), "reaches beyond"),
        ((0, (1 << 40,), (0,)), "reaches beyond"),
        ((1, (3, 3), (3, 1)), "reaches beyond"),
        ((1 << 62, (3, 3), (3, 1)), "reaches beyond"),
        ((0, (3, 3), (4, 1)), "reaches beyond"),
        ((0, (3, 3), (1 << 62, 1)), "reaches beyond"),
        ((8, (3, 3), (-3, -1)), "impossible size"),
        ((-1, (3, 3), (3, 1)), "impossible size"),
        ((0, (-3, -3), (3, 1)), "impossible size"),
        ((0, (3, 3), (1,)), "impossible size"),
        ((0, (1,) * 1000, (1,) * 1000), "impossible size"),
        ((0, ("3", 3), (3, 1)), "impossible size"),
        ((0, [3, 3], [3, 1]), "kind that models do not have"),
    ],
)
def test_tensors_stay_inside_their_storage(tmp_path, geometry, said, archive):
    content = flair_content(state_dict={"encoder.weight": tensor_of(*geometry)})
    path = write(content, tmp_path / "lm.pt", archive)
    assert said in refused(path)


class StorageClaims(pickle.Pickler):
    """Pickles the text "a storage" as a storage of 4 TB."""

    def persistent_id(self, value):
        return ("storage", torch.FloatStorage, "0", "cpu", 1 << 40) if value == "a storage" else None


def test_storages_stay_inside_the_file(tmp_path):
    file = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(part, file)
    StorageClaims(file).dump({"state_dict": "a storage"})
    (tmp_path / "lm.pt").write_bytes(file.getvalue())
    assert "its storages claim 4398046511104 bytes, more than the file's" in refused(tmp_path / "lm.pt")
    pickled = io.BytesIO()
    StorageClaims(pickled).dump({"state_dict": "a storage"})
    path = repacked(write(flair_content(), tmp_path / "archive.pt"), {"archive/data.pkl": pickled.getvalue()})
    assert "its storage 0 claims 1099511627776 numbers" in refused(path)


def test_layers_that_share_one_storage_are_refused(tmp_path):
    """A thousand layers of the same weights: a small file for a model that fills the memory."""
    harmful = flair_content()
    harmful["nlayers"] = 1000
    square, bias = torch.zeros(16, 4), torch.zeros(16)
    harmful["embedding_size"] = 4
    harmful["state_dict"]["encoder.weight"] = torch.zeros(5, 4)
    for layer in range(1000):
        for side in ("ih", "hh"):
            harmful["state_dict"][f"rnn.weight_{side}_l{layer}"] = square
            harmful["state_dict"][f"rnn.bias_{side}_l{layer}"] = bias
    assert "Its tensors share storage" in refused(write(harmful, tmp_path / "lm.pt"))


# ----- archives -----------------------------------------------------------------------------------------------


def repacked(path, change=None, rename=None, method=zipfile.ZIP_STORED):
    """The same archive with entries changed, added or renamed."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    folder = next(iter(entries)).split("/")[0]
    change = {name.replace("archive/", f"{folder}/", 1): data for name, data in (change or {}).items()}
    rename = {name.replace("archive/", f"{folder}/", 1): new for name, new in (rename or {}).items()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in (entries | change).items():
            archive.writestr(rename.get(name, name), data)
    return path


def test_an_archive_repacked_without_change_is_read(tmp_path):
    assert load_language_model(repacked(write(flair_content(), tmp_path / "lm.pt"))).model.sizes.hidden_size == 4


def test_bombs_are_not_unpacked(tmp_path):
    path = write(flair_content(), tmp_path / "lm.pt")
    bomb = repacked(path, {"archive/data/0": bytes(100_000_000)}, method=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1_000_000
    assert "is compressed, which torch.save never does" in refused(bomb)


@pytest.mark.parametrize(("packed", "unpacked"), [(1 << 30, 1 << 30), (36, 1 << 30), (1 << 30, 36)])
def test_entries_are_no_larger_than_the_file(tmp_path, packed, unpacked):
    path = repacked(write(flair_content(), tmp_path / "lm.pt"))
    whole = bytearray(path.read_bytes())
    entry = whole.rindex(b"PK\x01\x02")
    struct.pack_into("<II", whole, entry + 20, packed, unpacked)
    path.write_bytes(whole)
    assert "lm/" in refused(path) or "claim" in refused(path)


PATHS = ["../data/0", "lm/../data/0", "/lm/data/0", "lm/./data/0", "lm\\data\\0", "other/data/0", "C:/data/0", "data"]


@pytest.mark.parametrize("name", PATHS)
def test_paths_lead_nowhere_else(tmp_path, name):
    path = repacked(write(flair_content(), tmp_path / "lm.pt"), rename={"archive/data/0": name})
    message = refused(path)
    assert "has a path that torch.save does not write" in message or "not in one folder" in message


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_exist_once(tmp_path):
    path = write(flair_content(), tmp_path / "lm.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("lm/data.pkl", pickle.dumps({}))
    assert "each once" in refused(path)


@pytest.mark.parametrize("entry", ["data.pkl", "data/0"])
def test_entries_that_lack_are_named(tmp_path, entry):
    path = repacked(write(flair_content(), tmp_path / "lm.pt"), rename={f"archive/{entry}": "lm/other"})
    assert f"it lacks the entry {entry}" in refused(path)


def test_another_machines_byte_order_is_refused(tmp_path):
    path = repacked(write(flair_content(), tmp_path / "lm.pt"), {"archive/byteorder": b"big"})
    assert "its byte order is big" in refused(path)


def test_torchscript_is_not_run(tmp_path):
    path = repacked(write(flair_content(), tmp_path / "lm.pt"), {"archive/constants.pkl": b"\x80\x02)."})
    with zipfile.ZipFile(path) as archive:
        assert any(name.endswith("constants.pkl") for name in archive.namelist())
    assert load_language_model(path).model.sizes.hidden_size == 4  # torch.load would take it for a program


# ----- damage -------------------------------------------------------------------------------------------------


def damaged_files(folder):
    """Small valid files of each format, with the function that reads them."""
    model = make()
    save_language_model(model, folder / "ours.pt")
    write(flair_content(), folder / "flair.pt")
    write(flair_content(), folder / "old.pt", archive=False)
    write(lightning_content(model), folder / "last.ckpt")
    save_dictionary_for_flair(model.dictionary, folder / "mappings")
    mapping = {"idx2item": [b"a", b"b"], "item2idx": {b"a": 0, b"b": 1}}
    (folder / "old mappings").write_bytes(pickle.dumps(mapping, 2))
    model.dictionary.save(folder / "dictionary.json")


FILES = ["ours.pt", "flair.pt", "old.pt", "last.ckpt", "mappings", "old mappings", "dictionary.json"]


def read_or_refuse(path):
    """Reads a damaged file: what comes out is a model of the same shape, a dictionary, or one line that names it."""
    try:
        if path.suffix in (".pt", ".ckpt"):
            loaded = load_language_model(path)
            shapes = {name: tensor.shape for name, tensor in loaded.model.state_dict().items()}
            assert shapes == {name: tensor.shape for name, tensor in make().model.state_dict().items()}
            return True
        return isinstance(load_dictionary(path), Dictionary)
    except UserError as error:
        (message,) = error.problems
        assert "\n" not in message
        assert str(path) in message
        return False


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_cut_short_are_refused(tmp_path, name):
    damaged_files(tmp_path)
    whole = (tmp_path / name).read_bytes()
    cuts = random.Random(1).sample(range(len(whole)), min(60, len(whole)))
    for cut in [*range(0, 20), *cuts, len(whole) - 1]:
        (tmp_path / name).write_bytes(whole[:cut])
        assert not read_or_refuse(tmp_path / name), f"cut at {cut} of {len(whole)}"


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_do_no_harm(tmp_path, name):
    damaged_files(tmp_path)
    whole = (tmp_path / name).read_bytes()
    choice = random.Random(2)
    refusals = 0
    for _ in range(250):
        damaged = bytearray(whole)
        position = choice.randrange(len(whole))
        damaged[position] ^= 1 << choice.randrange(8)
        (tmp_path / name).write_bytes(damaged)
        refusals += not read_or_refuse(tmp_path / name)
    assert refusals > 0
