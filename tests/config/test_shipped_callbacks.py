"""Every callback that Lightning ships trains, stops and goes on like the unbroken run, or is refused before it."""

import importlib
import pkgutil
from pathlib import Path

import lightning.pytorch.callbacks
import pytest
from corpora import write_corpus
from hooks import KINDS, Remembers
from lightning.pytorch import Callback
from lightning.pytorch.serve import servable_module_validator
from measured import assert_saved_is_measured
from outcomes import assert_same, assert_same_outcome, outcome
from running import SMALL, compose, train
from stopping import Killed

from lmtrain.config.schema import check_config
from lmtrain.config.shipped_callbacks import SHIPPED, as_markdown, decision
from lmtrain.errors import UserError


def shipped() -> dict[str, type]:
    """All callbacks that Lightning has, by their names."""
    package = lightning.pytorch.callbacks
    modules = [
        importlib.import_module(one.name) for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    found = {}
    for module in (package, *modules, servable_module_validator):
        found |= {
            name: kind
            for name, kind in vars(module).items()
            if isinstance(kind, type)
            and issubclass(kind, Callback)
            and kind.__module__.startswith("lightning.pytorch.")
        }
    return found


LIGHTNINGS = "lightning.pytorch.callbacks"
ARGUMENTS = {
    "EarlyStopping": {"monitor": "val/loss", "patience": 2},
    "ModelCheckpoint": {"dirpath": "own", "monitor": "val/loss", "save_last": True, "save_top_k": 2},
    "ThroughputMonitor": {"batch_size_fn": {"_target_": "hydra.utils.get_method", "path": "hooks.lanes"}},
    "Timer": {"duration": {"hours": 1}},
    "EMAWeightAveraging": {"decay": 0.9},
}


def test_each_has_a_decision():
    assert shipped().keys() == SHIPPED.keys()
    assert set(lightning.pytorch.callbacks.__all__) <= SHIPPED.keys()


def test_the_documentation_has_the_table():
    assert as_markdown() in Path(__file__).parents[2].joinpath("docs/lightning.md").read_text(encoding="utf-8")


def values(*more, **callbacks):
    result = compose(
        *SMALL, "data.batch_size=1", "trainer.precision=32-true", "name=run", "logger=[csv,tensorboard]", *more
    )
    result["callbacks"] = callbacks
    return result


REFUSED = [name for name, what in SHIPPED.items() if not what.is_taken]


def test_the_refused_ones_are_told_all_at_once_with_reason_and_way_out():
    callbacks = {name.lower(): {"_target_": f"{kind.__module__}.{name}"} for name, kind in shipped().items()}
    with pytest.raises(UserError) as error:
        check_config(values(**{name.lower(): callbacks[name.lower()] for name in REFUSED}))
    for name in REFUSED:
        (problem,) = [one for one in error.value.problems if one.startswith(f"callbacks.{name.lower()}:")]
        assert SHIPPED[name].text in problem


def test_a_subclass_of_a_refused_one_is_refused_and_leaves_no_folder(train_py):
    ended = train_py(*SMALL, "+callbacks.freeze={_target_: hooks.FreezeEncoder}", "trainer.precision=x")
    assert ended.status == 2
    assert "callbacks.freeze: BaseFinetuning is refused: what it unfreezes would be frozen again" in ended.message
    assert "trainer.precision" in ended.message
    assert not Path("runs").exists()


def test_a_factory_of_a_refused_one_is_refused(train_py):
    ended = train_py(*SMALL, "+callbacks.find={_target_: hooks.rate_finder}")
    assert ended.status == 2
    assert "callbacks.find: LearningRateFinder is refused" in ended.message
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", [name for name, what in SHIPPED.items() if what.is_taken])
@pytest.mark.filterwarnings("ignore:.*ThroughputMonitor:UserWarning", "ignore:Checkpoint directory:UserWarning")
def test_a_taken_one_trains_stops_and_resumes_like_the_unbroken_run(name, tmp_path, monkeypatch):
    kind = shipped()[name]
    corpus = write_corpus(
        tmp_path / "corpus", train={"1.txt": "abc abd.\n" * 30}, valid="ab ad.\n" * 9, test="abd.\n" * 9
    )
    settings = {"_target_": f"{kind.__module__}.{name}", **ARGUMENTS.get(name, {})}
    more = (
        "trainer.max_steps=-1",
        "trainer.max_epochs=2",
        "data.validations_per_epoch=3",
        "trainer.log_every_n_steps=2",
    )
    outcomes = []
    for parts in ((), (21,)):
        place = tmp_path / f"parts{len(parts)}"
        place.mkdir()
        monkeypatch.chdir(place)
        Path("corpus").symlink_to(corpus)
        for windows in parts:
            kill = {"_target_": "stopping.KillAt", "windows": windows}
            stopped = values(*more, "checkpoint.every_steps=1", one=settings, kill=kill)
            with pytest.raises(Killed):
                train(stopped)
        train(values(*more, one=settings))
        assert_saved_is_measured(Path("runs/run"), corpus)
        outcomes.append(outcome(Path("runs")))
    for checkpoint, _, _ in outcomes:
        for state in checkpoint["callbacks"].values():
            state.pop("time_elapsed", None)  # depends on the clock
            for key in [key for key in state if "path" in key or key in ("dirpath", "best_k_models")]:
                state.pop(key)  # places
    assert_same_outcome(*outcomes)


def test_early_stopping_counts_validations_and_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_corpus(Path("corpus"))
    stop = {
        "_target_": "lightning.pytorch.callbacks.EarlyStopping",
        "monitor": "val/loss",
        "patience": 2,
        "min_delta": 9,
    }
    results = train(values("trainer.max_steps=-1", "data.validations_per_epoch=20", stop=stop))
    windows = results["steps"]  # the first validation is better than none, the next two are not
    whole = train(values("trainer.max_steps=-1", "trainer.max_epochs=1", "name=whole"))["steps"]
    assert windows == pytest.approx(3 * whole / 20, abs=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"_target_": f"{LIGHTNINGS}.ModelCheckpoint"}, "own checkpoints .* dirpath: FOLDER"),
        ({"_target_": f"{LIGHTNINGS}.EarlyStopping", "monitor": "val_loss"}, "Monitor val/loss"),
        (
            {"_target_": f"{LIGHTNINGS}.EarlyStopping", "monitor": "val/loss", "mode": "low"},
            "cannot be made",
        ),
        ({"_target_": "torch.nn.Identity"}, "no lightning.pytorch.Callback"),
        ({"_target_": "hooks.BestModel"}, "same name as lmtrain's own"),
        ({"_target_": "hooks.Remembers", "what": "path"}, r"state of the callback Remembers .*\['it'\] is a pathlib"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_corpus(Path("corpus"))
    with pytest.raises(UserError, match=message):
        train(values(one=settings))
    assert not Path("runs").exists()


def test_figures_that_metrics_csv_cannot_take_need_another_logger(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_corpus(Path("corpus"))
    with pytest.raises(UserError, match=r"LearningRateMonitor writes figures .* logger=\[csv,tensorboard\]"):
        train(values("logger=csv", rate={"_target_": f"{LIGHTNINGS}.LearningRateMonitor"}))


def test_numpy_numbers_and_arrays_in_a_state_are_what_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_corpus(Path("corpus"))
    remembers = {"_target_": "hooks.Remembers", "what": "numpy"}
    train(values(one=remembers))
    monkeypatch.setattr(Remembers, "read", [])
    train(values("trainer.max_steps=4", one=remembers))
    expected = {3 if key == 3 else key: value for key, value in KINDS["numpy"].items()}
    assert [repr(it) for it in Remembers.read] == [repr(expected)]  # types and values, but for the key's
    assert train(values("trainer.max_steps=5"))["steps"] == 5  # also without the callback


@pytest.mark.parametrize("what", ["lambda", "enum", "dataclass", "frozenset"])
def test_a_state_that_becomes_unreadable_ends_the_run_at_its_first_save(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_corpus(Path("corpus"))
    late = {"_target_": "hooks.Remembers", "what": what, "step": 2}
    with pytest.raises(UserError, match=r"state of the callback Remembers .*\['it'\] is a .*NumPy arrays"):
        train(values("trainer.max_steps=9", "checkpoint.every_steps=2", one=late))
    train(values("trainer.max_steps=9"))  # goes on without it


def test_a_subclass_knows_whose_decision_is_its_own():
    class Mine(shipped()["EarlyStopping"]):
        pass

    assert decision(Mine) == ("EarlyStopping", SHIPPED["EarlyStopping"])
    assert_same(decision(Callback)[0], "Callback")
