"""What a sweep adds to a run: a name for each of its jobs."""

import re
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf


class TellJobsApart(Callback):
    """Makes Hydra's `override_dirname` hold what is swept and not in `name` already."""

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        is_swept = {override.key_or_group: override.is_sweep_override() for override in overrides}
        name = "" if is_swept.get("name") else OmegaConf.to_container(config, resolve=False)["name"]
        in_name = re.findall(r"\$\{([\w.]+)\}", name)
        left_out = {"name", *(key for key in is_swept if not is_swept[key])}
        left_out |= {
            *in_name,
            *(key.removesuffix(".name") for key in in_name),
        }  # model.name tells model's options apart
        config.hydra.overrides.hydra.append(
            f"hydra.job.config.override_dirname.exclude_keys=[{','.join(sorted(left_out))}]"
        )


class SayBest(Callback):
    """Says at the end of a search what it found; of what Optuna says, lets only warnings through."""

    def on_multirun_start(self, config: Any, **_: Any) -> None:  # noqa: ARG002 - Hydra's hook
        import optuna  # slow, and not needed by other commands

        optuna.logging.set_verbosity(optuna.logging.WARNING)

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
    # only what can be written in another command without quotes
    swept = re.sub(r"[^\w.+-]+", "_", choice.job.override_dirname)
    config.name = f"{config.name}-{swept}"
