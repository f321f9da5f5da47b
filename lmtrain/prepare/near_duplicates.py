"""Finds documents that are almost equal, by MinHash (Broder 1997) in bands.

Two documents whose sets of character 5-grams have a Jaccard similarity of s agree in one of 14 bands of 8 values with
probability 1 - (1 - s^8)^14: 0.24 for s = 0.6, 0.56 for 0.7, 0.92 for 0.8, 0.9996 for 0.9.
"""

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lmtrain.errors import importing

BANDS, _ROWS, _LETTERS = 14, 8, 5
SHORTEST = 50  # characters; of shorter documents one word is so much that similarity says little


def bands(documents: list[str], identities: np.ndarray) -> np.ndarray:
    """A hash of each band of each document; documents that agree in one of their bands are near-duplicates.

    Args:
        identities: uint64 `(documents,)`, taken for all bands of documents shorter than `SHORTEST`, so that these are
            near-duplicates of equal documents only.

    Returns:
        uint64 `(documents, BANDS)`.
    """
    with importing("datasketch", "--near-duplicates"):
        from datasketch import MinHash
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
    """Writes the order of every document that agrees in a band with a document of lower order; sorted, each once.

    Args:
        runs: for each run the hashes of the band and the orders of the documents, uint64 `(documents,)`. All are held
            in memory, which takes 41 bytes for each document while they are sorted.
    """
    values, orders = (np.concatenate(arrays) for arrays in zip(*runs, strict=True))
    places = np.lexsort((orders, values))
    values, orders = values[places], orders[places]
    first = np.ones(len(values), dtype=bool)
    first[1:] = values[1:] != values[:-1]
    lowest = orders[np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))]  # of those with the same hash
    np.save(path, np.unique(orders[orders != lowest]))
