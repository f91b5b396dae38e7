"""Tracker: from the ledger to MLflow; the only importer of mlflow.

The ledger is the truth and MLflow a copy. A thread delivers entries in order and acknowledges each in the ledger. Creating a run
is not idempotent, since a lost reply does not mean a lost run; so each run carries a `trial_uid` tag that is searched for first.
"""

import logging
import os
import queue
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import JsonValue

from xmadapter.config import TrackingConfig
from xmadapter.errors import TrackingError
from xmadapter.fingerprint import fingerprint
from xmadapter.ledger import Entry, Ledger

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Tracker", "tracking_uri"]

_DELIVERED = ("method", "trial", "chosen", "final", "artifact")
_RETRY_S = 2.0


class Tracker:
    """Deliver ledger entries to MLflow, once each, without making a trial wait.

    Kinds delivered: `method` opens a parent run, `trial` a child, `chosen` and `final` add metrics to parents with the shot count
    as step, `artifact` adds a file to parents. What earlier trackers left undelivered is delivered first. The caller closes.

    Args:
        config: Address of MLflow.
        experiment: MLflow experiment, made when absent.
        ledger: Where undelivered entries wait. Two trackers must not share one.
    """

    def __init__(self, config: TrackingConfig, experiment: str, ledger: Ledger) -> None:
        self._uri = tracking_uri(config)
        self._experiment = experiment
        self._ledger = ledger
        self._destination = fingerprint([self._uri, experiment])
        self._experiment_found: str | None = None
        self._runs: dict[str, str] = {}
        self._queue: queue.Queue[Entry | None] = queue.Queue()
        self._pending = 0
        self._failure: str | None = None
        delivered = set()
        for entry in ledger.entries():
            # What another server or experiment has received is sent again: this one does not know those runs.
            if entry.kind == "delivered" and entry.body["to"] == self._destination:
                delivered.add(entry.uid)
                if run := entry.body.get("run"):
                    self._runs[entry.uid.split("/", 1)[1]] = str(run)
        for entry in ledger.entries():
            if entry.kind in _DELIVERED and _key(entry) not in delivered:
                self._enqueue(entry)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._deliver_all, daemon=True, name="tracker")
        self._thread.start()

    def record(self, entry: Entry) -> None:
        """Write an entry to the ledger, and queue it for delivery; when this returns, it is not lost any more."""
        self._ledger.append(entry)
        self._enqueue(entry)

    def _enqueue(self, entry: Entry) -> None:
        self._pending += 1
        self._queue.put(entry)

    def close(self, *, timeout_s: float = 60.0) -> None:
        """Wait until everything is delivered, or no progress is made, then stop.

        Raises:
            TrackingError: Entries remain. Nothing is lost: they are in the ledger, and `xmadapter sync` sends them.
        """
        self._queue.put(None)
        deadline = time.monotonic() + timeout_s
        while self._thread.is_alive() and time.monotonic() < deadline and self._failure is None:
            self._thread.join(timeout=0.1)
        self._stop.set()
        if self._pending:
            raise TrackingError(
                f"{self._pending} records were not delivered to MLflow at {_masked(self._uri)} ({self._failure or 'time is up'}); all "
                f"results are in {self._ledger.path}; when the server is back: xmadapter sync {self._ledger.path.parent}"
            )

    def _deliver_all(self) -> None:
        while (entry := self._queue.get()) is not None:
            while not self._stop.is_set():
                try:
                    run = self._deliver(entry)
                except Exception as error:  # whatever a server or its client can raise; the entry stays in the ledger
                    self._failure = f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
                    self._stop.wait(_RETRY_S)
                else:
                    self._failure = None
                    receipt = {"to": self._destination, "run": run, "experiment": self._experiment_id()}
                    self._ledger.append(Entry("delivered", _key(entry), receipt))
                    self._pending -= 1
                    break

    def _deliver(self, entry: Entry) -> str | None:
        client, body = self._client(), entry.body
        match entry.kind:
            case "method":
                run = self._run(client, entry.uid, str(body["name"]), body)
                _log_text(client, run, "sweep.yaml", yaml.safe_dump(body["config"], sort_keys=False))
                return run
            case "trial":
                tags = {**body["tags"], "mlflow.parentRunId": self._find(client, body["parent"])}
                run = self._run(client, entry.uid, str(body["name"]), {**body, "tags": tags})
                _log_metrics(client, run, body["metrics"], step=0)
                for epoch, value in body["rungs"].items():
                    _log_metrics(client, run, {"accuracy/rung": value}, step=int(epoch))
                stopped = "KILLED" if body["rungs"] and "failure" not in body["tags"] else "FAILED"
                client.set_terminated(run, "FINISHED" if body["result"] else stopped)
                return run
            case "chosen" | "final":
                for parent, by_step in body["metrics"].items():
                    run = self._find(client, parent)
                    for step, metrics in by_step.items():
                        _log_metrics(client, run, metrics, step=int(step))
                    if note := body.get("notes", {}).get(parent):
                        client.set_tag(run, "mlflow.note.content", note)
                    client.set_terminated(run, "FINISHED")
            case "artifact":
                for parent in body["parents"]:
                    client.log_artifact(self._find(client, parent), str(body["path"]))
        return None

    def _client(self) -> "MlflowClient":
        # A dead server must be noticed in seconds: the client's default is to retry for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        # Each retry of a dead server would run into the progress bar; `close` says once what remains.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        return MlflowClient(self._uri)

    def _experiment_id(self) -> str:
        if self._experiment_found is None:
            self._experiment_found = self._make_experiment(self._client())
        return self._experiment_found

    def _make_experiment(self, client: "MlflowClient") -> str:
        found = client.get_experiment_by_name(self._experiment)
        if found is not None:
            return found.experiment_id
        location = None
        if self._uri.startswith("sqlite:///"):
            # Without this, artefacts of a local database land in whatever folder the process happens to run in.
            location = (Path(self._uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()
        # Without the kind, MLflow 3 opens the experiment on its page for language-model traces, which stays empty here.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return client.create_experiment(self._experiment, artifact_location=location, tags=kind)

    def _run(self, client: "MlflowClient", uid: str, name: str, body: dict[str, Any]) -> str:
        """Find the run of a uid or create it, with tags and parameters."""
        experiment = self._experiment_id()
        found = client.search_runs([experiment], f"tags.trial_uid = '{uid}'", max_results=1)
        if found:
            run = found[0].info.run_id
        else:
            tags = {key: str(value) for key, value in body["tags"].items()}
            run = client.create_run(experiment, run_name=name, tags={**tags, "trial_uid": uid}).info.run_id
        from mlflow.entities import Param

        client.log_batch(run, params=[Param(key, str(value)[:6000]) for key, value in body["params"].items()])
        self._runs[uid] = run
        return run

    def _find(self, client: "MlflowClient", uid: JsonValue) -> str:
        if str(uid) not in self._runs:
            found = client.search_runs([self._experiment_id()], f"tags.trial_uid = '{uid}'", max_results=1)
            self._runs[str(uid)] = found[0].info.run_id
        return self._runs[str(uid)]


def tracking_uri(config: TrackingConfig) -> str:
    """Address of MLflow: the config's, else MLFLOW_TRACKING_URI, else MLflow's own default."""
    return config.uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def _key(entry: Entry) -> str:
    return f"{entry.kind}/{entry.uid}"


def _log_metrics(client: "MlflowClient", run: str, metrics: dict[str, float], *, step: int) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    client.log_batch(run, metrics=[Metric(name, value, now, step) for name, value in metrics.items()])


def _log_text(client: "MlflowClient", run: str, name: str, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        client.log_artifact(run, str(path))


def _masked(uri: str) -> str:
    """Hide a password in an address."""
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}***@{rest.rpartition('@')[2]}" if separator and "@" in rest else uri
