"""Sweeps whose trials raise, run out of memory or lose their process: the others find what they find in a quiet sweep.

Workers that die end themselves, in the Ray that this process started.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.cluster.faulty_actor import FaultyActor, HandoverActor, MortalActor, deaths
from tests.factories import make_encode_plan, make_samples, make_store
from xmadapter.config import SweepConfig
from xmadapter.distributed import sweep
from xmadapter.distributed.sweep import SweepSummary, run_sweep
from xmadapter.features import FeatureStore
from xmadapter.results import SweepFolder, create_sweep_folder
from xmadapter.study import FinishedTrial

pytestmark = [
    pytest.mark.timeout(300),  # processes that start anew import torch, on a machine that may be busy
    # Ray 2.60 warns itself of its own settings, and leaves sockets to the collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

SEED = os.environ.setdefault("CHAOS_SEED", "1")  # which workers inherit
TIP_F = {"kind": "tip-f", "fit": {"epochs": 200}}
SOUND = [{"adapter": {"kind": "tip"}}, {"adapter": TIP_F, "trials": 4}]
FAULTY = [{"adapter": TIP_F, "trials": 1, "name": name} for name in ("raises", "hungry", "dies", "dies once")]
Found = dict[tuple[str, int, int], tuple[Any, ...]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("store") / "features", make_encode_plan(make_samples(per_class=16)))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], None]]:
    """Start a Ray with so many slots, in place of the one before."""

    def start(slots: int) -> None:
        ray.shutdown()
        os.environ["FAULTY_MARKER"] = str(tmp_path_factory.mktemp("marker") / "died")
        ray.init(address="local", num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    yield start
    ray.shutdown()
    os.environ.pop("FAULTY_MARKER", None)


def make_folder(store: FeatureStore, output: Path, methods: list[Any]) -> SweepFolder:
    values = {
        "features": store.root,
        "output": str(output),
        "experiment": output.name,
        "methods": methods,
        "shots": [2, 4],
        "seeds": [1, 2],
        "max_failed_fraction": 1.0,
        "tracking": {"uri": f"sqlite:///{output.parent}/mlflow.db"},
    }
    return create_sweep_folder(SweepConfig.model_validate(values))


def found(store: FeatureStore, folder: SweepFolder) -> Found:
    """What each successful trial drew and found; seconds left out."""
    shots = {study.uid: (study.method.title, study.shots) for study in folder.studies(store.manifest.plan_fingerprint)}
    return {
        (*shots[uid], number): _without_seconds(trial)
        for uid, trials in folder.trials().items()
        for number, trial in trials.items()
        if trial.result is not None
    }


def _without_seconds(trial: FinishedTrial) -> tuple[Any, ...]:
    assert trial.result is not None
    return trial.drawn, trial.result.model_copy(update={"seconds": 0, "latency_us": 0})


@pytest.fixture(scope="module")
def quiet(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory, cluster: Callable[[int], None]) -> Found:
    """One slot, nothing goes wrong."""
    cluster(1)
    folder = make_folder(store, tmp_path_factory.mktemp("quiet") / "sweep", SOUND)
    run_sweep(store, folder)
    assert len(found(store, folder)) == 2 * (1 + 4)
    return found(store, folder)


def test_four_slots_and_killed_workers_change_no_result(
    store: FeatureStore, tmp_path: Path, cluster: Callable[[int], None], quiet: Found, monkeypatch: pytest.MonkeyPatch
):
    print(f"seed {SEED}")
    cluster(4)
    monkeypatch.setattr(sweep, "TrialActor", MortalActor)
    folder = make_folder(store, tmp_path / "sweep", SOUND)
    summary = run_sweep(store, folder)
    assert deaths() >= 1
    assert summary.failures == []
    assert found(store, folder) == quiet


def test_a_process_lost_between_two_trials_costs_neither(
    store: FeatureStore, tmp_path: Path, cluster: Callable[[int], None], quiet: Found, monkeypatch: pytest.MonkeyPatch
):
    cluster(2)
    monkeypatch.setattr(sweep, "TrialActor", HandoverActor)
    folder = make_folder(store, tmp_path / "sweep", SOUND)
    assert _run(store, folder).failures == []
    assert deaths() == 1
    assert found(store, folder) == quiet


def test_trials_that_fail_leave_the_others_bit_for_bit_as_they_are(
    store: FeatureStore, tmp_path: Path, cluster: Callable[[int], None], quiet: Found, monkeypatch: pytest.MonkeyPatch
):
    cluster(2)
    monkeypatch.setattr(sweep, "TrialActor", FaultyActor)
    folder = make_folder(store, tmp_path / "sweep", [*SOUND, *FAULTY])
    summary = _run(store, folder)
    results = found(store, folder)
    assert {key: value for key, value in results.items() if key[0] in ("Tip-Adapter", "Tip-Adapter-F")} == quiet
    assert {key[:2] for key in results} - {key[:2] for key in quiet} == {("dies once", 2), ("dies once", 4)}
    reasons = dict(summary.failures)
    assert sum(reasons.values()) == 3 * 2
    assert reasons["ValueError: made up"] == 2
    assert reasons["MemoryError: "] == 2
    assert sum(count for reason, count in reasons.items() if reason.startswith("the process was lost")) == 2


def _run(store: FeatureStore, folder: SweepFolder) -> SweepSummary:
    begun = time.monotonic()
    summary = run_sweep(store, folder)
    print(f"{summary.finished} trials, {time.monotonic() - begun:.0f} s")
    return summary
