"""Documents that are almost equal, found by MinHash (Broder 1997) in bands.

Two documents whose sets of character 5-grams have a Jaccard similarity of s agree in one of 14 bands of 8 values with
probability 1 - (1 - s^8)^14: 0.24 for s = 0.6, 0.56 for 0.7, 0.92 for 0.8, 0.9996 for 0.9.
"""

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lmtrain.errors import MissingPackage

BANDS, _ROWS, _LETTERS = 14, 8, 5
SHORTEST = 50  # characters; shorter documents differ by a word in much of what they are


def bands(documents: list[str], identities: np.ndarray) -> np.ndarray:
    """What documents must agree in to be near-duplicates.

    Args:
        identities: uint64 `(documents,)`, in place of the bands of short documents, which are like no other.

    Returns:
        uint64 `(documents, BANDS)`.
    """
    try:
        from datasketch import MinHash
    except ImportError:
        raise MissingPackage("--near-duplicates", "datasketch") from None
    found = np.repeat(identities[:, None], BANDS, axis=1)
    long = [place for place, document in enumerate(documents) if len(document) >= SHORTEST]
    if not long:
        return found
    shingles = (_shingles(documents[place]) for place in long)
    hashes = MinHash.generator(shingles, num_perm=BANDS * _ROWS, seed=1, hashfunc=zlib.crc32)
    values = np.stack([minhash.hashvalues for minhash in hashes]).astype(np.uint64).reshape(-1, BANDS, _ROWS)
    folded = np.zeros(values.shape[:2], dtype=np.uint64)
    for row in range(_ROWS):
        folded = (folded ^ values[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        folded ^= folded >> np.uint64(29)
    found[long] = folded
    return found


def _shingles(document: str) -> set[bytes]:
    data = document.casefold()
    return {data[begin : begin + _LETTERS].encode("utf-8", "replace") for begin in range(len(data) - _LETTERS + 1)}


def write_repeated(runs: Iterable[tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Writes the orders of the documents that agree in a band with one that comes before them, sorted, without
    repetition.

    Args:
        runs: of each, the documents' values in the band and their orders, uint64 `(documents,)`. All of them are held
            in memory, with what sorts them 41 bytes for each document.
    """
    values, orders = (np.concatenate(part) for part in zip(*runs, strict=True))
    places = np.lexsort((orders, values))
    values, orders = values[places], orders[places]
    first = np.ones(len(values), dtype=bool)
    first[1:] = values[1:] != values[:-1]
    leader = orders[np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))]
    np.save(path, np.unique(orders[orders != leader]))
