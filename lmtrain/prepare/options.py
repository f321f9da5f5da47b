"""The options of `prepare_corpus`, checked together before any file is read."""

import dataclasses

from lmtrain.data.formats.encodings import checked_encoding
from lmtrain.data.formats.reader import Wanted
from lmtrain.errors import UserError, raise_if_any
from lmtrain.prepare.cleaning import Cleaning
from lmtrain.prepare.languages import known_languages, script_code
from lmtrain.prepare.shuffling import Dealing


@dataclasses.dataclass(frozen=True)
class PrepareOptions:
    """How sources are read, cleaned and written.

    Args:
        format, field, language, split_at, errors, encoding: what is read of the sources, see `Wanted`.
        cleaning: the cleaning steps.
        dealing: de-duplication, the shares of validation and test, the seed of the order.
        split_size: approximate bytes of a training split.
        document_delimiter: the text that ends a document in the corpus.
        block_size: bytes of a source that one task reads.
    """

    format: str = "auto"
    field: str | None = None
    language: str | None = None
    split_at: str | None = None
    errors: str = "strict"
    encoding: str | None = None
    cleaning: Cleaning = dataclasses.field(default_factory=Cleaning)
    dealing: Dealing = dataclasses.field(default_factory=Dealing)
    split_size: int = 20_000_000
    document_delimiter: str = "\n"
    block_size: int = 32 << 20

    def wanted(self) -> Wanted:
        """The options that the readers of formats take."""
        return Wanted(
            self.format, self.field, self.language, self.split_at, self.errors, checked_encoding(self.encoding)
        )

    def check(self) -> None:
        """Raises `UserError` with all that is wrong."""
        problems = []
        for name in ("split_at", "document_delimiter"):
            if getattr(self, name) == "":
                problems.append(f"{flag(name)} is empty; it must be at least one character.")
        try:
            checked_encoding(self.encoding)
        except ValueError as error:
            problems.append(f"--encoding: {error}.")
        if self.split_size < 1:
            problems.append(f"--split-size {self.split_size}: it must be at least 1 byte.")
        for name in ("valid", "test"):
            share = getattr(self.dealing, name)
            if share is not None and not 0 < share < 1:
                problems.append(f"--{name} {share}: it must be a share between 0 and 1; training needs both texts.")
        if not problems and (self.dealing.valid or 0) + (self.dealing.test or 0) >= 1:
            problems.append(f"--valid {self.dealing.valid} and --test {self.dealing.test} leave nothing to train on.")
        low, high = self.cleaning.min_length, self.cleaning.max_length
        if low is not None and high is not None and low > high:
            problems.append(f"--min-length {low} is more than --max-length {high}.")
        for name in ("min_letters", "max_repeats", "max_markup", "script_share", "language_threshold"):
            share = getattr(self.cleaning, name)
            if share is not None and not 0 <= share <= 1:
                problems.append(f"{flag(name)} {share}: it must be a share between 0 and 1.")
        raise_if_any([*problems, *self._filter_problems()])

    def _filter_problems(self) -> list[str]:
        cleaning, dealing, problems = self.cleaning, self.dealing, []
        if dealing.max_copies is not None and dealing.max_copies < 1:
            problems.append(f"--max-copies {dealing.max_copies}: it must be at least 1.")
        if not dealing.deduplicate and (dealing.max_copies is not None or dealing.near_duplicates):
            problems.append("--max-copies and --near-duplicates leave out duplicates: leave out --keep-duplicates.")
        for name in cleaning.scripts:
            try:
                script_code(name)
            except UserError as error:
                problems += error.problems
        for flag, codes in (("--only-language", cleaning.languages), ("--not-language", cleaning.other_languages)):
            unknown = sorted(set(codes) - set(known_languages())) if codes else []
            problems += [
                f"{flag} {code}: the identifier does not know that language, only {' '.join(known_languages())}."
                + (" Name the languages to leave out with --not-language." if flag == "--only-language" else "")
                for code in unknown
            ]
        return problems


def flag(name: str) -> str:
    """The flag of scripts/prepare_corpus.py for an option."""
    return "--" + name.replace("_", "-")
