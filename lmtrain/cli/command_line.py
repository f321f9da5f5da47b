"""`train.py` and `lmtrain-train`: Hydra composes the configuration, mistakes become one message and exit status 2."""

import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmtrain.cli.sweep import add_swept_values
from lmtrain.cli.workers import are_used, run_in_worker, stopped_status
from lmtrain.config.compose import CONFIG_FOLDER
from lmtrain.config.overrides import as_hydra_reads
from lmtrain.config.schema import local_path
from lmtrain.errors import RunFailed, UserError
from lmtrain.program.output import OutputGone, output_is_not_needed, protected_output
from lmtrain.program.shell import escaped, override_of, pasteable, quoted
from lmtrain.program.signals import Interrupted, SignalWatch, say
from lmtrain.program.starting import work_is_over
from lmtrain.runs.run_folder import RunFolder

_EXTRAS = {"hydra/sweeper/optuna": "sweep", "hydra/launcher/joblib": "sweep", "hydra/launcher/submitit_slurm": "slurm"}


def main() -> None:
    """Runs the command line; exits with 0 only if the run did its work, with 2 for a user's mistake."""
    with protected_output():
        try:
            try:
                _main()
            finally:
                work_is_over()
                sys.stdout.flush()
        except OutputGone as gone:  # what --help and --cfg print
            print(gone.report(), end="", file=sys.stderr)
            sys.exit(1)


def _main() -> None:
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises, and the message is ours
    typed = list(sys.argv)

    def start(config: DictConfig) -> float:
        sys.argv[:] = typed  # in workers, too: other ranks are started with it, and the model card tells it
        return _start(config)

    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # callbacks of one's own, also where the command is installed
    try:
        sys.argv[1:] = as_hydra_reads(sys.argv[1:])
        with SignalWatch():  # a run has its own
            hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="config")(start)()
    except Interrupted as interruption:
        say(interruption)
        sys.exit(128 + interruption.signum)
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(_say(_explain(error)))
    except ValueError as error:
        sys.exit(_say(_explain_value_error(error)))
    except RunFailed:  # its message is on the screen
        sys.exit(2)
    except UserError as error:
        sys.exit(_say(error.report()))
    except KeyboardInterrupt:  # a worker was stopped
        sys.exit(stopped_status() or 130)
    except RuntimeError:  # a signal met a worker process before its job had begun, or came twice
        if not stopped_status():
            raise
        sys.exit(stopped_status())


def _say(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


def _start(config: DictConfig) -> float:
    with protected_output():  # a sweep's worker process has not been through `main`
        output_is_not_needed()
        if are_used(HydraConfig.get()):
            return run_in_worker(lambda: _job(config))
        return _job(config)


def _job(config: DictConfig) -> float:
    """One run; in a sweep, one of several. Mistakes end it here, for Hydra would print more than their message.

    Returns:
        the best validation loss, which a search minimises.

    Raises:
        RunFailed: a run of a sweep failed; the others go on.
    """
    choice = HydraConfig.get()
    try:
        add_swept_values(config)
        return _run(OmegaConf.to_container(config, resolve=True, throw_on_missing=True), choice)
    except UserError as error:
        status = _say(error.report())
        if isinstance(error, RunFailed) and choice.mode == RunMode.MULTIRUN:
            raise RunFailed(f"{config.name} failed, see above") from None
        sys.exit(status)
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(_say(_explain(error)))


def _run(values: dict[str, Any], choice: DictConfig) -> float:
    if choice.mode == RunMode.MULTIRUN and values["trainer"]["devices"] != 1:
        return _run_apart(values, choice)
    # Lightning starts the other ranks with this process's own arguments, unless it sees that Hydra is running
    HydraConfig.instance().cfg = None
    from lmtrain.training.quick_start import (
        without_unused_packages,  # slow to import, all of these, and not needed for --help
    )

    with without_unused_packages():
        from lmtrain.cli.interruption import stop
        from lmtrain.training.train import train

    try:
        return train(values, {override.lstrip("+~").split("=")[0] for override in choice.overrides.task})["val/loss"]
    except Interrupted as interruption:
        sys.exit(stop(interruption, values))


def _run_apart(values: dict[str, Any], choice: DictConfig) -> float:
    """A job of a sweep in a process of its own: its ranks share what a process can have only once."""
    overrides = {override.partition("=")[0]: override for override in choice.overrides.task}
    overrides["name"] = f"name={quoted(values['name'])}"
    if (key := "data.document_delimiter") in overrides:
        overrides[key] = f"{key}={quoted(escaped(values['data']['document_delimiter']))}"
    command = [sys.executable, sys.argv[0], *overrides.values(), "hydra.mode=RUN"]
    process = subprocess.Popen(command)
    try:
        status = process.wait()
    except Interrupted as interruption:
        process.send_signal(signal.SIGTERM)  # has no effect where the terminal has told the process of Ctrl-C, too
        process.wait()  # it saves, and says so
        sys.exit(128 + interruption.signum)
    if status >= 128 or status < 0:
        sys.exit(status if status > 0 else 128 - status)
    results = RunFolder(Path(local_path(values["runs_dir"])) / values["name"]).read_results()
    if status == 0 and values["trainer"].get("fast_dev_run"):  # it leaves nothing
        return math.nan
    if status or results is None:
        raise RunFailed(f"The run {values['name']} ended with status {status}.")
    return results["val/loss"]


def _explain_value_error(error: ValueError) -> str:
    """What Hydra says by ValueErrors of its own.

    Raises:
        ValueError: the error itself, if it is none of Hydra's.
    """
    message = " ".join(str(error).split())
    if "No trials are completed" in message:
        return "Error: no trial of the search succeeded, see above."
    if "Config group override" in message:
        return f"Error: a group such as model=OPTION takes the name of an option. {message}."
    if "Expecting one subcommand" in message or "No completion plugin" in message:
        return f"Error: -sc takes install=SHELL or uninstall=SHELL, and SHELL is bash, zsh or fish. {message}."
    raise error


def _class_form(option: str) -> str:
    """How to type a class that was given as the name of an option, such as "callbacks/my.EMA"; empty if it is none."""
    group, _, name = option.rpartition("/")
    if "." not in name or group not in ("anneal", "callbacks", "logger", "optimizer"):
        return ""
    refused = f"Error: {group}={name} is no option."
    if group == "optimizer":
        return f"{refused} Another class of torch's kind, with the chosen one's arguments: {group}._target_={name}"
    if group == "anneal":
        return f"{refused} A schedule of your own is named in anneal.schedule={name}"
    short = re.sub(r"\W", "_", name.rpartition(".")[2]).lower()
    typed = pasteable(f"+{group}.{short}={{_target_: {name}}}")
    return f"{refused} A class is given as {typed}, its arguments after it: {{_target_: {name}, ARGUMENT: VALUE}}"


def _explain(error: Exception) -> str:
    """What Hydra says, shorter, with the nearest key or option where there is one."""
    from lmtrain.config.schema import hint, most_like  # slow to import, like training

    if isinstance(error, OverrideParseException):
        reason = error.message.replace(f"Error parsing override '{error.override}'", "").split("See https:")[0]
        key, _, value = error.override.partition("=")
        return (
            f"Error: {error.override!r} on the command line is not KEY=VALUE ({' '.join(reason.split())}). "
            "A value with special characters needs quotes that the shell leaves: "
            f"{override_of(key, value or 'VALUE', is_quoted=True)}"
        )
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):  # of a resolver
            return cause.report()
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file in _EXTRAS:
        group, _, option = error.missing_cfg_file.rpartition("/")
        extra = _EXTRAS[error.missing_cfg_file]
        return f"Error: {group}={option} needs packages that are not installed: pip install 'lmtrain[{extra}]'."
    if isinstance(error, MissingConfigException) and (form := _class_form(error.missing_cfg_file or "")):
        return form
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        nearest = most_like(option, error.options)
        meant = f"Did you mean {' or '.join(nearest)}? " if nearest else ""
        return f"Error: {group}={option} is no option. {meant}The options are {', '.join(error.options)}."
    cause = error.__cause__ or error
    key = getattr(cause, "full_key", None)
    if key and "not in struct" in str(cause):
        groups = most_like(key, ["experiment"])
        return f"Error: there is no key {key}. " + (f"Did you mean {groups[0]}?" if groups else hint(key))
    message = " ".join((str(error) or str(cause)).split())
    if ambiguous := re.search(r"Ambiguous value for argument '(.*?)=(.*?)' 1\.", message):
        text = override_of(ambiguous[1], ambiguous[2], is_quoted=True)
        return f"Error: {ambiguous[1]}={ambiguous[2]} are several values, for -m (--multirun). As one text: {text}"
    where = f"{key}: " if key else ""
    return f"Error: {where}{message.partition(' full_key:')[0].partition(' Config search path:')[0]}"
