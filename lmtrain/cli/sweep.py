"""Hydra callbacks for sweeps: they give each job a name of its own, and report the best trial of a search."""

import hashlib
import re
import sys
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

_LONGEST = 200  # bytes of a run's name; file systems take 255, and names of other files begin with it


class NameJobs(Callback):
    """Makes Hydra's `override_dirname` hold the swept keys that are not in `name` already."""

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        is_swept = {override.key_or_group: override.is_sweep_override() for override in overrides}
        name = (
            "" if is_swept.get("name") else cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))["name"]
        )
        in_name = re.findall(r"\$\{([\w.]+)\}", name)
        left_out = {"name", *(key for key in is_swept if not is_swept[key])}
        left_out |= {
            *in_name,
            *(key.removesuffix(".name") for key in in_name),
        }  # model.name tells model's options apart
        config.hydra.overrides.hydra.append(
            f"hydra.job.config.override_dirname.exclude_keys=[{','.join(sorted(left_out))}]"
        )


class ReportBestTrial(Callback):
    """Reports the best trial at the end of a search, silences Optuna except for its warnings, and leaves the hidden
    size out of the search if the user chose a model."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        import optuna  # slow, and not needed by other commands

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        given = {override.lstrip("+~").partition("=")[0] for override in config.hydra.overrides.task}
        if given & {"model", "init_from"} or config.hydra.runtime.choices.model != "small":
            with open_dict(config.hydra.sweeper.params):
                config.hydra.sweeper.params.pop("model.hidden_size", None)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        path = Path(config.hydra.sweep.dir) / "optimization_results.yaml"
        results = OmegaConf.load(path)
        best = " ".join(f"{key}={value}" for key, value in results.best_params.items())
        print(f"Best of the search: val/loss {results.best_value:.4f} with {best} ({path})", file=sys.stderr)


def add_swept_values(config: DictConfig) -> None:
    """In a job of a sweep, appends the swept keys and their values to `name`: "small-demo-forward-optimizer.lr-5"."""
    choice = HydraConfig.get()
    if choice.mode != RunMode.MULTIRUN or not choice.job.override_dirname:
        return
    left_out = choice.job.config.override_dirname.exclude_keys
    swept = [override for override in choice.overrides.task if override.lstrip("+~").partition("=")[0] not in left_out]
    config.name = f"{config.name}-{as_name(sorted(swept), _LONGEST - len(config.name.encode()) - 1)}"


def as_name(swept: list[str], longest: int) -> str:
    """`optimizer.lr-5-seed-1` of `optimizer.lr=5` and `seed=1`.

    Characters that need quotes in a shell are replaced and long names are cut; a hash then tells such names apart.

    Args:
        swept: the overrides, in Hydra's grammar.
        longest: bytes that the name may have.
    """
    swept = [re.sub(r"""=(['"])(.*)\1$""", r"=\2", override, flags=re.DOTALL) for override in swept]  # without quotes
    name = re.sub(r"[^\w.+-]+", "_", "-".join(override.replace("=", "-", 1) for override in swept), flags=re.ASCII)
    is_plain = all(re.fullmatch(r"[\w.+-]+=[\w.+-]*", override, re.ASCII) for override in swept)
    if is_plain and len(name) <= longest:
        return name
    digest = hashlib.sha256("\n".join(swept).encode()).hexdigest()[:8]
    return f"{name[: max(0, longest - len(digest) - 1)]}-{digest}"


TellJobsApart, SayBest = NameJobs, ReportBestTrial  # their former names, which copies of conf/ have
