"""The order in which Lightning calls the callbacks of a run, and why it is this one."""

from collections.abc import Iterable

from lightning.pytorch import Callback

from lmtrain.training.callbacks.anneal_on_plateau import AnnealOnPlateau
from lmtrain.training.callbacks.anneal_over_run import AnnealOverRun
from lmtrain.training.callbacks.best_model import BestModel
from lmtrain.training.callbacks.checkpoint import RunCheckpoint
from lmtrain.training.callbacks.ending import Ending
from lmtrain.training.callbacks.folder_watch import FolderWatch
from lmtrain.training.callbacks.monitor import Monitor
from lmtrain.training.callbacks.progress import RunProgress
from lmtrain.training.callbacks.save_points import SavePoints
from lmtrain.training.callbacks.settings_watch import SettingsWatch
from lmtrain.training.callbacks.text_samples import TextSamples
from lmtrain.training.callbacks.validation_schedule import ValidationSchedule

ORDER: dict[type[Callback], str] = {
    SettingsWatch: "ends a run whose settings a callback has changed, before `SavePoints` saves it",
    SavePoints: "saves before a window or a validation, and so before others do what a resumed run does again: count "
    "windows, exchange weights",
    FolderWatch: "makes a removed run folder again, before others write into it",
    ValidationSchedule: "decides before a window whether a validation follows it; its place does not matter",
    AnnealOnPlateau: "lowers the rate after a validation, before it is reported and saved",
    AnnealOverRun: "likewise, before each window",
    Ending: "notes the figures of a validation, before they are saved",
    BestModel: "saves the weights that were validated, before the user's callbacks put others back",
    Monitor: "logs the figures of a validation",
    RunProgress: "shows them, which it takes from `Monitor`",
    TextSamples: "writes with the weights that were validated, before the user's callbacks put others back",
    Callback: "those of the user, in the order that `make_callbacks` gives them",
    RunCheckpoint: "saves after a validation, when all others have done what belongs to it",
}
"""Each callback, with what it does that gives it its place; `test_callback_order.py` shows what breaks elsewhere.

Lightning itself moves callbacks that are a `Checkpoint` behind all others: those of the user, then `RunCheckpoint`.
"""


def build_callbacks(own: Iterable[Callback], users: Iterable[Callback]) -> list[Callback]:
    """All callbacks of a run in the order of `ORDER`.

    Args:
        own: lmtrain's, in any order, each of a class in `ORDER`.
        users: those that the configuration adds.
    """
    places = list(ORDER)
    pairs = [(places.index(type(callback)), callback) for callback in own]
    pairs += [(places.index(Callback), callback) for callback in users]
    return [callback for _, callback in sorted(pairs, key=lambda pair: pair[0])]
