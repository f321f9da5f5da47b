"""What a composed configuration must look like; everything that is wrong with one is said at once."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lmtrain.errors import UserError
from lmtrain.model import RECURRENT_TYPES

Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(Section):
    name: str
    path: str | None
    train: str
    valid: str
    test: str
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
    factor: Annotated[float, Field(gt=0, lt=1)]
    patience: Annotated[int, Field(ge=0)]
    min_lr: Annotated[float, Field(ge=0)]


class CheckpointConfig(Section):
    every: Annotated[float, Field(gt=0)] | None
    every_steps: Positive | None


class OptimizerConfig(Section):
    """`_target_` and the arguments of a torch optimizer."""

    model_config = ConfigDict(extra="allow", frozen=True)

    lr: Annotated[float, Field(gt=0)]


class TrainerConfig(Section):
    """Arguments of Lightning's Trainer; any other of its arguments may be added with `+trainer.NAME=VALUE`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    accelerator: str
    devices: int | str | list[int]
    num_nodes: Positive
    strategy: str
    precision: str | int
    max_epochs: Annotated[int, Field(ge=-1)] | None
    max_steps: Annotated[int, Field(ge=-1)]
    gradient_clip_val: Annotated[float, Field(gt=0)] | None
    accumulate_grad_batches: Positive
    log_every_n_steps: Positive


class Config(Section):
    """The whole configuration of a run."""

    name: str
    direction: Literal["forward", "backward"]
    seed: Annotated[int, Field(ge=0)]
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
    logger: dict[str, Any]
    callbacks: dict[str, Any]

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
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(*(_sentence(problem) for problem in error.errors())) from None


def _sentence(problem: dict[str, Any]) -> str:
    # a union's problems are located at its members; they name types, which are no part of the key
    key = ".".join(str(part) for part in problem["loc"] if str(part) not in ("int", "str", "float", "list[int]"))
    if problem["type"] == "extra_forbidden":
        return f"{key} is no key of the configuration."
    if problem["type"] == "missing":
        return f"{key} is missing."
    message = problem["msg"].removeprefix("Value error, ").replace("Input should", "it must")
    return f"{key}={problem['input']}: {message}."
