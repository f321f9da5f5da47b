"""Figures and configuration in MLflow."""

import logging
import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import MLFlowLogger

from lmtrain.errors import UserError
from lmtrain.training.loggers.run_logger import RunInfo, RunLogger

if TYPE_CHECKING:
    from mlflow import MlflowClient

_TAG = "lmtrain.run_key"
_VARIABLE = "MLFLOW_TRACKING_URI"


class MLflow(MLFlowLogger, RunLogger):
    """Begins a run of MLflow, or goes on with the one that this run began.

    Args:
        run: the run.
        experiment_name, run_name: by which MLflow shows it.
        tracking_uri: a server, or a database such as sqlite:///runs/mlflow.db.

    Raises:
        UserError: the server or database does not take the run.
    """

    packages = ("mlflow", "sqlalchemy", "alembic")
    extra = "mlflow"

    def __init__(self, run: RunInfo, experiment_name: str, run_name: str, tracking_uri: str) -> None:
        from mlflow import MlflowClient  # slow, and an optional package
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells how it makes its database
        try:
            with _database_for_itself(tracking_uri):
                client = MlflowClient(tracking_uri)
                run_id = None if run.key is None else _run_id(client, run.key, experiment_name, run_name)
                super().__init__(experiment_name, run_name, tracking_uri, run_id=run_id)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise UserError(f"logger.mlflow.tracking_uri={tracking_uri} does not take the run: {error}") from None

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_args: Any, **_more: Any) -> None:
        """Those that MLflow does not have yet: it changes none, and a longer run may have another `optimizer.lr`."""
        known = self.experiment.get_run(self.run_id).data.params
        given = params if isinstance(params, dict) else vars(params)
        super().log_hyperparams({name: value for name, value in given.items() if name not in known})


mlflow_logger = MLflow  # its name in configurations of before


@contextmanager
def _database_for_itself(tracking_uri: str) -> Iterator[None]:
    """Lets one process at a time create or open a database file: MLflow fails if two create its tables at once."""
    from sqlalchemy import make_url

    database = make_url(tracking_uri).database if tracking_uri.startswith("sqlite:") else None
    if not database or database == ":memory:":
        yield
        return
    place = Path(database)
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_name(f".{place.name}.lock")):
        yield


@contextmanager
def tracking_uri_kept() -> Iterator[None]:
    """Restores the environment variable that Lightning's logger sets, which the next run would take for the user's."""
    before = os.environ.get(_VARIABLE)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before


def _run_id(client: "MlflowClient", run_key: str, experiment_name: str, run_name: str) -> str:
    experiment = client.get_experiment_by_name(experiment_name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(experiment_name)
    runs = client.search_runs([experiment_id], f"tags.`{_TAG}` = '{run_key}'")
    run = runs[0] if runs else client.create_run(experiment_id, tags={_TAG: run_key}, run_name=run_name)
    client.update_run(run.info.run_id, status="RUNNING")
    return run.info.run_id
