"""run_sweep: one Tuner over all studies of one or several sweeps, around a reusable TrialActor."""

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from xmadapter.config import ClusterConfig
from xmadapter.distributed.connect import connect, submission_id, trial_slots
from xmadapter.distributed.interrupts import first_signal
from xmadapter.distributed.search import StudySearch
from xmadapter.distributed.trial_actor import METRIC, Features, TrialActor, ended
from xmadapter.distributed.view import SweepView
from xmadapter.errors import AllTrialsFailed, TooManyFailed, XMAdapterError
from xmadapter.features import FeatureStore
from xmadapter.records import chosen_entry, method_entry, trial_entry
from xmadapter.results import SweepFolder
from xmadapter.retrieval import FinetuneResult
from xmadapter.study import FinishedTrial, Study
from xmadapter.tasks import best_results, read_data
from xmadapter.tracking import Tracker
from xmadapter.trial import TrialResult

__all__ = ["SweepSummary", "run_sweep", "run_sweeps"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep did.

    Args:
        best: One result per method and shot count, chosen by validation.
        finished: Trials run now.
        kept: Trials that earlier runs had finished.
        failures: Reasons of failed trials, the commonest first.
    """

    best: list[TrialResult] | list[FinetuneResult]
    finished: int
    kept: int
    failures: list[tuple[str, int]]


class _Sweep:
    """One of the sweeps that run together: its studies, what earlier runs finished, and what came of it so far."""

    def __init__(self, store: FeatureStore, folder: SweepFolder) -> None:
        self.store, self.folder = store, folder
        self.studies = folder.studies(store.manifest.plan_fingerprint)
        finished = folder.trials()
        self.earlier = {study.uid: finished.get(study.uid, {}) for study in self.studies}
        self.tracker = Tracker(folder.config.tracking, folder.config.experiment, folder.ledger)
        self.finished = 0
        self.failures: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return sum(study.draws for study in self.studies)

    @property
    def left(self) -> int:
        planned = sum(study.left(self.earlier[study.uid]) for study in self.studies)
        return planned - self.finished

    @property
    def hopeless(self) -> bool:
        return self.failures.total() > self.folder.config.max_failed_fraction * self.total

    def searched(self) -> list[tuple[Study, dict[int, FinishedTrial]]]:
        """List the studies with what earlier runs finished of them."""
        return [(study, self.earlier[study.uid]) for study in self.studies]

    def announce(self) -> None:
        """Record the methods that no earlier run has recorded."""
        known = {entry.uid for entry in self.folder.ledger.entries("method")}
        for study in {study.parent: study for study in self.studies}.values():
            if study.parent not in known:
                self.tracker.record(method_entry(study, self.folder.config, self.store.manifest, job=submission_id()))

    def close(self) -> SweepSummary:
        """Choose, deliver, and say what was done."""
        best = best_results(self.folder, self.store.manifest.plan_fingerprint)
        if best:
            self.tracker.record(chosen_entry(best, self.studies))
        self.tracker.close()
        failures = self.failures.most_common()
        if not best:
            raise AllTrialsFailed(f"all {failures[0][1]} trials failed: {failures[0][0]}")
        if self.hopeless:
            raise TooManyFailed(
                f"{self.failures.total()} of {self.total} trials of {self.folder.path} failed, most by: {failures[0][0]}; the sweep "
                f"stopped with {self.left} not run, all others are kept; correct the config, or raise max_failed_fraction"
            )
        return SweepSummary(best, self.finished, sum(map(len, self.earlier.values())), failures)


class _Record(tune.Callback):
    """Write every finished trial to the ledger of its sweep, hand it to the tracker, show it."""

    def __init__(self, sweeps: Sequence[_Sweep], search: StudySearch, view: SweepView) -> None:
        self._search, self._view = search, view
        self._sweeps = {study.uid: (sweep, study) for sweep in sweeps for study in sweep.studies}
        self._running: set[str] = set()
        self._in_hand: set[str] | None = None

    def drain(self) -> None:
        """Let the trials that run now finish; with the last of them the job is interrupted."""
        self._in_hand = set(self._running)
        _log.warning("interrupted: %d trials in hand finish; interrupt again to stop at once", len(self._in_hand))
        self._interrupt_if_drained()

    def _interrupt_if_drained(self) -> None:
        # Trials that Tune holds ready start in the meantime; they are drawn again when the sweep goes on.
        drained = self._in_hand is not None and not self._in_hand & self._running
        if drained and any(sweep.left for sweep, _ in self._sweeps.values()):
            raise KeyboardInterrupt

    def __getstate__(self) -> dict[str, Any]:
        """Leave nothing for Tune to pickle into its restore file, which is never read: the ledger is."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002
        self._running.add(trial.trial_id)
        self._view.started(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002
        self._write(trial, trial.last_result or {})

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002
        if not trial.config["again"]:  # the search hands it out once more
            self._view.lost(trial.trial_id)
            self._running.discard(trial.trial_id)
            self._interrupt_if_drained()
            return
        error = trial.get_error()
        self._write(trial, {"failure": f"the process was lost: {type(error).__name__}"} if error else {})

    def _write(self, trial: Trial, last: Mapping[str, Any]) -> None:
        sweep, study = self._sweeps[trial.config["study"]]
        finished, failure = ended(last, trial.config["drawn"])
        sweep.tracker.record(trial_entry(study, trial.config["number"], finished, failure))
        sweep.finished += 1
        if failure is not None:
            sweep.failures[failure] += 1
            if sweep.hopeless:
                self._search.drop({study.uid for study in sweep.studies})
        self._view.ended(trial.trial_id, study, finished, failure)
        self._running.discard(trial.trial_id)
        self._interrupt_if_drained()


class _InOrder(FIFOScheduler):
    """Run trials as they were drawn, with a look at those that have not ended: Tune's own looks at all of them at every step."""

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        waiting = [trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PENDING]
        return min(waiting, key=lambda trial: (len(trial.trial_id), trial.trial_id), default=None)  # they count up


def run_sweep(store: FeatureStore, folder: SweepFolder) -> SweepSummary:
    """Run what is missing of one sweep, as `run_sweeps`.

    Args:
        store: Features to tune on; its test shards are not opened.
        folder: The sweep's folder; trials go to its ledger as they finish.
    """
    return run_sweeps([(store, folder)])[0]


def run_sweeps(pairs: Sequence[tuple[FeatureStore, SweepFolder]]) -> list[SweepSummary]:
    """Run what is missing of several sweeps as one job; finished trials are read from the ledgers and told to their studies.

    Sweeps take turns, so that none waits until another has ended, and processes start once for all of them. Only the features
    of sweeps with trials left are handed out; the cluster is that of the first.

    Args:
        pairs: Features and folder of each sweep; test shards are not opened.

    Raises:
        EpisodeError: A class has too few images; nothing was run.
        ConfigError: Trials ask for a GPU where there is none; nothing was run.
        AllTrialsFailed: No trial of a sweep succeeded; the commonest cause.
        TooManyFailed: More trials of a sweep failed than it allows; all others were run.
        TrackingError: All is finished and recorded, but MLflow has not received everything.
        KeyboardInterrupt: Interrupted; finished trials are kept.
    """
    if not pairs:
        return []
    sweeps = [_Sweep(store, folder) for store, folder in pairs]
    features: Features = {}
    for sweep in sweeps:
        features |= _handed_out(sweep, sweeps[0].folder.config.cluster)
    slots = trial_slots(sweeps[0].folder.config.cluster) if features else 0
    for sweep in sweeps:
        sweep.announce()
    _tune(sweeps, features, slots)
    summaries, errors = [], []
    for sweep in sweeps:  # each delivers what it has, whatever became of the others
        try:
            summaries.append(sweep.close())
        except XMAdapterError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return summaries


def _handed_out(sweep: _Sweep, cluster: ClusterConfig) -> Features:
    """Put the features of a sweep into the object store, for all of its studies; the driver keeps no copy."""
    data = read_data(sweep.store, sweep.folder.config)
    if not sweep.left:
        return {}
    connect(cluster)
    return dict.fromkeys([study.uid for study in sweep.studies], ray.put(data))


def _tune(sweeps: Sequence[_Sweep], features: Features, slots: int) -> None:
    total, left = sum(sweep.total for sweep in sweeps), sum(sweep.left for sweep in sweeps)
    several = len(sweeps) > 1
    rows = {
        study.uid: sweep.folder.config.experiment if several else study.method.title
        for sweep in sweeps
        for study in sweep.studies
    }
    with SweepView(total, rows) as view:
        for sweep in sweeps:
            view.kept(sweep.searched())
        if not left:
            return
        # The first studies of every sweep, then the second ones: studies wait in this order.
        turns = chain.from_iterable(zip_longest(*(sweep.searched() for sweep in sweeps)))
        search = StudySearch(turn for turn in turns if turn is not None)
        studies = {study.uid: study for sweep in sweeps for study in sweep.studies}
        trainable = tune.with_parameters(TrialActor, features=features, studies=studies)
        share = sweeps[0].folder.config.cluster.trial_gpus
        # Tune keeps one trial pending by default, and gives it the actor that was just freed: a second actor would never start.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(2 * slots)
        resources = tune.with_resources(trainable, {"CPU": 1, "GPU": share})
        _run_tuner(resources, search, left, _Record(sweeps, search, view))
        if any(sweep.left and not sweep.hopeless for sweep in sweeps):
            raise KeyboardInterrupt


def _run_tuner(trainable: Any, search: StudySearch, trials: int, record: _Record) -> None:
    # Tune's own files: the ledger replaces its loggers, its checkpoints and its restore, which would unpickle them.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # it would end the trials that run
    os.environ.setdefault("TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "3600")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a lost process is in the ledger, with its reason
    with tempfile.TemporaryDirectory(prefix="xmadapter-tune-") as scratch, first_signal(record.drain):
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=_InOrder(),
                num_samples=2 * trials,  # each may come again; the search says when there are no more
                reuse_actors=True,
                metric=METRIC,
                mode="max",
            ),
            run_config=tune.RunConfig(
                storage_path=scratch,
                callbacks=[record],
                verbose=0,
                # The search repeats what was lost: of a process that is lost between two trials Tune itself reports the next one
                # as failed twice, first to be repeated, then for good.
                failure_config=tune.FailureConfig(max_failures=0),
                # A finished trial is in the ledger; by default Tune would save it once more.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
