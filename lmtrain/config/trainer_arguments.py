"""The table of all arguments of Lightning's Trainer: each is obeyed, set by lmtrain, or refused with a reason.

`python -m lmtrain.config.trainer_arguments > docs/lightning.md` writes this table and that of the callbacks.
"""

import os
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from lmtrain.config import shipped_callbacks, trainer_values
from lmtrain.config.trainer_values import DDP_OPTIONS, one_of

OBEYED = "obeyed"
SET = "set by lmtrain"
REFUSED = "refused"


class Argument(NamedTuple):
    """An entry of the table.

    Args:
        decision: OBEYED, SET or REFUSED.
        note: if obeyed, the effect of the argument; else what to use instead and why. Without a full stop.
        check: if obeyed: returns what is required instead of a value, None if the value is fine.
        nothing: if refused: values that are accepted since they ask for nothing, such as Lightning's default.
        may_change: whether a run may go on with another value.
    """

    decision: str
    note: str
    check: Callable[[Any], str | None] = lambda value: None  # noqa: ARG005
    nothing: tuple[Any, ...] = ()
    may_change: bool = True


_NO_PART = "the loss of a part of the text would be reported as that of the whole"

TRAINER_ARGUMENTS: dict[str, Argument] = {
    "accelerator": Argument(OBEYED, "`auto`, `cpu`, `gpu`, `cuda`, `mps`", trainer_values.accelerator),
    "accumulate_grad_batches": Argument(OBEYED, "windows an optimizer step", may_change=False),
    "barebones": Argument(
        REFUSED,
        "without checkpoints and figures there is nothing to resume a run from; scripts/benchmark.py measures speed",
        nothing=(False, None),
    ),
    "benchmark": Argument(OBEYED, "cuDNN tries its algorithms; `true`, `false`", one_of(None, True, False)),
    "callbacks": Argument(SET, "+callbacks.NAME={_target_: CLASS, ARGUMENT: VALUE} adds one"),
    "check_val_every_n_epoch": Argument(
        REFUSED, "every epoch's end is validated; data.validations_per_epoch=1 is the fewest", nothing=(1,)
    ),
    "default_root_dir": Argument(SET, "runs_dir=DIR name=NAME say where everything goes"),
    "detect_anomaly": Argument(
        OBEYED, "torch names the operation whose gradient is not a number, and the run ends there", one_of(True, False)
    ),
    "deterministic": Argument(
        OBEYED,
        "`true`: only algorithms with repeatable results; `warn`: a warning where there are none; `false`",
        one_of(None, True, False, "warn"),
    ),
    "devices": Argument(OBEYED, "their number, `-1` or `auto` for all, or a list of indices", trainer_values.devices),
    "enable_autolog_hparams": Argument(SET, "the keys that runs are compared by are given to the loggers"),
    "enable_checkpointing": Argument(SET, "checkpoint.every and checkpoint.every_steps say when to save"),
    "enable_model_summary": Argument(SET, "the model is described in one line and in the model card"),
    "enable_progress_bar": Argument(SET, "a terminal gets a bar, other output a line now and then"),
    "fast_dev_run": Argument(
        OBEYED,
        "`true` (1) or a number: trains, validates and tests on that many windows each, to see that all works; what it "
        "writes is removed, and a run of that name is not touched",
        trainer_values.fast_dev_run,
    ),
    "gradient_clip_algorithm": Argument(
        OBEYED,
        "`norm`: of all gradients together; `value`: each by itself",
        one_of(None, "norm", "value"),
        may_change=False,
    ),
    "gradient_clip_val": Argument(OBEYED, "the largest norm (or value); `null`: no clipping", may_change=False),
    "inference_mode": Argument(OBEYED, "`false`: test with `torch.no_grad` instead", one_of(True, False)),
    "limit_predict_batches": Argument(REFUSED, "training predicts nothing", nothing=(None, 1.0)),
    "limit_test_batches": Argument(
        REFUSED, f"{_NO_PART}; data.test=FILE takes another text, test=false none", nothing=(None, 1.0)
    ),
    "limit_train_batches": Argument(
        REFUSED,
        "an epoch is a pass over the whole text; trainer.max_steps ends a run sooner, data.train=PATTERN "
        "takes fewer files",
        nothing=(None, 1.0),
    ),
    "limit_val_batches": Argument(
        REFUSED,
        f"{_NO_PART}, and without validation no model is kept; data.valid=FILE takes another text, "
        "data.validations_per_epoch says how often",
        nothing=(None, 1.0),
    ),
    "log_every_n_steps": Argument(OBEYED, "optimizer steps between two rows of metrics.csv"),
    "logger": Argument(SET, "logger=[tensorboard,csv], or others, chooses them, logger=[] none"),
    "max_epochs": Argument(OBEYED, "passes over the training text; `-1`, or `null` beside another limit: no limit"),
    "max_steps": Argument(OBEYED, "optimizer steps; `-1`: no limit"),
    "max_time": Argument(
        OBEYED,
        "`DD:HH:MM:SS` or `{hours: 23}`: the time that each start of the run may train; then it validates, tests and "
        "ends, and the same command resumes it",
        trainer_values.max_time,
    ),
    "min_epochs": Argument(
        OBEYED, "before that neither `anneal.min_lr` nor a callback ends the run", trainer_values.at_least_one
    ),
    "min_steps": Argument(OBEYED, "before that many optimizer steps neither ends the run", trainer_values.at_least_one),
    "model_registry": Argument(
        REFUSED, "lmtrain sends models nowhere; docs/publishing.md says how to publish one", nothing=(None,)
    ),
    "num_nodes": Argument(OBEYED, "hosts; `trainer=slurm` takes their number from the job"),
    "num_sanity_val_steps": Argument(SET, "it is 0; with init_from the whole text is validated before training"),
    "overfit_batches": Argument(
        REFUSED,
        "checkpoints hold places in the whole text; for a trial, data.train and data.valid may be one file",
        nothing=(0, 0.0, None),
    ),
    "plugins": Argument(
        REFUSED,
        "lmtrain saves by itself, and finds the processes of torchrun and SLURM; trainer.precision and "
        "trainer.strategy choose the rest",
        nothing=(None, []),
    ),
    "precision": Argument(
        OBEYED,
        "`auto`, `32-true`, `bf16-mixed`, `16-mixed` (GPUs), `64-true`, `bf16-true`, `16-true`",
        trainer_values.precision,
        may_change=False,
    ),
    "profiler": Argument(
        OBEYED,
        "`simple`, `advanced`, `pytorch`, or `{_target_: CLASS, ...}`; it writes into the run folder",
        trainer_values.profiler,
    ),
    "reload_dataloaders_every_n_epochs": Argument(SET, "every epoch has its own order"),
    "strategy": Argument(
        OBEYED,
        "`auto`, `single_device`, `ddp`, `ddp_find_unused_parameters_true`, `..._false`, or `{_target_: "
        f"lightning.pytorch.strategies.DDPStrategy, ...}}` with {', '.join(DDP_OPTIONS)}",
        trainer_values.strategy,
    ),
    "sync_batchnorm": Argument(REFUSED, "the model has no batch normalisation", nothing=(False, None)),
    "use_distributed_sampler": Argument(SET, "each device has its own lanes of the text"),
    "val_check_interval": Argument(
        REFUSED,
        "it counts windows, and lmtrain validates at the end of every split or data.validations_per_epoch=N "
        "times an epoch",
        nothing=(None,),
    ),
}


def problems(arguments: Mapping[str, Any]) -> list[str]:
    """A sentence for each argument that is not obeyed, and for each value that is wrong or contradicts another.

    Args:
        arguments: the names and values of the section `trainer`.
    """
    found = [sentence for name, value in arguments.items() if (sentence := _problem(name, value))]
    for name in sorted(TRAINER_ARGUMENTS):
        variable = f"PL_TRAINER_{name.upper()}"
        if os.environ.get(variable):
            found.append(
                f"The environment variable {variable} is not obeyed. Unset it, and give +trainer.{name}=VALUE."
            )
    return found + _conflicts(arguments)


def may_change(name: str) -> bool:
    """Whether a run may go on with another value of an argument."""
    return name in TRAINER_ARGUMENTS and TRAINER_ARGUMENTS[name].may_change


def _problem(name: str, value: Any) -> str | None:
    argument = TRAINER_ARGUMENTS.get(name)
    if argument is None:
        meant = "".join(f"Did you mean trainer.{other}? " for other in get_close_matches(name, TRAINER_ARGUMENTS, 1))
        return f"trainer.{name} is no argument of Lightning's Trainer. {meant}docs/lightning.md lists them."
    if argument.decision == SET:
        return f"trainer.{name} is set by lmtrain, leave it out: {argument.note}."
    if argument.decision == OBEYED:
        wrong = argument.check(value)
        return wrong and f"trainer.{name}={trainer_values.shown(value)}: {wrong}."
    if any(type(value) is type(nothing) and value == nothing for nothing in argument.nothing):
        return None
    return f"trainer.{name}={trainer_values.shown(value)} is refused: {argument.note}."


def _conflicts(arguments: Mapping[str, Any]) -> list[str]:
    """A sentence for each pair of arguments that contradict each other."""
    found = []
    for unit in ("epochs", "steps"):
        least, most = arguments.get(f"min_{unit}"), arguments.get(f"max_{unit}")
        if trainer_values.is_number(least) and trainer_values.is_number(most) and 0 < most < least:
            found.append(f"trainer.min_{unit}={least} is more than trainer.max_{unit}={most}.")
    if arguments.get("max_epochs", 1) is None and arguments.get("max_steps") == -1 and not arguments.get("max_time"):
        found.append(
            "trainer.max_epochs=null needs trainer.max_steps or trainer.max_time. Give one of them, or "
            "trainer.max_epochs=-1 for no limit."
        )
    if arguments.get("deterministic") and arguments.get("benchmark"):
        found.append(
            "trainer.benchmark=true chooses the fastest algorithms, trainer.deterministic those whose results repeat. "
            "Leave one of them out."
        )
    if arguments.get("gradient_clip_algorithm") and arguments.get("gradient_clip_val", 1) is None:
        found.append(
            "trainer.gradient_clip_algorithm has no effect, since trainer.gradient_clip_val is null. Give "
            "trainer.gradient_clip_val=VALUE."
        )
    return found


def as_markdown() -> str:
    """The text of docs/lightning.md."""
    lines = [
        "# Arguments of Lightning's Trainer",
        "",
        "`trainer.NAME=VALUE` sets what `conf/trainer/default.yaml` has, `+trainer.NAME=VALUE` adds any other",
        "argument. Each is obeyed, or refused with the reason before anything is written. This page is made by",
        "`python -m lmtrain.config.trainer_arguments > docs/lightning.md`.",
    ]
    for decision, title in (
        (OBEYED, "Obeyed"),
        (SET, "Set by lmtrain: leave them out"),
        (REFUSED, "Refused"),
    ):
        lines += ["", f"## {title}", "", "| argument | |", "|---|---|"]
        chosen = sorted(name for name, argument in TRAINER_ARGUMENTS.items() if argument.decision == decision)
        lines += [f"| `{name}` | {TRAINER_ARGUMENTS[name].note}{_accepted(name)} |" for name in chosen]
    lines += ["", shipped_callbacks.as_markdown()]
    return "\n".join(lines) + "\n"


def _accepted(name: str) -> str:
    values = [f"`{trainer_values.shown(value)}`" for value in TRAINER_ARGUMENTS[name].nothing]
    return f"; accepted: {', '.join(values)}" if values else ""


if __name__ == "__main__":
    print(as_markdown(), end="")
