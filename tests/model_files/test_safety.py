"""Files that want to do harm: nothing in them is run, and each is refused in one line that names it."""

import copyreg
import operator
import os
import pickle
import shutil
import subprocess
import tracemalloc

import pytest
import torch
from model_files import Calls, flair_content, lightning_content, make, refused, write

from lmtrain.model_files.flair import load_dictionary, load_language_model

ITEMS = [b"<unk>", b"a", b"b"]
PICKLED = {"idx2item": ITEMS, "item2idx": {b"<unk>": 0, b"a": 1, b"b": 2}}
both_formats = pytest.mark.parametrize("archive", [True, False], ids=["archive", "before archives"])


@pytest.fixture(autouse=True)
def canary(tmp_path):
    """A file that would exist if something had been executed."""
    yield tmp_path / "executed"
    assert not (tmp_path / "executed").exists()


def with_harm(place, harm):
    """What a file of Flair's holds, with `harm` in one place of it."""
    content = flair_content()
    if place == "everything":
        return harm
    elif place == "hyperparameters":
        content["hidden_size"] = harm
    elif place == "another key":
        content["optimizer_state_dict"] = {"param_groups": [harm]}
    elif place == "state dict":
        content["state_dict"]["encoder.weight"] = harm
    elif place == "dictionary":
        content["dictionary"].add_unk = harm
    elif place == "dictionary's items":
        content["dictionary"].idx2item.append(harm)
    return content


# ----- running code -------------------------------------------------------------------------------------------

ATTACKS = {
    "os.system": lambda canary: Calls(os.system, f"touch {canary}"),
    "builtins.eval": lambda canary: Calls(eval, f"open({str(canary)!r}, 'w')"),
    "builtins.exec": lambda canary: Calls(exec, f"open({str(canary)!r}, 'w')"),
    "subprocess.Popen": lambda canary: Calls(subprocess.Popen, ["touch", str(canary)]),
    "builtins.open": lambda canary: Calls(open, str(canary), "w"),
    "shutil.copy": lambda canary: Calls(shutil.copy, __file__, str(canary)),
    "builtins.getattr": lambda canary: Calls(Calls(getattr, Calls(__import__, "os"), "system"), f"touch {canary}"),
    "operator.attrgetter": lambda canary: Calls(
        Calls(Calls(operator.attrgetter, "system"), Calls(__import__, "os")), f"touch {canary}"
    ),
    "operator.methodcaller": lambda canary: Calls(operator.methodcaller("touch"), canary),
    "torch.load": lambda canary: Calls(torch.load, str(canary)),
    "torch.hub.load": lambda canary: Calls(torch.hub.load, str(canary.parent), "model"),
    "builtins.dict": lambda canary: Calls(dict, [(1, str(canary))]),
}
PLACES = ["everything", "hyperparameters", "another key", "state dict", "dictionary", "dictionary's items"]


@pytest.mark.parametrize("attack", ["os.system", "shutil.copy", "builtins.getattr"])
def test_the_attacks_are_real(canary, attack):
    pickle.loads(pickle.dumps(ATTACKS[attack](canary)))
    assert canary.exists()
    canary.unlink()


@both_formats
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("attack", ["os.system", "builtins.eval", "subprocess.Popen"])
def test_no_place_in_a_model_is_safe_for_code(tmp_path, canary, attack, place, archive):
    path = write(with_harm(place, ATTACKS[attack](canary)), tmp_path / "lm.pt", archive)
    asked = attack.replace("os.", os.name + ".")  # posix.system
    assert f"it asks for {asked}, which is not allowed" in refused(path)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_global_is_called(tmp_path, canary, attack):
    harm = ATTACKS[attack](canary)
    assert "it asks for " in refused(write(with_harm("another key", harm), tmp_path / "lm.pt"))
    (tmp_path / "mappings").write_bytes(pickle.dumps(PICKLED | {"more": harm}))
    assert "it asks for " in refused(tmp_path / "mappings", load_dictionary)


@pytest.mark.parametrize("protocol", range(6))
def test_mappings_run_nothing(tmp_path, canary, protocol):
    harm = ATTACKS["os.system"](canary)
    (tmp_path / "mappings").write_bytes(pickle.dumps({"idx2item": [b"a", harm], "item2idx": {}}, protocol))
    assert f"it asks for {os.name}.system" in refused(tmp_path / "mappings", load_dictionary)


@both_formats
def test_checkpoints_run_nothing(tmp_path, canary, archive):
    harm = lightning_content(make()) | {"callbacks": {"ModelCheckpoint": ATTACKS["os.system"](canary)}}
    assert f"it asks for {os.name}.system" in refused(write(harm, tmp_path / "last.ckpt", archive))


@pytest.mark.parametrize("position", range(3))
def test_none_of_the_old_formats_pickles_runs_anything(tmp_path, canary, position):
    pickles = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    pickles[position] = ATTACKS["os.system"](canary)
    (tmp_path / "lm.pt").write_bytes(b"".join(map(pickle.dumps, pickles)))
    assert f"it asks for {os.name}.system" in refused(tmp_path / "lm.pt")


def test_the_old_formats_list_of_storages_runs_nothing(tmp_path, canary):
    path = write(flair_content(), tmp_path / "lm.pt", archive=False)
    whole = path.read_bytes()
    begin = whole.rindex(b"\x80\x04\x95")  # the last pickle is the list
    path.write_bytes(whole[:begin] + pickle.dumps(ATTACKS["os.system"](canary)))
    assert f"it asks for {os.name}.system" in refused(path)


DOTTED = ["collections OrderedDict.fromkeys.__globals__", "torch._utils _rebuild_tensor_v2.__globals__.get"]


@pytest.mark.parametrize("name", [*DOTTED, "flair.data Dictionary.load", "torch FloatStorage.from_file", "os \x1b[2J"])
def test_nothing_is_reached_through_what_is_allowed(tmp_path, name):
    module, name = (part.encode() for part in name.split(" ", 1))
    pickled = b"\x80\x04\x8c" + bytes([len(module)]) + module + b"\x8c" + bytes([len(name)]) + name + b"\x93."
    (tmp_path / "mappings").write_bytes(pickled)
    message = refused(tmp_path / "mappings", load_dictionary)
    assert "which is not allowed" in message
    assert message.isprintable()


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"\x80\x02\x83\x01\x00.", "instruction EXT2"),
        (b"\x80\x02\x84\x01\x00\x00\x00.", "instruction EXT4"),
        (b"Pstorage\n.", "instruction PERSID"),
        (b"(S'storage'\ntQ.", "refers to something outside"),
        (b"(S'true'\nios\nsystem\n.", "instruction INST"),
        (b"(cos\nsystem\nS'true'\no.", "asks for os.system"),
        (b"(cflair.data\nDictionary\no.", "instruction OBJ"),
        (b"cflair.data\nDictionary\n)R.", "calls something that is not a function"),
        (b"ccollections\nOrderedDict\n)\x81.", "makes an object that is not"),
        (b"cflair.data\nDictionary\n)\x81I1\nb.", "sets attributes of something"),
        (b"ctorch\nSize\n}b.", "sets attributes of something"),
        (b"ctorch\nSize\nI1\na.", "appends to something"),
        (b"ctorch\nSize\nI1\nI1\ns.", "sets items of something"),
        (b"c__builtin__\nint\n(S'1'\ntR.", "calls something that is not a function"),
        (b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR.", "not the latin1"),
        (b"}(((ttI1\ns.", "damaged"),
        (b"}(I1\ntI1\ns.", "a key of the type tuple"),
        (b"\x80\x04" + b")\x85" * 100_000 + b"}\x8c\x01a\x86.", "It holds a tuple"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "damaged"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "damaged"),
        (b"\x80\x05\x96" + b"\xff" * 5 + b"\0\0\0.", "instruction BYTEARRAY8"),
        (b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f.", "damaged"),
        (b"\x80\xff.", "damaged"),
        (b"]" + b"I1\n" * 5, "damaged"),
    ],
)
def test_pickle_instructions_do_no_harm(tmp_path, pickled, said):
    (tmp_path / "mappings").write_bytes(pickled)
    assert said in refused(tmp_path / "mappings", load_dictionary)


def test_registered_extensions_are_not_reached(tmp_path):
    copyreg.add_extension("builtins", "open", 1)
    try:
        (tmp_path / "mappings").write_bytes(b"\x80\x02\x82\x01X\x01\x00\x00\x00a\x85R.")
        assert "instruction EXT1" in refused(tmp_path / "mappings", load_dictionary)
    finally:
        copyreg.remove_extension("builtins", "open", 1)
        copyreg.clear_extension_cache()


def test_a_huge_memo_index_takes_no_memory(tmp_path):
    """C's unpickler would fill 32 GB with zeros."""
    (tmp_path / "mappings").write_bytes(pickle.dumps(PICKLED, 2)[:-1] + b"r\xff\xff\xff\x7f.")
    tracemalloc.start()
    assert len(load_dictionary(tmp_path / "mappings")) == len(ITEMS)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_dictionarys_state_is_never_an_attribute(tmp_path):
    """Set as attributes, such names would change what an object of ours is."""
    path = write(with_harm("dictionary", True), tmp_path / "lm.pt")
    loaded = load_language_model(path)
    harmful = flair_content()
    harmful["dictionary"].__dict__.update({"__class__": "x", "__setstate__": "x", "state": "x"})
    assert load_language_model(write(harmful, path)).dictionary == loaded.dictionary
