"""What every step of a sweep does with its folder: hand results to MLflow, and say where they are."""

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xmadapter.config import FinetuneConfig
from xmadapter.errors import ConfigError, FingerprintMismatch, XMAdapterError, some
from xmadapter.features import FeatureStore, open_features
from xmadapter.ledger import Entry
from xmadapter.results import Result, SweepFolder, open_sweep_folder
from xmadapter.retrieval import FinetuneResult
from xmadapter.selection import select_best
from xmadapter.tracking import Tracker, tracking_uri
from xmadapter.trial import TrialResult

__all__ = [
    "WrittenReport",
    "choices",
    "experiment_id",
    "failed_trials",
    "not_evaluated",
    "open_tracker",
    "send_file",
    "sync",
    "tell_left_out",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenReport:
    """Where a report is, and how to compare the runs in MLflow: what starts it, and the page to open."""

    page: Path
    mlflow: str
    comparison: str


def sync(sweep: str) -> str:
    """Deliver what MLflow has not acknowledged; returns its address.

    Raises:
        TrackingError: The server is still not there; nothing is lost.
    """
    folder = open_sweep_folder(sweep)
    with open_tracker(folder):
        return tracking_uri(folder.config.tracking)


@contextmanager
def open_tracker(folder: SweepFolder) -> Iterator[Tracker]:
    """Deliver what is recorded inside the `with`, and wait for it at the end."""
    tracker = Tracker(folder.config.tracking, folder.config.experiment, folder.ledger)
    yield tracker
    tracker.close()


def send_file(folder: SweepFolder, tracker: Tracker, store: FeatureStore, path: Path) -> None:
    """Hand a file to the runs of all methods that were begun."""
    begun = {entry.uid for entry in folder.ledger.entries("method")}
    parents = sorted(begun & {study.parent for study in folder.studies(store.manifest.plan_fingerprint)})
    entry = Entry("artifact", f"{path.name}-{folder.looks}", {"parents": parents, "path": str(path.resolve())})
    tracker.record(entry)


def experiment_id(folder: SweepFolder) -> str | None:
    """Find the MLflow experiment that has received something; None while nothing was delivered."""
    ids = [entry.body.get("experiment") for entry in folder.ledger.entries("delivered")]
    return str(ids[-1]) if ids else None


def failed_trials(folder: SweepFolder) -> tuple[list[tuple[str, int]], int]:
    """Count reasons of failed trials, the commonest first, and trials that were stopped early."""
    ended = [entry.body for entry in folder.ledger.entries("trial") if entry.body["result"] is None]
    failures = Counter(str(body["tags"]["failure"]) for body in ended if "failure" in body["tags"])
    return failures.most_common(), len(ended) - failures.total()


def choices(folder: SweepFolder, kind: type[Result]) -> tuple[FeatureStore, list[Result]]:
    """Open the features of a sweep and choose by validation among its trials; methods that have none are named.

    Raises:
        ConfigError: No trial is finished.
        FingerprintMismatch: The features were swept in another state.
    """
    store = open_features(folder.config.features)
    best = select_best(folder.results(store.manifest.plan_fingerprint, kind))
    if not best:
        raise _nothing_to_choose(folder, store)
    tell_left_out(folder, best)
    return store, best


def _nothing_to_choose(folder: SweepFolder, store: FeatureStore) -> XMAdapterError:
    """Say why a sweep has no trial to choose from: other features, or none finished."""
    known = {entry.body["tags"]["feature_manifest"] for entry in folder.ledger.entries("method")}
    if known and store.manifest.plan_fingerprint not in known:
        return FingerprintMismatch(
            f"{folder.path} was swept on other features than {folder.config.features} holds now; nothing was scored; sweep again"
        )
    pipeline = "finetune" if isinstance(folder.config, FinetuneConfig) else "sweep"
    return ConfigError(f"{folder.path} has no finished trial; run pipelines.{pipeline} first")


def tell_left_out(folder: SweepFolder, best: Collection[TrialResult | FinetuneResult]) -> None:
    """Warn of methods that have no finished trial: the test goes on without them."""
    there = {result.method for result in best}
    missing = [method.title for method in folder.config.methods if method.title not in there]
    if missing:
        _log.warning(
            "%d of %d methods have no finished trial under this config and are left out: %s; run the sweep again to have them",
            len(missing),
            len(folder.config.methods),
            some(missing),
        )


def not_evaluated(folder: SweepFolder) -> ConfigError:
    """Say what has to come before a report."""
    return ConfigError(f"{folder.path} has no final test; run pipelines.evaluate with sweep={folder.path} first")
