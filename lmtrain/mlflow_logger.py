"""Figures and configuration in MLflow."""

import logging

from lightning.pytorch.loggers import MLFlowLogger

_TAG = "lmtrain.run_key"


def mlflow_logger(run_key: str | None, experiment_name: str, run_name: str, tracking_uri: str) -> MLFlowLogger:
    """Begins a run of MLflow, or goes on with it, and makes Lightning's logger of it.

    Args:
        run_key: identifies the run; None in a process that writes nothing.
        experiment_name, run_name: how MLflow shows it.
        tracking_uri: a server, or a database such as sqlite:///runs/mlflow.db.
    """
    if run_key is None:
        return MLFlowLogger(experiment_name, run_name, tracking_uri)
    from mlflow import MlflowClient  # slow, and an optional package

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells how it makes its database
    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name(experiment_name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(experiment_name)
    runs = client.search_runs([experiment_id], f"tags.`{_TAG}` = '{run_key}'")
    run = runs[0] if runs else client.create_run(experiment_id, tags={_TAG: run_key}, run_name=run_name)
    client.update_run(run.info.run_id, status="RUNNING")
    return MLFlowLogger(experiment_name, run_name, tracking_uri, run_id=run.info.run_id)
