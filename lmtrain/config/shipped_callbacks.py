"""The table of the callbacks that Lightning ships: each is taken or refused with a reason; see docs/lightning.md."""

from typing import NamedTuple


class Decision(NamedTuple):
    """Whether a callback and its subclasses may be used.

    Args:
        is_taken: False if the callback is refused before training.
        text: if taken, a note for users; if refused, the reason and what to do instead.
        needs_logger: whether it writes figures that metrics.csv has no columns for.
    """

    is_taken: bool
    text: str
    needs_logger: bool = False


def _taken(text: str, needs_logger: bool = False) -> Decision:
    return Decision(True, text, needs_logger)


def _refused(text: str) -> Decision:
    return Decision(False, text)


_FREEZE = (
    "what it unfreezes would be frozen again in a resumed run. Set requires_grad by trainer.current_epoch in "
    "on_train_start and on_train_epoch_start of a callback of your own"
)
_BAR = "lmtrain draws its own progress. Leave it out"

_INTRODUCTION = """\
# Callbacks

`+callbacks.NAME={_target_: CLASS, ARGUMENT: VALUE}` adds any Lightning callback, also your own. It runs after
lmtrain's own callbacks. These rules hold:

- A callback that exchanges the weights for a validation does so in `on_validation_start` or
  `on_validation_epoch_start`, and restores them in `on_validation_epoch_end` or `on_validation_end`. best-lm.pt gets
  the weights that were validated. Weights that a callback makes in `on_train_end` are validated, too.
- Its `state_dict` must consist of numbers, strings, tensors, NumPy arrays, or lists, tuples, sets and dicts of them.
  Other states are refused before the first step.
- It must not change lanes, window length, accumulation, clipping or limits. It may change the learning rate only with
  `anneal=plateau`. Otherwise the run ends with a message.

These are the callbacks that Lightning ships:"""

SHIPPED = {
    "BackboneFinetuning": _refused(f"a character language model has no `backbone`, and {_FREEZE}"),
    "BaseFinetuning": _refused(_FREEZE),
    "BasePredictionWriter": _refused(
        "training predicts nothing. scripts/embed.py and scripts/score.py do. Leave it out"
    ),
    "BatchSizeFinder": _refused(
        "it would train with another data.batch_size than the configuration, the card and a resumed run have. Compare "
        "some: -m data.batch_size=32,64,128 trainer.max_steps=200"
    ),
    "Callback": _taken("what your own callbacks are derived from"),
    "Checkpoint": _taken("what callbacks that save are derived from; they come last"),
    "DeviceStatsMonitor": _taken("", needs_logger=True),
    "EarlyStopping": _taken(
        "`monitor` is `val/loss`, `val/ppl` or `val/bpc`; `patience` counts validations (epochs with "
        "`check_on_train_epoch_end: true`), and may be raised for a resumed run"
    ),
    "EMAWeightAveraging": _taken("validated, saved in best-lm.pt and tested are the averaged weights"),
    "GradientAccumulationScheduler": _refused(
        "the schedule of the rate, the validations and a resumed run rely on one number for the whole run: "
        "trainer.accumulate_grad_batches=N. To go over to another, fine-tune what has been trained: init_from=MODEL"
    ),
    "LambdaCallback": _taken("give its functions as `{_target_: hydra.utils.get_method, path: module.function}`"),
    "LearningRateFinder": _refused(
        "it would train with another optimizer.lr than the configuration and the card say. Compare some: "
        "-m optimizer.lr=5,10,20 trainer.max_steps=500"
    ),
    "LearningRateMonitor": _taken("metrics.csv has the rate without it", needs_logger=True),
    "ModelCheckpoint": _taken(
        "needs its own `dirpath`; saves after validations (after epochs with `save_on_train_epoch_end: true`). "
        "lmtrain's own checkpoints need none of it"
    ),
    "ModelPruning": _refused(
        "it renames parameters, which neither Flair nor a resumed run could load. Prune the finished model with "
        "torch.nn.utils.prune"
    ),
    "ModelSummary": _taken(""),
    "OnExceptionCheckpoint": _refused(
        "Lightning would take its file for the checkpoint to resume from, and delete it. lmtrain saves by itself: "
        "checkpoint.every=MINUTES"
    ),
    "ProgressBar": _refused(_BAR),
    "RichModelSummary": _taken(""),
    "RichProgressBar": _refused(_BAR),
    "ServableModuleValidator": _refused("the model is no ServableModule. Leave it out"),
    "SpikeDetection": _refused(
        "its state cannot be restored, and it skips nothing by itself. lmtrain goes back to the last checkpoint when a "
        "loss is not finite: divergence.max_rollbacks=N"
    ),
    "StochasticWeightAveraging": _refused(
        "it sets the learning rate, which `anneal` does, and validates only the weights that it does not average. Take "
        "lightning.pytorch.callbacks.WeightAveraging or EMAWeightAveraging, whose averages are validated"
    ),
    "ThroughputMonitor": _taken(
        "`batch_size_fn: {_target_: hydra.utils.get_method, path: module.function}` takes a window, whose lanes are "
        "`window.inputs.shape[1]`",
        needs_logger=True,
    ),
    "Timer": _taken("a longer `duration` resumes the run; its time counts all parts of a run"),
    "TQDMProgressBar": _refused(_BAR),
    "WeightAveraging": _taken("validated, saved in best-lm.pt and tested are the averaged weights"),
}


def decision(callback: type) -> tuple[str, Decision] | None:
    """The nearest of Lightning's classes among a class and its bases, and its entry in the table."""
    for base in callback.__mro__:
        if base.__module__.startswith(("lightning.pytorch.", "pytorch_lightning.")) and base.__name__ in SHIPPED:
            return base.__name__, SHIPPED[base.__name__]
    return None


def refusal(callback: object) -> str | None:
    """Why a class is refused, and what to do instead; None if it may be used or is no class."""
    found = decision(callback) if isinstance(callback, type) else None
    if found is None or found[1].is_taken:
        return None
    return f"{found[0]} is refused: {found[1].text}"


def as_markdown() -> str:
    """The section of docs/lightning.md."""
    rows = [
        f"| `{name}` | {'taken' if shipped.is_taken else 'refused'} | {_cell(shipped)} |"
        for name, shipped in sorted(SHIPPED.items(), key=lambda item: item[0].lower())
    ]
    return "\n".join([_INTRODUCTION, "", "| callback | | |", "|---|---|---|", *rows])


def _cell(shipped: Decision) -> str:
    texts = [shipped.text] if shipped.text else []
    if shipped.needs_logger:
        texts.append("needs `logger=tensorboard`, `wandb` or `mlflow`")
    return "; ".join(texts)
