"""Figures and configuration in MLflow."""

import logging
from typing import TYPE_CHECKING

from lightning.pytorch.loggers import MLFlowLogger

from lmtrain.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_TAG = "lmtrain.run_key"


def mlflow_logger(run_key: str | None, experiment_name: str, run_name: str, tracking_uri: str) -> MLFlowLogger:
    """Begins a run of MLflow, or goes on with it, and makes Lightning's logger of it.

    Args:
        run_key: identifies the run; None in a process that writes nothing.
        experiment_name, run_name: how MLflow shows it.
        tracking_uri: a server, or a database such as sqlite:///runs/mlflow.db.

    Raises:
        UserError: the server or database does not take the run.
    """
    if run_key is None:
        return MLFlowLogger(experiment_name, run_name, tracking_uri)
    from mlflow import MlflowClient  # slow, and an optional package
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells how it makes its database
    try:
        run_id = _run_id(MlflowClient(tracking_uri), run_key, experiment_name, run_name)
    except MlflowException as error:
        raise UserError(f"logger.mlflow.tracking_uri={tracking_uri} does not take the run: {error}") from None
    return MLFlowLogger(experiment_name, run_name, tracking_uri, run_id=run_id)


def _run_id(client: "MlflowClient", run_key: str, experiment_name: str, run_name: str) -> str:
    experiment = client.get_experiment_by_name(experiment_name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(experiment_name)
    runs = client.search_runs([experiment_id], f"tags.`{_TAG}` = '{run_key}'")
    run = runs[0] if runs else client.create_run(experiment_id, tags={_TAG: run_key}, run_name=run_name)
    client.update_run(run.info.run_id, status="RUNNING")
    return run.info.run_id
