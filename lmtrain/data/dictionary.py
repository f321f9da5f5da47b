"""Items ↔ ids: the dictionary of a language model, and the JSON file that people can read and edit."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from lmtrain.errors import UserError
from lmtrain.program.files import atomic_write

UNK = "<unk>"
_CODE_POINTS = 0x110000


class Dictionary:
    """The items that a model knows: characters, or words at word level.

    Ids are positions in `items`. As in Flair, an item that is not in the dictionary gets id 0 if the
    dictionary has `<unk>` (which stands at 0), and cannot be encoded otherwise.

    Args:
        items: distinct strings, in the order of their ids.
    """

    def __init__(self, items: Iterable[str]) -> None:
        self.items: tuple[str, ...] = tuple(items)
        self.ids: dict[str, int] = {item: index for index, item in enumerate(self.items)}
        if not self.items:
            raise UserError("The dictionary has no items.")
        if len(self.ids) != len(self.items):
            twice = [item for item, count in Counter(self.items).items() if count > 1]
            raise UserError(f"The dictionary holds {twice[0]!r} more than once.")

    def __len__(self) -> int:
        return len(self.items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dictionary) and self.items == other.items

    def __hash__(self) -> int:
        return hash(self.items)

    def __reduce__(self) -> tuple:
        return Dictionary, (self.items,)  # without the cached tables, which are large and made again when needed

    def __repr__(self) -> str:
        return f"Dictionary({len(self)} items, {'with' if self.has_unk else 'without'} {UNK})"

    @property
    def has_unk(self) -> bool:
        return UNK in self.ids

    @cached_property
    def dtype(self) -> np.dtype:
        """The smallest unsigned type that holds every id and `missing`."""
        return np.min_scalar_type(len(self))

    @property
    def missing(self) -> int:
        """The id given to items that are not in the dictionary: 0 with `<unk>`, else V, which is no id."""
        return 0 if self.has_unk else len(self)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the items and their order, 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.items).encode()).hexdigest()[:16]

    @cached_property
    def _id_of_code_point(self) -> np.ndarray:
        table = np.full(_CODE_POINTS, self.missing, dtype=self.dtype)
        for item, index in self.ids.items():
            if len(item) == 1:
                table[ord(item)] = index
        return table

    def encode_code_points(self, code_points: np.ndarray) -> np.ndarray:
        """uint32 code points `(N,)` → ids `(N,)` of type `dtype`; `missing` where an item has none."""
        return self._id_of_code_point[code_points]

    def encode_words(self, words: Sequence[str]) -> np.ndarray:
        """Words → ids `(N,)` of type `dtype`; `missing` where a word has none."""
        missing = self.missing
        get = self.ids.get
        return np.fromiter((get(word, missing) for word in words), dtype=self.dtype, count=len(words))

    def are_unknown(self, items: np.ndarray | Sequence[str], ids: np.ndarray) -> np.ndarray:
        """Which items are not in the dictionary, bool `(N,)`.

        Args:
            items: code points, or words, among which `<unk>` itself is an item like any other.
            ids: what they were encoded to.
        """
        unknown = ids == self.missing
        if not isinstance(items, np.ndarray) and self.has_unk and unknown.any():
            unknown &= np.fromiter((word != UNK for word in items), dtype=bool, count=len(items))
        return unknown

    def encode(self, text: str) -> np.ndarray:
        """The characters of a text → int64 ids `(N,)`.

        Raises:
            UserError: a character is not in a dictionary without `<unk>`.
        """
        ids = self.encode_code_points(code_points(text)).astype(np.int64)
        if not self.has_unk and (ids == self.missing).any():
            character = text[int(np.argmax(ids == self.missing))]
            raise UserError(
                f"The character {character!r} is not in the dictionary, which has no {UNK} to stand for it. Take "
                "it out of the text, or use a model whose dictionary has it."
            )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.items[index] for index in ids)

    def case_tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Two arrays `(V,)` of type `dtype`: the id of every item in lower and in upper case.

        An item keeps its id where the other case has no id or is longer (`ß` → `SS`), so that changing the
        case on ids changes neither length nor coverage. (Flair changes the text, and may do both.)
        """

        def table(change) -> np.ndarray:
            changed = (self.ids.get(change(item), index) for index, item in enumerate(self.items))
            return np.fromiter(changed, dtype=self.dtype, count=len(self))

        lower, upper = table(str.lower), table(str.upper)
        if self.has_unk:
            lower[0] = upper[0] = 0
        return lower, upper

    def save(self, path: str | Path) -> None:
        """Writes a JSON file that `load` reads and people can edit."""
        content = {"format": "lmtrain dictionary", "version": 1, "items": list(self.items)}
        with atomic_write(path) as unfinished, unfinished.open("w", encoding="utf-8", errors="surrogatepass") as file:
            json.dump(content, file, ensure_ascii=False, indent=0)

    @classmethod
    def load(cls, path: str | Path) -> "Dictionary":
        """Reads the JSON that `save` writes.

        Raises:
            UserError: the file is missing or is not such a file.
        """
        try:
            text = Path(path).read_bytes().decode("utf-8", "surrogatepass")
            items = json.loads(text.removeprefix("\ufeff"))["items"]
            if not (isinstance(items, list) and all(isinstance(item, str) for item in items)):
                raise TypeError("items is not a list of strings")
        except OSError as error:
            raise UserError(f"The dictionary {path} cannot be read: {error.strerror}.") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path} is not a dictionary: {error}. scripts/build_dictionary.py makes one.") from None
        try:
            return cls(items)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @classmethod
    def from_counts(
        cls, counts: Counter[str], *, min_count: int = 1, coverage: float = 1.0, max_size: int | None = None
    ) -> "Dictionary":
        """`<unk>` and the counted items, most frequent first (ties in the order of code points).

        Args:
            counts: how often each item occurs.
            min_count: rarer items are left out.
            coverage: as many items as it takes to cover this share of all occurrences.
            max_size: at most this many items, `<unk>` not counted.
        """
        total = sum(counts.values())
        chosen, covered = [], 0
        for item, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
            if count < min_count or covered >= coverage * total or len(chosen) == max_size:
                break
            covered += count
            if item != UNK:
                chosen.append(item)
        return cls([UNK, *chosen])

    @classmethod
    def general(cls) -> "Dictionary":
        """`dictionary=chars`: characters for most texts in Latin, Greek and Cyrillic script.

        ASCII, Latin-1, Latin Extended-A, Greek and Coptic, Cyrillic, general punctuation and currency signs.
        """
        blocks = [(0x20, 0x7F), (0xA0, 0x180), (0x370, 0x400), (0x400, 0x530), (0x2010, 0x2028), (0x2030, 0x205F)]
        blocks += [(0x20A0, 0x20C0), (0x2116, 0x2117), (0x2122, 0x2123)]
        characters = (chr(code) for start, stop in blocks for code in range(start, stop))
        assigned = (character for character in characters if character.isprintable() or character == "\xa0")
        return cls([UNK, "\n", "\t", *assigned])


def code_points(text: str) -> np.ndarray:
    """The code points of a text, uint32 `(N,)`; lone surrogates are kept."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
