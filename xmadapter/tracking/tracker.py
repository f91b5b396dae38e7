"""Tracker: from the ledger to MLflow.

The ledger is the truth and MLflow a copy. A thread delivers entries in order and acknowledges each in the ledger. Creating a run
is not idempotent, since a lost reply does not mean a lost run; so each run carries a `trial_uid` tag, which is searched for before
anything is sent a second time.
"""

import math
import queue
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import JsonValue
from tqdm import tqdm

from xmadapter.config import TrackingConfig
from xmadapter.errors import TrackingError
from xmadapter.fingerprint import fingerprint
from xmadapter.ledger import Entry, Ledger
from xmadapter.tracking.client import is_refusal, make_client, make_experiment, masked, reason, tracking_uri
from xmadapter.tracking.views import METHODS_VIEW, methods_view, trials_address, trials_key, trials_view, view_tag

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

__all__ = ["Tracker"]

_DELIVERED = ("method", "trial", "chosen", "final", "artifact")
_RETRY_S = (0.1, 4.0)
"""Wait after the first failure, and at most; it doubles between them."""
_REST = 15
"""While trials run, delivery rests so many times as long as it worked: it shares their cores, and they come first."""
_PATIENCE_S = 15.0
"""How long nothing may be delivered once everything else is done: a server that restarts comes back, one that is down does not."""
_LONGEST_TAG, _LONGEST_PARAM = 5000, 6000
"""What MLflow stores; longer text is cut."""


class Tracker:
    """Deliver ledger entries to MLflow, once each, without making a trial wait.

    Kinds delivered: `method` opens a parent run, `trial` a child, `chosen` and `final` add metrics to parents with the shot count
    as step, `artifact` adds a file to parents. What earlier trackers left undelivered is delivered first. The caller closes.

    Args:
        config: Address of MLflow.
        experiment: MLflow experiment, made when absent.
        ledger: Where undelivered entries wait. Two trackers must not share one.

    Raises:
        TrackingError: `config.required`, and MLflow does not answer.
    """

    def __init__(self, config: TrackingConfig, experiment: str, ledger: Ledger) -> None:
        self._uri = tracking_uri(config)
        self._experiment = experiment
        self._ledger = ledger
        self._destination = fingerprint([self._uri, experiment])
        self._made: MlflowClient | None = None
        self._experiment_found: str | None = None
        self._runs: dict[str, str] = {}
        self._queue: queue.Queue[tuple[Entry, bool] | None] = queue.Queue()
        self._pending = 0
        self._failure: str | None = None
        self._delivered_at = 0.0
        if config.required:
            self._ask()
        delivered = set()
        for entry in ledger.entries():
            # What another server or experiment has received is sent again: this one does not know those runs.
            if entry.kind == "delivered" and entry.body["to"] == self._destination:
                delivered.add(entry.uid)
                if run := entry.body.get("run"):
                    self._runs[entry.uid.split("/", 1)[1]] = str(run)
        for entry in ledger.entries():
            if entry.kind in _DELIVERED and _key(entry) not in delivered:
                self._enqueue(entry, sent_before=True)  # by a tracker that ended before it knew
        self._stop, self._hurry = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._deliver_all, daemon=True, name="tracker")
        self._thread.start()

    def _ask(self) -> None:
        try:
            self._experiment_id()
        except Exception as error:
            raise TrackingError(
                f"MLflow at {masked(self._uri)} does not answer ({reason(error)}); nothing was run; start it, correct tracking.uri, "
                "or set tracking.required=false: results then wait here and are delivered later"
            ) from error

    def record(self, entry: Entry) -> None:
        """Write an entry to the ledger, and queue it for delivery; when this returns, it is not lost any more."""
        self._ledger.append(entry)
        self._enqueue(entry, sent_before=False)

    def _enqueue(self, entry: Entry, *, sent_before: bool) -> None:
        self._pending += 1
        self._queue.put((entry, sent_before))

    def close(self, *, timeout_s: float = math.inf) -> None:
        """Wait until everything is delivered, or nothing is any more, then stop; shows how far it is.

        Raises:
            TrackingError: Entries remain. Nothing is lost: they are in the ledger, and `xmadapter sync` sends them.
        """
        self._queue.put(None)
        self._hurry.set()
        closed = now = time.monotonic()
        with tqdm(total=self._pending, desc="delivering to MLflow", unit="record", delay=2, disable=None) as bar:
            while self._thread.is_alive() and now < closed + timeout_s:
                if self._failure is not None and now > max(closed, self._delivered_at) + _PATIENCE_S:
                    break
                self._thread.join(timeout=0.1)
                bar.update(bar.total - self._pending - bar.n)
                now = time.monotonic()
        self._stop.set()
        if self._pending:
            raise TrackingError(
                f"{self._pending} records were not delivered to MLflow at {masked(self._uri)} ({self._failure or 'time is up'}); all "
                f"results are in {self._ledger.path}; when the server is back: xmadapter sync {self._ledger.path.parent}"
            )

    def _deliver_all(self) -> None:
        while (item := self._queue.get()) is not None:
            entry, sent_before = item
            pause, begun = _RETRY_S[0], time.monotonic()
            while not self._stop.is_set():
                try:
                    run = self._deliver(entry, sent_before)
                except Exception as error:  # whatever a server or its client can raise; the entry stays in the ledger
                    self._failure, sent_before = reason(error), True
                    if is_refusal(error):
                        return
                    self._stop.wait(pause)
                    pause = min(2 * pause, _RETRY_S[1])
                else:
                    self._failure, self._delivered_at = None, time.monotonic()
                    receipt = {"to": self._destination, "run": run, "experiment": self._experiment_id()}
                    self._ledger.append(Entry("delivered", _key(entry), receipt))
                    self._pending -= 1
                    self._hurry.wait(_REST * (self._delivered_at - begun))
                    break

    def _deliver(self, entry: Entry, sent_before: bool) -> str | None:
        client, body = self._client(), entry.body
        match entry.kind:
            case "method":
                run = self._run(client, entry, sent_before, {})
                _log_dataset(client, run, body["dataset"])
                view = view_tag(trials_key(entry.uid))
                measure = body.get("measure", "accuracy")
                client.set_experiment_tag(self._experiment_id(), view, trials_view(run, body["searched"], measure))
                client.set_experiment_tag(self._experiment_id(), view_tag(METHODS_VIEW), methods_view(measure))
                client.set_tag(run, "mlflow.note.content", self._link(entry.uid))
                _log_text(client, run, "sweep.yaml", yaml.safe_dump(body["config"], sort_keys=False))
                return run
            case "trial":
                run = self._run(client, entry, sent_before, {"mlflow.parentRunId": self._find(client, body["parent"])})
                client.set_terminated(run, _status(body), end_time=body["ended_ms"])
                return run
            case "chosen" | "final":
                for parent, by_step in body["metrics"].items():
                    run = self._find(client, parent)
                    rows = [row for step, metrics in by_step.items() for row in _metrics(metrics, step=int(step))]
                    client.log_batch(run, metrics=rows)
                    if note := body.get("notes", {}).get(parent):
                        client.set_tag(run, "mlflow.note.content", f"{note}\n\n{self._link(parent)}")
                    client.set_terminated(run, "FINISHED")
            case "artifact":
                for parent in body["parents"]:
                    client.log_artifact(self._find(client, parent), str(body["path"]))
        return None

    def _client(self) -> "MlflowClient":
        if self._made is None:
            self._made = make_client(self._uri)
        return self._made

    def _experiment_id(self) -> str:
        if self._experiment_found is None:
            self._experiment_found = make_experiment(self._client(), self._uri, self._experiment)
        return self._experiment_found

    def _run(self, client: "MlflowClient", entry: Entry, sent_before: bool, more: Mapping[str, str]) -> str:
        """Create the run of an entry, or find it; with tags, parameters and metrics."""
        from mlflow.entities import Param

        body = entry.body
        run = self._search(client, entry.uid) if sent_before else None
        if run is None:
            tags = {key: str(value)[:_LONGEST_TAG] for key, value in {**body["tags"], **more}.items()}
            run = client.create_run(
                self._experiment_id(),
                start_time=body.get("started_ms"),
                run_name=str(body["name"]),
                tags={**tags, "trial_uid": entry.uid},
            ).info.run_id
        metrics = _metrics(body.get("metrics", {}), step=0)
        for epoch, value in body.get("rungs", {}).items():
            metrics += _metrics({f"{body.get('measure', 'accuracy')}/rung": value}, step=int(epoch))
        params = [Param(key, str(value)[:_LONGEST_PARAM]) for key, value in body["params"].items()]
        client.log_batch(run, metrics=metrics, params=params)
        self._runs[entry.uid] = run
        return run

    def _link(self, parent: str) -> str:
        return f"[Trials and their hyperparameters]({trials_address(self._experiment_id(), parent)})"

    def _search(self, client: "MlflowClient", uid: str) -> str | None:
        found = client.search_runs([self._experiment_id()], f"tags.trial_uid = '{uid}'", max_results=1)
        return found[0].info.run_id if found else None

    def _find(self, client: "MlflowClient", uid: JsonValue) -> str:
        known = self._runs.get(str(uid)) or self._search(client, str(uid))
        if known is None:
            raise LookupError(f"MLflow has no run of {uid} any more")
        self._runs[str(uid)] = known
        return known


def _key(entry: Entry) -> str:
    return f"{entry.kind}/{entry.uid}"


def _status(body: Mapping[str, Any]) -> str:
    if body["result"]:
        return "FINISHED"
    return "FAILED" if "failure" in body["tags"] else "KILLED"  # stopped early


def _metrics(values: Mapping[str, float], *, step: int) -> "list[Metric]":
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, value, now, step) for name, value in values.items()]


def _log_dataset(client: "MlflowClient", run: str, dataset: Mapping[str, str]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    context = InputTag("mlflow.data.context", "tuning")
    client.log_inputs(run, [DatasetInput(Dataset(**dataset), [context])])


def _log_text(client: "MlflowClient", run: str, name: str, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        client.log_artifact(run, str(path))
