"""One way to MLflow: its address, a client that notices a dead server in seconds, and errors in one line."""

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from xmadapter.config import TrackingConfig
from xmadapter.tracking.views import describe_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["find_experiment", "is_refusal", "make_client", "make_experiment", "masked", "reason", "tracking_uri"]

_REFUSED = (401, 403)


def tracking_uri(config: TrackingConfig) -> str:
    """Address of MLflow: the config's, else MLFLOW_TRACKING_URI, else MLflow's own default."""
    return config.uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def make_client(uri: str) -> "MlflowClient":
    """Make a client; nothing is asked of the server yet. Importing it takes seconds, the first time."""
    # The client would retry for minutes, and so that a run whose reply was lost is made twice: the tracker retries itself.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Each retry of a dead server would run into the progress bar; `close` says once what remains.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return MlflowClient(uri, registry_uri=uri)


def find_experiment(client: "MlflowClient", name: str) -> str | None:
    """Find the id of an experiment by name."""
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else None


def make_experiment(client: "MlflowClient", uri: str, name: str) -> str:
    """Find an experiment by name, or make it."""
    if (found := find_experiment(client, name)) is not None:
        return found
    location = None
    if uri.startswith("sqlite:///"):
        # Without this, artefacts of a local database land in whatever folder the process happens to run in.
        location = (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()
    # Without the kind, MLflow 3 opens the experiment on its page for language-model traces, which stays empty here.
    kind = {"mlflow.experimentKind": "custom_model_development"}
    made = client.create_experiment(name, artifact_location=location, tags=kind)
    client.set_experiment_tag(made, "mlflow.note.content", describe_experiment(made))
    return made


def is_refusal(error: Exception) -> bool:
    """Whether the server answered that we may not: asking again does not help."""
    status = getattr(error, "get_http_status_code", None)
    return callable(status) and status() in _REFUSED


def reason(error: Exception) -> str:
    """Say in one line what a server or its client raised; an address in it may hold a password."""
    text = re.sub(r"//[^/@\s]+@", "//***@", str(error))
    return f"{type(error).__name__}: {text.splitlines()[0][:120] if text else ''}"


def masked(uri: str) -> str:
    """Hide a password in an address."""
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}***@{rest.rpartition('@')[2]}" if separator and "@" in rest else uri
