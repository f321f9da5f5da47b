"""A form in which a model is written for other programs."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from lmtrain.errors import UserError

if TYPE_CHECKING:
    from lmtrain.model.language_model import LanguageModel


class ExportFormat(ABC):
    """A form of a trained model in one file or more.

    What writes it is imported when it is called: the help needs no torch.

    Args:
        name: for --format.
        help: what the file is for, in a few words.
        suffix: what the file's name must end in; None for anything.
    """

    name: str
    help: str
    suffix: str | None = None

    @abstractmethod
    def write(self, language_model: "LanguageModel", path: Path) -> str | None:
        """Writes the model, whole or not at all.

        Returns:
            a sentence for the user, if there is something to say.

        Raises:
            UserError: the model cannot be written in this form.
        """

    def files(self, path: Path) -> list[Path]:
        """What `write` makes of a path; raises `UserError` if it cannot be called that."""
        if self.suffix and path.suffix != self.suffix:
            raise UserError(f"--output is {path}; with --format {self.name} it must end in {self.suffix}.")
        return [path]
