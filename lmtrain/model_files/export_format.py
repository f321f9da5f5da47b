"""The base class of a format in which a model is exported."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from lmtrain.errors import UserError

if TYPE_CHECKING:
    from lmtrain.model.language_model import LanguageModel


class ExportFormat(ABC):
    """A format that holds a trained model in one or more files.

    `write` imports what it needs itself, so that the help of the command needs no torch.

    Args:
        name: for --format.
        help: the purpose of the file, in a few words.
        suffix: the end that the file's name must have; None for any.
    """

    name: str
    help: str
    suffix: str | None = None

    @abstractmethod
    def write(self, language_model: "LanguageModel", path: Path) -> str | None:
        """Writes the model, whole or not at all.

        Returns:
            a sentence to print, or None.

        Raises:
            UserError: the model cannot be written in this format.
        """

    def files(self, path: Path) -> list[Path]:
        """The files that `write` makes; raises `UserError` if the path has another suffix."""
        if self.suffix and path.suffix != self.suffix:
            raise UserError(f"--output is {path}; with --format {self.name} it must end in {self.suffix}.")
        return [path]
