"""Every key of the configuration with its type, its range and its marks, and the checks that concern several keys.

`check_config` reports all problems of a configuration in one message.
"""

import math
from collections.abc import Mapping
from enum import Enum
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from lmtrain.config.messages import sentences
from lmtrain.config.peak_rate import LOWEST
from lmtrain.config.schedules import OF_ALL, OverRun, Schedule, check_rates, keys_taken, make_schedule, schedule_class
from lmtrain.config.trainer_arguments import problems as trainer_problems
from lmtrain.config.value_types import (
    Callbacks,
    Limit,
    LocalPath,
    Positive,
    Targets,
    check_target,
    with_present_name,
)
from lmtrain.data.formats.encodings import checked_encoding
from lmtrain.errors import raise_if_any
from lmtrain.units import LARGEST_SEED

if TYPE_CHECKING:
    from lmtrain.model.language_model import Sizes


class Mark(Enum):
    """Properties of a key, given where the key is defined so that nobody has to find a list to extend."""

    MAY_CHANGE = "a run may go on with another value: it does not change what is trained, or only how long"
    PLACE = "a run may go on with another value: what stands at the place, or bears the name, is compared instead"
    COMPARED = "runs are compared by it, in the tables of loggers"
    UNLISTED = "compare.py does not list it where runs differ: its table has it, or it does not matter for the result"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)


class DataConfig(Section):
    name: Annotated[str, Mark.PLACE, Mark.COMPARED, Mark.UNLISTED]
    path: Annotated[Annotated[str, Field(min_length=1)] | None, Mark.PLACE, Mark.COMPARED]
    train: Annotated[str, Field(min_length=1), Mark.PLACE]
    valid: Annotated[str, Field(min_length=1), Mark.PLACE]
    test: Annotated[str, Field(min_length=1), Mark.PLACE]
    format: Annotated[Literal["auto", "text"], Mark.MAY_CHANGE]
    batch_size: Annotated[Positive, Mark.COMPARED]
    lanes_per_device: Annotated[Positive | None, Mark.MAY_CHANGE]  # data.batch_size says what came of it
    sequence_length: Annotated[Positive, Mark.COMPARED]
    grow_to_sequence_length: Annotated[int, Field(ge=0)]
    level: Annotated[Literal["character", "word"], Mark.COMPARED]
    document_delimiter: Annotated[str, Field(min_length=1)]
    shuffle: bool
    random_case_flip: bool
    max_split_size: Positive
    validations_per_epoch: Positive | None
    encoding: Annotated[str | None, AfterValidator(checked_encoding)] = None  # runs began without it
    errors: Literal["strict", "replace"]
    cache_dir: Annotated[LocalPath, Mark.MAY_CHANGE, Mark.UNLISTED]
    how_to_get: Annotated[str | None, Mark.MAY_CHANGE] = None

    @field_validator("max_split_size")
    @classmethod
    def _holds_the_lanes(cls, value: int, info: ValidationInfo) -> int:
        least = 4 * info.data.get("batch_size", 0)  # the pieces of a file are at least about half as long
        if value < least:
            raise ValueError(f"Input should be at least 4 × data.batch_size = {least:,}")
        return value


class DictionaryConfig(Section):
    source: Annotated[Literal["corpus", "chars", "file"], Mark.COMPARED]
    path: Annotated[LocalPath | None, Mark.PLACE] = None
    min_count: Positive = 1
    coverage: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_size: Positive | None = None
    max_unknown: Annotated[float, Field(ge=0, le=1), Mark.MAY_CHANGE]
    expand: bool = False


class ModelConfig(Section):
    name: Annotated[str, Mark.PLACE, Mark.UNLISTED]
    hidden_size: Annotated[Positive, Mark.UNLISTED]
    nlayers: Annotated[Positive, Mark.UNLISTED]
    embedding_size: Positive
    nout: Positive | None
    dropout: Annotated[float, Field(ge=0, lt=1)]
    recurrent_type: str

    @field_validator("recurrent_type")
    @classmethod
    def _known(cls, value: str) -> str:
        from lmtrain.model.cells import CELLS  # with torch, which reading a configuration does not need

        if value.upper() not in CELLS:
            raise ValueError(f"Input should be one of {', '.join(CELLS)}")
        return value.upper()

    def sizes(self, vocabulary_size: int) -> "Sizes":
        """The sizes of the network for a dictionary of that many entries."""
        from lmtrain.model.language_model import Sizes

        return Sizes(vocabulary_size, **self.model_dump(exclude={"name"}))


def _check_schedule(name: str) -> str:
    schedule_class(name)
    return name


class AnnealConfig(Section):
    """A schedule and its arguments; a schedule of one's own may take further ones."""

    model_config = ConfigDict(extra="allow")

    schedule: Annotated[str, AfterValidator(_check_schedule), Mark.COMPARED]
    warmup: Annotated[float, Field(ge=0, lt=1), Mark.COMPARED]
    factor: Annotated[float, Field(gt=0, lt=1), Mark.COMPARED]
    patience: Annotated[int, Field(ge=0), Mark.COMPARED]
    min_lr: Annotated[float, Field(ge=0), Mark.MAY_CHANGE]

    @model_validator(mode="after")
    def _can_be_made(self) -> "AnnealConfig":
        taken = keys_taken(schedule_class(self.schedule))
        if unknown := [name for name in self.model_extra if name not in taken]:
            raise ValueError(f"schedule={self.schedule} takes {', '.join(taken)}, not {', '.join(unknown)}")
        try:
            check_rates(self.build_schedule())
        except Exception as error:  # a schedule of one's own may raise anything
            reason = str(error) or type(error).__name__
            raise ValueError(f"schedule={self.schedule} cannot be made: {reason}") from None
        return self

    def build_schedule(self) -> Schedule:
        return make_schedule(self.schedule, self.model_dump())

    def ends_at_min_lr(self) -> bool:
        """Whether `min_lr` is a rate that the run trains with, not one that ends it."""
        schedule = schedule_class(self.schedule)
        return issubclass(schedule, OverRun) and "min_lr" in keys_taken(schedule)

    def ignored(self) -> list[str]:
        """The keys, such as "anneal.patience", that the chosen schedule does not take."""
        taken = keys_taken(schedule_class(self.schedule))
        return [f"anneal.{name}" for name in type(self).model_fields if name not in (*taken, *OF_ALL)]


class CheckpointConfig(Section):
    every: Annotated[float, Field(gt=0)] | None
    every_steps: Positive | None
    requeue_signal: Literal["SIGUSR1", "SIGUSR2", "SIGTERM", "SIGCONT"] | None


class DivergenceConfig(Section):
    max_rollbacks: Annotated[int, Field(ge=0)]


def _check_rate(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    try:
        return check(value)
    except ValidationError as error:
        raise ValueError(f"{error.errors()[0]['msg']}, or auto with optimizer=muon") from None


class OptimizerConfig(Section):
    """`_target_` and the arguments of a torch optimizer; `peak_rate.py` says what `lr=auto` becomes."""

    model_config = ConfigDict(extra="allow")

    lr: Annotated[Annotated[float, Field(gt=0)] | Literal["auto"], WrapValidator(_check_rate)]

    @model_validator(mode="before")
    @classmethod
    def _named_as_today(cls, settings: Any) -> Any:
        return with_present_name(settings) if isinstance(settings, dict) else settings

    @model_validator(mode="after")
    def _can_be_made(self) -> "OptimizerConfig":
        settings = check_target(self.model_dump())
        if self.lr == "auto" and settings["_target_"] != "lmtrain.Muon":
            remedy = "Leave it out for the rate of conf/optimizer/, or give optimizer.lr=VALUE"
            raise ValueError(f"lr=auto is for optimizer=muon; {settings['_target_']} takes a number. {remedy}")
        return self


_ENDS = (("min", " at least"), ("max", ""))


class TrainerConfig(Section):
    """Arguments of Lightning's Trainer. Others may be added with `+trainer.NAME=VALUE`; the table in
    `trainer_arguments` says whether each is obeyed or refused."""

    model_config = ConfigDict(extra="allow")

    accelerator: str
    devices: int | str | list[int]
    num_nodes: Positive
    strategy: str | dict[str, Any]
    precision: Annotated[str | int, Mark.COMPARED]
    max_epochs: Limit | None
    max_steps: Limit
    gradient_clip_val: Annotated[Annotated[float, Field(gt=0)] | None, Mark.COMPARED]
    accumulate_grad_batches: Annotated[Positive, Mark.COMPARED]
    log_every_n_steps: Annotated[Positive, Mark.UNLISTED]

    def limits(self) -> str:
        """The limits of a run's length: "10 epochs", "500 steps at least, 3 epochs, 1,000 steps" or "none"."""
        values = self.model_dump()
        limits = []
        for (end, least), unit in product(_ENDS, ("epochs", "steps")):
            if (number := values.get(f"{end}_{unit}") or -1) > 0:
                limits.append(f"{number:,} {unit.removesuffix('s') if number == 1 else unit}{least}")
        return ", ".join(limits) or "none"

    def added(self, name: str) -> Any:
        """The value of an argument that was added with `+trainer.NAME=VALUE`; None if it was not."""
        return self.model_extra.get(name)


class Config(Section):
    """The whole configuration of a run."""

    name: Annotated[str, Mark.PLACE, Mark.UNLISTED]
    direction: Annotated[Literal["forward", "backward"], Mark.COMPARED, Mark.UNLISTED]
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED), Mark.COMPARED]
    compile: Annotated[bool, Mark.MAY_CHANGE]
    init_from: Annotated[LocalPath | None, Mark.PLACE, Mark.COMPARED]
    resume: Annotated[Literal["auto", "never"], Mark.MAY_CHANGE, Mark.UNLISTED]
    test: Annotated[bool, Mark.MAY_CHANGE, Mark.UNLISTED]
    overwrite: Annotated[bool, Mark.MAY_CHANGE, Mark.UNLISTED]
    runs_dir: Annotated[LocalPath, Mark.PLACE, Mark.UNLISTED]
    data: DataConfig
    dictionary: DictionaryConfig
    model: Annotated[ModelConfig, Mark.COMPARED]
    optimizer: Annotated[OptimizerConfig, Mark.COMPARED]
    anneal: AnnealConfig
    trainer: TrainerConfig
    checkpoint: Annotated[CheckpointConfig, Mark.MAY_CHANGE, Mark.UNLISTED]
    divergence: Annotated[DivergenceConfig, Mark.MAY_CHANGE, Mark.UNLISTED]
    logger: Annotated[Targets, Mark.MAY_CHANGE, Mark.UNLISTED]
    callbacks: Annotated[Callbacks, Mark.MAY_CHANGE]

    def changed(self, values: Mapping[str, Any]) -> "Config":
        """The configuration with other values for some keys, such as "data.batch_size", checked again.

        Raises:
            UserError: every key whose value is wrong.
        """
        sections = self.model_dump()
        for key, value in values.items():
            *path, name = key.split(".")
            section = sections
            for step in path:
                section = section[step]
            section[name] = value
        return check_config(sections)

    @field_validator("anneal")
    @classmethod
    def _falls(cls, value: AnnealConfig, info: ValidationInfo) -> AnnealConfig:
        lr = info.data["optimizer"].lr if "optimizer" in info.data else math.inf
        highest, shown = (LOWEST, f"auto, which may be {LOWEST}") if lr == "auto" else (lr, f"{lr:g}")
        if value.ends_at_min_lr() and value.min_lr > highest:
            raise ValueError(
                f"min_lr={value.min_lr:g} is above optimizer.lr={shown}, from which the rate falls. Lower it"
            )
        return value

    @field_validator("trainer")
    @classmethod
    def _ends(cls, value: TrainerConfig, info: ValidationInfo) -> TrainerConfig:
        schedule = info.data["anneal"].schedule if "anneal" in info.data else "plateau"
        if issubclass(schedule_class(schedule), OverRun) and (value.max_epochs or -1) < 0 and value.max_steps < 0:
            remedy = "Give trainer.max_epochs or trainer.max_steps"
            raise ValueError(f"anneal.schedule={schedule} needs the run's length. {remedy}")
        return value

    @field_validator("name")
    @classmethod
    def _a_folder_name(cls, value: str) -> str:
        if not value or value in (".", "..") or "/" in value or "\0" in value:
            raise ValueError("Input should be a folder's name without slashes; runs_dir says where the folder stands")
        return value


def check_config(values: dict[str, Any]) -> Config:
    """Makes a `Config` of plain values.

    Args:
        values: by sections, with all interpolations resolved.

    Raises:
        UserError: every key whose value is wrong, with the value and what is required.
    """
    config, problems = None, []
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems = sentences(error.errors(), all_keys())
    if isinstance(values.get("trainer"), dict):
        problems += trainer_problems(values["trainer"])
    raise_if_any(problems)
    return config


@cache
def all_fields(section: type[BaseModel] = Config, prefix: str = "") -> dict[str, FieldInfo]:
    """Every key of a configuration, such as "model" and "model.hidden_size", as it is defined."""
    fields = {}
    for name, field in section.model_fields.items():
        fields[f"{prefix}{name}"] = field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            fields |= all_fields(field.annotation, f"{prefix}{name}.")
    return fields


def all_keys() -> list[str]:
    """Every key of a configuration, such as "model" and "model.hidden_size"."""
    return list(all_fields())
