"""Rewrites the KEY=VALUE arguments that people type into Hydra's grammar, which would misread some of them."""

from collections.abc import Iterable, Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import HydraException

from lmtrain.errors import raise_if_any
from lmtrain.program.shell import quoted, unescaped

_MAY_BE_EMPTY = {"logger": ["logger=[]"], "callbacks": ["callbacks=[]"], "experiment": [], "hparams_search": []}
_NEEDED = ("model", "data", "dictionary", "anneal", "optimizer", "trainer")
_ONE_OPTION = (*_NEEDED, "experiment", "hparams_search")
_FOLDER = "a run's folder is RUNS_DIR/NAME: give runs_dir=FOLDER and name=NAME"
_WITHOUT_EFFECT = {
    "hydra.run": _FOLDER,
    "hydra.sweep": f"{_FOLDER}; a sweep appends to NAME what it varies, and multirun.yaml is in RUNS_DIR",
    "hydra.job.name": _FOLDER,
    "hydra.job.chdir": "paths are read from where the command is started, also in a sweep: leave it out",
    "hydra.output_subdir": "the run folder's config.yaml has the whole configuration: leave it out",
    "hydra.job_logging": "the run folder's train.log has the messages: leave it out",
}
_NOTHING = {"", "null", "None", "none", "[]", "{}"}


def as_hydra_reads(arguments: Sequence[str]) -> list[str]:
    r"""The arguments in Hydra's grammar.

    The value of a key that takes a text, such as `data.path` or `name`, is quoted, whatever characters it has and even
    if it looks like a number; in `data.document_delimiter` escapes such as `\n` become characters. Values that are
    quoted, sweeps, and `${...}` are left to Hydra. `logger=null` and `~logger` mean no logger, likewise for the other
    groups that may be empty.

    Raises:
        UserError: a group that a run needs is taken away, or gets several options where it takes one; or a key is
            Hydra's own and would have no effect.
    """
    raise_if_any([problem for argument in arguments if (problem := _problem_of(argument))])
    return [read for argument in arguments for read in _read(argument)]


def in_any_order(arguments: Sequence[str]) -> list[str]:
    """The same arguments with all KEY=VALUE first: Hydra takes only the first group of them."""
    overrides = get_args_parser().parse_intermixed_args(arguments).overrides
    others = list(arguments)
    for override in overrides:
        others.remove(override)
    return [*overrides, *others]


def explicit_keys(overrides: Iterable[str]) -> set[str]:
    """The keys that overrides set: "anneal" of `anneal=linear`, "model.dropout" of `model={dropout: 0}`.

    Args:
        overrides: in Hydra's grammar, as `as_hydra_reads` gives them.
    """
    from lmtrain.config.saved import flat  # slow to import, with the schema

    keys = set()
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        parsed = _parsed(override) if value.lstrip().startswith("{") else None
        section = {} if parsed is None else parsed.value()
        keys |= {f"{name}.{key}" for key in flat(section)} if isinstance(section, dict) and section else {name}
    return keys


def _problem_of(argument: str) -> str | None:
    key, _, value = argument.strip().partition("=")
    group = key.lstrip("~+")
    if group in _NEEDED and (key == f"~{group}" or ("=" in argument and value.strip() in _NOTHING)):
        return (
            f"{argument}: {group} takes the name of an option, and a run needs one: leave it out for the default, or "
            f"give {group}=OPTION; python train.py --help lists the options."
        )
    for without_effect, instead in _WITHOUT_EFFECT.items():
        if f"{group.replace('/', '.')}.".startswith(f"{without_effect}."):
            return f"{argument}: {group} has no effect here; {instead}."
    if group in _ONE_OPTION and len(options := _options(value)) > 1:
        return f"{argument}: {group} takes one option. Choose one of {', '.join(options)}, and give the other's keys."
    return None


def _options(value: str) -> list[str]:
    value = value.strip()
    is_list = value.startswith("[") and value.endswith("]")
    return [option.strip() for option in value[1:-1].split(",")] if is_list else [value]


def _read(argument: str) -> list[str]:
    key, sign, value = argument.partition("=")
    name = key.lstrip("~+")
    if name in _MAY_BE_EMPTY and (key == f"~{name}" or (sign and value.strip() in _NOTHING)):
        return _MAY_BE_EMPTY[name]
    if argument.startswith("-") or not sign:
        return [argument]
    if name in _ONE_OPTION and value.strip().startswith("["):
        return [f"{key}={_options(value)[0]}"]
    override = _parsed(argument)
    if name == "data.document_delimiter":
        return [f"{key}={_with_characters(value, override)}"]
    if not _is_text(override) and name in _texts():
        return [f"{key}={quoted(value)}"]
    return [argument]


def _parsed(argument: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None


def _is_text(override: Override | None) -> bool:
    """Whether Hydra reads the value as a text, as no value, or as several values of a sweep."""
    if override is None:
        return False
    return override.is_sweep_override() or override._value is None or isinstance(override._value, str | QuotedString)


def _with_characters(value: str, override: Override | None) -> str:
    """The value, or each value of a sweep, in quotes and with escapes such as `\\n` replaced by their characters."""
    if override is not None and isinstance(choices := override._value, ChoiceSweep) and choices.simple_form:
        return ",".join(quoted(unescaped(_text(choice))) for choice in choices.list)
    if override is None:
        return quoted(unescaped(value))
    is_quoted = isinstance(override._value, QuotedString)
    return value if override._value is None else quoted(unescaped(_text(override._value) if is_quoted else value))


def _text(value: Any) -> str:
    return value.text if isinstance(value, QuotedString) else str(value)


@cache
def _texts() -> frozenset[str]:
    """The keys of the configuration that take any text."""
    from lmtrain.config.schema import all_fields  # slow to import, and rarely needed

    return frozenset(key for key, field in all_fields().items() if _takes_text(field.annotation))


def _takes_text(annotation: Any) -> bool:
    """Whether a type is `str` or `str | None`, constrained or not."""
    if get_origin(annotation) in (Union, UnionType):
        return all(_takes_text(kind) for kind in get_args(annotation) if kind is not type(None))
    return annotation is str or (get_origin(annotation) is Annotated and _takes_text(get_args(annotation)[0]))
