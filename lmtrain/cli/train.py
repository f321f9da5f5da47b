"""Trains a model, or resumes a run that was stopped.

Hydra composes the configuration; mistakes become one message and exit status 2.
"""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from lmtrain.cli.sweep import add_swept_values
from lmtrain.cli.workers import call_in_process_of_job, stopped_status
from lmtrain.config.compose import CONFIG_FOLDER, check_choice, resolved
from lmtrain.config.hydra_errors import explained
from lmtrain.config.overrides import as_hydra_reads, explicit_keys, in_any_order
from lmtrain.config.schema import check_config
from lmtrain.config.value_types import local_path
from lmtrain.errors import RunFailed, UserError
from lmtrain.program.command import as_typed_here, has_subcommands, program
from lmtrain.program.output import OutputGone, output_is_not_needed, protected_output
from lmtrain.program.shell import escaped, quoted
from lmtrain.program.signals import Interrupted, SignalWatch, print_interruption
from lmtrain.program.starting import work_is_over
from lmtrain.runs.run_folder import RunFolder
from lmtrain.version import lmtrain_version


def main() -> None:
    """Runs the command line; exits with 0 only if the run did its work, with 2 for a user's mistake."""
    typed = list(sys.argv)
    with protected_output(), _exit_status():
        if "--version" in typed:  # Hydra would print its own
            print(f"lmtrain {lmtrain_version()}")
            return
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises, and the message is ours
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # the user's own callbacks, also where the command is installed
        sys.argv[1:] = as_hydra_reads(in_any_order(typed[_words() :]))
        start = hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="config")
        with SignalWatch(), explained():  # a run has its own watch
            start(lambda config: call_in_process_of_job(_job, config, typed))()


def _job(config: DictConfig, typed: list[str]) -> float:
    """One run; in a sweep, one of several.

    Args:
        typed: the command's words.

    Returns:
        the best validation loss, which a search minimises.

    Raises:
        RunFailed: a run of a sweep failed; the others go on.
    """
    sys.argv[:] = typed  # in workers, too: other ranks are started with it, and the model card shows it
    choice = HydraConfig.get()
    with protected_output(), _mistakes_end_it(config, choice), explained():
        output_is_not_needed()
        add_swept_values(config)
        if choice.mode == RunMode.MULTIRUN and config.trainer.devices != 1:
            return _run_apart(config, choice)
        values = resolved(config)
        # Lightning starts the other ranks with this process's own arguments, unless it sees that Hydra is running
        HydraConfig.instance().cfg = None
        from lmtrain.training.lightning_internals.importing import (
            without_unused_packages,  # slow to import, all of these, and not needed for --help
        )

        with without_unused_packages():
            from lmtrain.cli.interruption import stop
            from lmtrain.training.train import train

            checked = check_config(values)
        check_choice(checked, choice.overrides.task)
        try:
            return train(checked, explicit_keys(choice.overrides.task))["val/loss"]
        except Interrupted as interruption:
            sys.exit(stop(interruption, checked.checkpoint.requeue_signal))


@contextmanager
def _exit_status() -> Iterator[None]:
    """Ends the process with the exit status of whatever the block raises, once that is on the screen."""
    try:
        try:
            yield
        except Interrupted as interruption:
            print_interruption(interruption)
            sys.exit(128 + interruption.signum)
        except RunFailed:  # its message is on the screen
            sys.exit(2)
        except UserError as error:
            sys.exit(_print_mistake(error))
        except KeyboardInterrupt:  # a worker was stopped
            sys.exit(stopped_status() or 130)
        except RuntimeError:  # a signal met a worker process before its job had begun, or came twice
            if not stopped_status():
                raise
            sys.exit(stopped_status())
        finally:
            work_is_over()
            sys.stdout.flush()
    except OutputGone as gone:  # what --help and --cfg print
        print(gone.report(), end="", file=sys.stderr)
        sys.exit(gone.status)


@contextmanager
def _mistakes_end_it(config: DictConfig, choice: HydraConf) -> Iterator[None]:
    """Ends the process with the message of a mistake, before Hydra adds its own. After `RunFailed` a sweep goes on."""
    try:
        yield
    except UserError as error:
        status = _print_mistake(error)
        if isinstance(error, RunFailed) and choice.mode == RunMode.MULTIRUN:
            raise RunFailed(f"{config.name} failed, see above") from None
        sys.exit(status)


def _print_mistake(error: UserError) -> int:
    print(as_typed_here(error.report()), file=sys.stderr)
    return 2


def _words() -> int:
    """How many words begin the command: two of `lmtrain train KEY=VALUE ...`, one of the others."""
    return 2 if has_subcommands() else 1


def _run_apart(config: DictConfig, choice: HydraConf) -> float:
    """A job of a sweep in a process of its own: its ranks share what a process can have only once."""
    overrides = {override.partition("=")[0]: override for override in choice.overrides.task}
    overrides["name"] = f"name={quoted(config.name)}"
    if (key := "data.document_delimiter") in overrides:
        overrides[key] = f"{key}={quoted(escaped(config.data.document_delimiter))}"
    words = sys.argv[: _words()]
    if program() == "python -m lmtrain":
        words[0:1] = ["-m", "lmtrain"]
    command = [sys.executable, *words, *overrides.values(), "hydra.mode=RUN"]
    process = subprocess.Popen(command)
    try:
        status = process.wait()
    except Interrupted as interruption:
        process.send_signal(signal.SIGTERM)  # has no effect where the terminal has told the process of Ctrl-C, too
        process.wait()  # it saves, and says so
        sys.exit(128 + interruption.signum)
    if status >= 128 or status < 0:
        sys.exit(status if status > 0 else 128 - status)
    results = RunFolder(Path(local_path(config.runs_dir)) / config.name).read_results()
    if status == 0 and config.trainer.get("fast_dev_run"):  # it leaves nothing
        return math.nan
    if status or results is None:
        raise RunFailed(f"The run {config.name} ended with status {status}.")
    return results["val/loss"]
