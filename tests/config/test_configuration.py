"""The keys of the configuration: docs/keys.md and conf/ say what the schema and the composed defaults have."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hydra
import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from processes import ROOT
from running import compose

from lmtrain.config.compose import CONFIG_FOLDER
from lmtrain.config.overrides import _MAY_BE_EMPTY, _NEEDED
from lmtrain.config.saved import flat
from lmtrain.config.schedules import SCHEDULES, keys_taken
from lmtrain.config.schema import AnnealConfig, Mark, all_fields, all_keys
from lmtrain.config.trainer_arguments import TRAINER_ARGUMENTS

CONF = ROOT / "conf"
IN_WORDS = {  # defaults that docs/keys.md does not write as YAML
    "": None,
    "line break": "\n",
    "the number of splits": None,
    "UTF-8": None,
    "10 minutes": 10,
    "50,000,000": 50_000_000,
}
NOT_FOR_USERS = {
    "data.name",
    "data.how_to_get",
    "model.name",
    "dictionary.source",
}  # what a file in conf/ says of itself


def table() -> list[tuple[list[str], list[str], str]]:
    """Of each row of docs/keys.md the keys, their defaults, and what it says of them."""
    rows = re.findall(r"^\| (`.*?) \|(.*?)\| (.*) ?\|$", (ROOT / "docs/keys.md").read_text(), re.MULTILINE)
    return [(re.findall("`(.*?)`", keys), default.strip().split(", "), text) for keys, default, text in rows]


def options(group: str) -> set[str]:
    return {path.stem for path in (CONF / group).glob("*.yaml")}


def chosen_by_default() -> dict[str, object]:
    defaults = yaml.safe_load((CONF / "config.yaml").read_text())["defaults"]
    return {group: option for entry in defaults if isinstance(entry, dict) for group, option in entry.items()}


def test_the_table_of_keys_has_the_defaults_that_a_run_has():
    values, chosen = flat(compose("data=folder")), chosen_by_default()
    seen = 0
    for keys, defaults, _ in table():
        if keys == ["name"] or keys == ["trainer.*"] or keys == ["data.cache_dir"]:
            continue  # made of others, several, or of the environment
        for key, default in zip(keys, defaults, strict=True):
            told = IN_WORDS[default] if default in IN_WORDS else yaml.safe_load(default.strip("`"))
            assert told == (chosen[key] if key in chosen else values[key]), key
            seen += 1
    assert seen > 30


def test_the_table_of_keys_has_all_keys_and_all_options():
    text = "\n".join(f"{' '.join(keys)} {text}" for keys, _, text in table())
    words = set(re.findall(r"[\w.]+", text))
    sections = {key.partition(".")[0] for key in all_keys() if "." in key}
    missing = [
        key for key in all_keys() if key not in (*NOT_FOR_USERS, *sections) and not {key, key.partition(".")[2]} & words
    ]
    assert missing == []
    rows = {keys[0]: f"{' '.join(defaults)} {text}" for keys, defaults, text in table()}
    for group in ("data", "dictionary", "model", "anneal", "optimizer", "logger", "callbacks"):
        assert options(group) <= set(re.findall(r"\w+", rows[group])) | {"demo"}, group


def test_the_table_of_the_trainers_arguments_names_those_of_the_schema():
    assert {key.removeprefix("trainer.") for key in all_keys() if key.startswith("trainer.")} <= set(TRAINER_ARGUMENTS)


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_a_file_of_a_group_explains_itself_in_its_first_lines(path: Path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert next(line for line in lines if not line.startswith("# @package")).startswith("# ")


def test_groups_and_options_that_are_named_in_code_exist():
    groups = {path.name for path in CONF.iterdir() if path.is_dir()} - {"hydra"}
    assert groups == {*_NEEDED, *_MAY_BE_EMPTY}
    config = (CONF / "config.yaml").read_text(encoding="utf-8")
    for group in groups - {"experiment", "hparams_search", "logger"}:
        (comment,) = re.findall(rf"^  - {group}: .*?# (.*)$", config, re.MULTILINE)
        assert options(group) - {"slurm"} <= set(re.findall(r"\w+", comment)), group


def test_every_schedule_has_a_file_and_takes_keys_that_exist():
    assert options("anneal") == set(SCHEDULES)
    for name, schedule in SCHEDULES.items():
        assert yaml.safe_load((CONF / f"anneal/{name}.yaml").read_text()) == {"schedule": name}
        assert set(keys_taken(schedule)) <= set(AnnealConfig.model_fields)
        assert compose(f"anneal={name}")["anneal"].keys() == AnnealConfig.model_fields.keys()


def test_what_loggers_compare_runs_by_changes_only_where_a_place_is_named():
    marks = [field.metadata for field in all_fields().values()]
    assert not [of_one for of_one in marks if Mark.COMPARED in of_one and Mark.MAY_CHANGE in of_one]


def test_a_configuration_is_composed_in_threads_and_within_a_program_of_hydras():
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        outer = GlobalHydra.instance().hydra
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(lambda seed: compose(f"seed={seed}")["seed"], range(4))) == [0, 1, 2, 3]
        assert GlobalHydra.instance().hydra is outer
    assert not GlobalHydra.instance().is_initialized()
