"""Reads files of torch.save, of the present format (archives) and the old one, as plain data and tensors.

1. Archives may hold only what torch.save writes: uncompressed entries in one folder, together no larger than the file.
2. A storage must lie inside the file, and a tensor inside its storage.
3. The pickles in a file are read by `lmtrain.model_files.safe_pickle`.

torch.load with a restricted `pickle_module` would do the third, but it also unpacks tar archives, runs TorchScript,
writes patch files into the working directory, and grows a storage to whatever size a tensor claims.
"""

import io
import mmap
import os
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from lmtrain.model_files.safe_pickle import ForbiddenGlobal, Refused, Unpickler, naming, printable

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the beginning of files of the old format (torch < 1.6)


def read_torch_file(path: str | Path) -> Any:
    """The content of a file that torch.save wrote, in its present or its old format, with tensors on the CPU.

    A pickled `flair.data.Dictionary` becomes a `FlairDictionary`.

    Raises:
        UserError: the file is missing, damaged, claims more data than it has, or asks for a global that is not allowed.
    """
    with naming(path, "model"), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise Refused("it is empty")
        if file.read(4) == b"PK\x03\x04":
            return _read_archive(file, size)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _read_legacy(content, size)


def _flat(buffer: bytearray, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(buffer, dtype=dtype) if buffer else torch.empty(0, dtype=dtype)


def _read_archive(file: BinaryIO, size: int) -> Any:
    """The present format: `<folder>/data.pkl` refers by key to the storages `<folder>/data/<key>`."""
    with zipfile.ZipFile(file) as archive:
        folder = _check_entries(archive, size)

        def read(name: str) -> bytes:
            try:
                return archive.read(f"{folder}/{name}")  # compares the entry with its checksum
            except KeyError:
                raise Refused(f"it lacks the entry {printable(name)}, which torch.save writes") from None

        if f"{folder}/byteorder" in archive.namelist():
            _check_byte_order(read("byteorder").decode("ascii", "replace"))
        buffers: dict[str, bytearray] = {}

        def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
            if key not in buffers:
                buffers[key] = bytearray(read(f"data/{key}"))
            _check_length(key, dtype, count, len(buffers[key]))
            return _flat(buffers[key], dtype)

        return Unpickler(io.BytesIO(read("data.pkl")), storage).load()


def _check_entries(archive: zipfile.ZipFile, size: int) -> str:
    """The one folder that all entries are in; refuses everything that torch.save does not write."""
    folders = set()
    for entry in archive.infolist():
        name = entry.orig_filename
        parts = name.split("/")
        if len(parts) < 2 or {"", ".", ".."} & set(parts) or "\\" in name or "\0" in name or ":" in parts[0]:
            raise Refused(f"its entry {printable(name)} has a path that torch.save does not write")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise Refused(f"its entry {printable(name)} is compressed, which torch.save never does")
        folders.add(parts[0])
    if len(folders) != 1 or len(set(archive.namelist())) != len(archive.namelist()):
        raise Refused("its entries are not in one folder, each once, as torch.save writes them")
    inside = sum(entry.file_size for entry in archive.infolist())
    if inside > size:
        raise Refused(f"its entries claim {inside} bytes, more than the file's {size}")
    return folders.pop()


def _read_legacy(file: mmap.mmap, size: int) -> Any:
    """The old format: five pickles (magic number, version, system, content, keys), then the storages' bytes."""
    _check_magic(file)
    _version, system = Unpickler(file).load(), Unpickler(file).load()
    _check_byte_order("little" if system["little_endian"] else "big")
    storages: dict[str, tuple[torch.dtype, bytearray]] = {}

    def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
        if key not in storages:
            claimed = count * dtype.itemsize + sum(len(buffer) for _, buffer in storages.values())
            if claimed > size:
                raise Refused(f"its storages claim {claimed} bytes, more than the file's {size}")
            storages[key] = dtype, bytearray(count * dtype.itemsize)
        _check_length(key, dtype, count, len(storages[key][1]))
        return _flat(storages[key][1], dtype)

    content = Unpickler(file, storage).load()
    keys = Unpickler(file).load()
    if type(keys) is not list or any(type(key) is not str for key in keys) or sorted(keys) != sorted(storages):
        raise Refused("the storages that it lists are not those that its tensors need")
    for key in keys:
        dtype, buffer = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        _check_length(key, dtype, count, len(buffer))
        data = file.read(len(buffer))
        if len(data) != len(buffer):
            raise Refused("it is cut short; copy it again")
        buffer[:] = data  # which the tensors are views of
    return content


def _check_magic(file: mmap.mmap) -> None:
    try:
        magic = Unpickler(file).load()
    except ForbiddenGlobal:
        raise
    except Exception:  # it may be any file at all
        magic = None
    if magic != _LEGACY_MAGIC:
        raise Refused("it is not a file that torch.save wrote")


def _check_byte_order(order: str) -> None:
    if order != sys.byteorder:
        raise Refused(f"its byte order is {printable(order)}, this machine's is {sys.byteorder}; save it again here")


def _check_length(key: str, dtype: torch.dtype, count: int, held: int) -> None:
    if count * dtype.itemsize != held:
        raise Refused(f"its storage {printable(key)} claims {count} numbers ({dtype}) but has {held} bytes")
