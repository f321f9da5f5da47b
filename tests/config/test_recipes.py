"""Every recipe with every option of every group: the option that was chosen has its own values."""

from pathlib import Path

import pytest
import yaml
from running import compose

from lmtrain.config.peak_rate import HIGHEST, LOWEST
from lmtrain.config.saved import flat
from lmtrain.config.schema import check_config

CONF = Path(__file__).parents[2] / "conf"
# What a recipe is made of, whatever the options; and what it says of an optimizer, whose own values it replaces.
RECIPES = {
    None: {},
    "demo": {"anneal.patience": 0, "trainer.max_epochs": 3},
    "fast": {"model.dropout": 0, "trainer.max_epochs": 2},
    "fine_tune": {"anneal.patience": 5, "init_from": "base.pt"},
    "flair": {
        **{"data.sequence_length": 250, "data.batch_size": 100, "data.grow_to_sequence_length": 0},
        "trainer.gradient_clip_val": 0.25,
    },
}
WITH_OPTIMIZER = {("fine_tune", "sgd"): {"optimizer.lr": 5}, ("flair", "sgd"): {"anneal.min_lr": 0}}
OPTIONS = {
    None: {"model": "small", "optimizer": "sgd", "data": "demo"},
    "demo": {"model": "small", "optimizer": "sgd", "data": "demo"},
    "fast": {"model": "small", "optimizer": "muon", "data": "demo"},
    "fine_tune": {"model": "small", "optimizer": "sgd", "data": "demo"},
    "flair": {"model": "large", "optimizer": "sgd", "data": "demo"},
}
PLATEAU = {"anneal.schedule": "plateau", "anneal.factor": 0.25, "anneal.patience": 25, "anneal.min_lr": 1e-4}


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def own_values(group: str, option: str) -> dict:
    """What the file of an option says, and the files that it is made of."""
    content = yaml.safe_load((CONF / group / f"{option}.yaml").read_text(encoding="utf-8"))
    values = {}
    for default in content.pop("defaults", []):
        if isinstance(default, dict):  # such as {"override /anneal": "linear"}
            ((other, chosen),) = default.items()
            values |= own_values(other.removeprefix("override /"), chosen)
        elif default != "_self_":
            values |= own_values(group, default)
    is_global = "@package _global_" in (CONF / group / f"{option}.yaml").read_text(encoding="utf-8")
    content = content if is_global else {group: content}
    return values | {key: float(value) if _is_number(value) else value for key, value in flat(content).items()}


def _is_number(value) -> bool:
    return isinstance(value, str) and value.replace(".", "").replace("e-", "").isdigit()


def expected(recipe: str | None, **chosen: str) -> dict:
    """The values that matter, from the files of the options and the table above."""
    picked = OPTIONS[recipe] | chosen
    values = {"anneal.warmup": 0, **PLATEAU}
    for group in ("data", "model", "optimizer", "trainer", "dictionary"):
        values |= own_values(group, picked.get(group, {"trainer": "default", "dictionary": "corpus"}.get(group)))
    values |= RECIPES[recipe] | WITH_OPTIMIZER.get((recipe, picked["optimizer"]), {})
    return values | (own_values("anneal", picked["anneal"]) if "anneal" in picked else {})


def composed(recipe: str | None, *overrides: str) -> dict:
    of_recipe = [f"experiment={recipe}"] if recipe else []
    given = ["init_from=base.pt"] if recipe == "fine_tune" else []
    values = compose(*of_recipe, *given, *overrides)
    check_config(values)
    return flat(values)


def test_the_table_has_all_recipes():
    assert set(RECIPES) - {None} == set(options("experiment"))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("group", ["model", "data", "anneal", "optimizer", "trainer", "dictionary"])
def test_an_option_has_its_own_values_in_every_recipe(recipe, group):
    for option in options(group):
        values = composed(recipe, f"{group}={option}")
        wanted = expected(recipe, **{group: option})
        interpolated = {key for key, value in wanted.items() if isinstance(value, str) and "${" in value}
        assert {key: values[key] for key in wanted if key not in interpolated} == {
            key: value for key, value in wanted.items() if key not in interpolated
        }
        arguments = {key for key in values if key.startswith("optimizer.")}
        assert arguments == {key for key in wanted if key.startswith("optimizer.")}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_options_of_two_groups_do_not_disturb_each_other(recipe, optimizer):
    for model in ("tiny", "large"):
        values = composed(recipe, f"optimizer={optimizer}", f"model={model}", "data=folder", "trainer=ddp")
        wanted = expected(recipe, optimizer=optimizer, model=model, data="folder", trainer="ddp")
        assert {key: values[key] for key in wanted if "cache_dir" not in key} == {
            key: value for key, value in wanted.items() if "cache_dir" not in key
        }


def test_the_rates_that_matter():
    rate = {name: composed("fine_tune", f"optimizer={name}")["optimizer.lr"] for name in ("sgd", "adamw", "muon")}
    assert rate == {"sgd": 5, "adamw": 0.002, "muon": "auto"}
    rate = {name: composed("flair", f"optimizer={name}")["optimizer.lr"] for name in ("sgd", "adamw", "muon")}
    assert rate == {"sgd": 20, "adamw": 0.002, "muon": "auto"}
    assert composed("flair", "optimizer=adamw")["anneal.min_lr"] == 1e-6
    assert composed("fine_tune", "optimizer=muon")["anneal.schedule"] == "linear"
    assert composed("fast", "optimizer=sgd")["anneal.schedule"] == "plateau"
    assert composed("flair", "model=small")["model.hidden_size"] == 256


@pytest.mark.parametrize("recipe", RECIPES)
def test_loggers_and_callbacks_change_nothing_else(recipe):
    plain = composed(recipe)
    for group in ("logger", "callbacks"):
        for option in options(group):
            values = composed(recipe, f"{group}={option}")
            other = {key for key in {**plain, **values} if plain.get(key) != values.get(key)}
            assert all(key.startswith(group) for key in other)
            assert any(key.startswith(f"{group}.{option}") for key in values)


def test_fine_tuning_without_a_model_is_refused(train_py):
    status, message = train_py("experiment=fine_tune", "data=folder", "data.path=corpus")
    assert (status, message.count("\n")) == (2, 1)
    assert message == "Error: experiment=fine_tune needs a model to start from. Give init_from=VALUE.\n"


RANGES = {
    "sgd": {"optimizer.lr": (1, 50)},
    "adamw": {"optimizer.lr": (1e-4, 1e-2)},
    "muon": {"optimizer.lr": (0.01, 0.2), "optimizer.adamw_lr": (0.005, 0.05)},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_search_has_the_ranges_of_the_optimizer(recipe):
    import hydra

    from lmtrain.config.compose import CONFIG_FOLDER

    for optimizer, ranges in RANGES.items():
        own = own_values("optimizer", optimizer)["optimizer.lr"]
        rates = (LOWEST, HIGHEST) if own == "auto" else (float(own),)
        assert all(ranges["optimizer.lr"][0] < rate < ranges["optimizer.lr"][1] for rate in rates)
        overrides = ["hparams_search=optuna", f"optimizer={optimizer}", *([f"experiment={recipe}"] if recipe else [])]
        with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
            params = hydra.compose("config", overrides, return_hydra_config=True).hydra.sweeper.params
        assert {key for key in params if key.startswith("optimizer.")} == ranges.keys()
        for key, (low, high) in ranges.items():
            assert params[key] == f"tag(log, interval({params[key].split('(')[-1].rstrip(')')}))"
            assert [float(end) for end in params[key].split("(")[-1].rstrip(")").split(",")] == [low, high]


def test_a_rate_is_not_taken_over_to_another_optimizer(train_py):
    folder = ("data=folder", "data.path=corpus", "data.batch_size=4", "data.sequence_length=20", "model=tiny")
    status, message = train_py(*folder, "optimizer._target_=torch.optim.AdamW")
    assert status == 2
    assert message == (
        "Error: optimizer._target_=torch.optim.AdamW would have the rate of another optimizer, 20. Give its own: "
        "optimizer.lr=VALUE.\n"
    )
    assert not Path("runs").exists()
