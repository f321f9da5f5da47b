"""What a composed configuration must look like; everything that is wrong with one is said at once."""

import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lmtrain.errors import raise_if_any
from lmtrain.model import RECURRENT_TYPES
from lmtrain.trainer_arguments import TRAINER_ARGUMENTS
from lmtrain.trainer_arguments import problems as trainer_problems

Positive = Annotated[int, Field(gt=0)]


def _check_limit(value: int) -> int:
    if value == 0:
        raise ValueError("Input should be greater than 0, or -1 for no limit")
    return value


Limit = Annotated[int, Field(ge=-1), AfterValidator(_check_limit)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)


def _check_target(settings: dict[str, Any]) -> dict[str, Any]:
    """`_target_` must name what takes the other settings as arguments."""
    name = settings.get("_target_")
    arguments = {key: value for key, value in settings.items() if not key.startswith("_")}
    try:
        inspect.signature(pkgutil.resolve_name(name)).bind_partial(**arguments)
    except Exception as error:  # importing may raise anything
        raise ValueError(f"_target_={name} must be the full name of what takes these arguments ({error})") from None
    return settings


Target = Annotated[dict[str, Any], AfterValidator(_check_target)]


class DataConfig(Section):
    name: str
    path: Annotated[str, Field(min_length=1)] | None
    train: Annotated[str, Field(min_length=1)]
    valid: Annotated[str, Field(min_length=1)]
    test: Annotated[str, Field(min_length=1)]
    format: Literal["auto", "text"]
    batch_size: Positive
    sequence_length: Positive
    grow_to_sequence_length: Annotated[int, Field(ge=0)]
    level: Literal["character", "word"]
    document_delimiter: Annotated[str, Field(min_length=1)]
    shuffle: bool
    random_case_flip: bool
    max_split_size: Positive
    validations_per_epoch: Positive | None
    errors: Literal["strict", "replace"]
    cache_dir: str
    how_to_get: str | None = None

    @field_validator("max_split_size")
    @classmethod
    def _holds_the_lanes(cls, value: int, info: ValidationInfo) -> int:
        least = 4 * info.data.get("batch_size", 0)  # the pieces of a file are at least about half as long
        if value < least:
            raise ValueError(f"Input should be at least 4 × data.batch_size = {least:,}")
        return value


class DictionaryConfig(Section):
    source: Literal["corpus", "chars", "file"]
    path: str | None = None
    min_count: Positive = 1
    coverage: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_size: Positive | None = None
    max_unknown: Annotated[float, Field(ge=0, le=1)]
    expand: bool = False


class ModelConfig(Section):
    name: str
    hidden_size: Positive
    nlayers: Positive
    embedding_size: Positive
    nout: Positive | None
    dropout: Annotated[float, Field(ge=0, lt=1)]
    recurrent_type: str

    @field_validator("recurrent_type")
    @classmethod
    def _known(cls, value: str) -> str:
        if value.upper() not in RECURRENT_TYPES:
            raise ValueError(f"Input should be one of {', '.join(RECURRENT_TYPES)}")
        return value.upper()


class AnnealConfig(Section):
    schedule: Literal["plateau", "linear"]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    factor: Annotated[float, Field(gt=0, lt=1)]
    patience: Annotated[int, Field(ge=0)]
    min_lr: Annotated[float, Field(ge=0)]


class CheckpointConfig(Section):
    every: Annotated[float, Field(gt=0)] | None
    every_steps: Positive | None
    requeue_signal: Literal["SIGUSR1", "SIGUSR2", "SIGTERM", "SIGCONT"] | None


class DivergenceConfig(Section):
    max_rollbacks: Annotated[int, Field(ge=0)]


class OptimizerConfig(Section):
    """`_target_` and the arguments of a torch optimizer."""

    model_config = ConfigDict(extra="allow")

    lr: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _can_be_made(self) -> "OptimizerConfig":
        _check_target(self.model_dump())
        return self


class TrainerConfig(Section):
    """Arguments of Lightning's Trainer; others may be added with `+trainer.NAME=VALUE`, and `trainer_arguments` says of
    all of them what becomes of them."""

    model_config = ConfigDict(extra="allow")

    accelerator: str
    devices: int | str | list[int]
    num_nodes: Positive
    strategy: str | dict[str, Any]
    precision: str | int
    max_epochs: Limit | None
    max_steps: Limit
    gradient_clip_val: Annotated[float, Field(gt=0)] | None
    accumulate_grad_batches: Positive
    log_every_n_steps: Positive

    def added(self, name: str) -> Any:
        """The value of an argument that was added, else None."""
        return self.model_extra.get(name)


class Config(Section):
    """The whole configuration of a run."""

    name: str
    direction: Literal["forward", "backward"]
    seed: Annotated[int, Field(ge=0)]
    compile: bool
    init_from: str | None
    resume: Literal["auto", "never"]
    test: bool
    overwrite: bool
    runs_dir: str
    data: DataConfig
    dictionary: DictionaryConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    anneal: AnnealConfig
    trainer: TrainerConfig
    checkpoint: CheckpointConfig
    divergence: DivergenceConfig
    logger: dict[str, Target]
    callbacks: dict[str, Target]

    @field_validator("trainer")
    @classmethod
    def _ends(cls, value: TrainerConfig, info: ValidationInfo) -> TrainerConfig:
        schedule = info.data["anneal"].schedule if "anneal" in info.data else "plateau"
        if schedule != "plateau" and (value.max_epochs or -1) < 0 and value.max_steps < 0:
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
    """Checks resolved values.

    Raises:
        UserError: every key whose value is wrong, with the value and what is required.
    """
    config, problems = None, []
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems = _sentences(error.errors())
    if isinstance(values.get("trainer"), dict):
        problems += trainer_problems(values["trainer"])
    raise_if_any(problems)
    return config


def _sentences(problems: Iterable[Mapping[str, Any]]) -> list[str]:
    sentences: dict[str, str] = {}
    for problem in problems:
        # a union's problems are located at its members; they name types, which are no part of the key
        key = ".".join(str(part) for part in problem["loc"] if str(part) not in ("int", "str", "float", "list[int]"))
        message = problem["msg"].removeprefix("Value error, ")
        message = message.replace("Input should", "it must").replace("String should", "it must")
        if problem["type"] == "extra_forbidden":
            sentences[key] = f"{key} is no key of the configuration. {hint(key)}"
        elif problem["type"] == "missing":
            sentences[key] = f"{key} is missing. Give {key}=VALUE."
        elif key in sentences:
            sentences[key] = f"{sentences[key].removesuffix('.')}; or {message}."
        else:
            value = "" if isinstance(problem["input"], dict) else f"={problem['input']}"
            sentences[key] = f"{key}{value}: {message}."
    return list(sentences.values())


def hint(key: str) -> str:
    """What to do about a key that does not exist."""
    if key.removeprefix("trainer.") in TRAINER_ARGUMENTS:
        return f"It is an argument of Lightning's Trainer: write +{key}=VALUE. docs/lightning.md lists all."
    if key.startswith(("trainer.", "optimizer.")):
        owner = {"trainer": "Lightning's Trainer", "optimizer": "the optimizer"}[key.partition(".")[0]]
        more = f" If it is an argument of {owner}, write +{key}=VALUE."
    else:
        more = ""
    nearest = most_like(key, [*all_keys(), *(f"trainer.{name}" for name in TRAINER_ARGUMENTS)])
    return (f"Did you mean {' or '.join(nearest)}?" if nearest else "python train.py --help lists all keys.") + more


def most_like(name: str, names: Iterable[str]) -> list[str]:
    """The names, three at most, that are or end like this one, best first."""

    def likeness(other: str) -> float:
        pairs = (name, other), (name.rpartition(".")[2], other.rpartition(".")[2])
        return max(SequenceMatcher(None, *pair).ratio() for pair in pairs)

    return [other for other in sorted(names, key=likeness, reverse=True)[:3] if likeness(other) >= 0.7]


def all_keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Every key of a configuration, such as "model" and "model.hidden_size"."""
    keys = []
    for name, field in section.model_fields.items():
        keys.append(f"{prefix}{name}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += all_keys(field.annotation, f"{prefix}{name}.")
    return keys
