"""What does the sweep engine cost beside its trials?

python -m benchmarks.sweep_overhead      after `make demo`, whose features it sweeps

Sweeps 500 short trained trials, then runs the same trials in a bare loop on as many processes as the sweep had slots, then some of
them as Tune does by default, a process each. Prints throughputs against one another and the engine's time per trial. Start-up,
until the first trials are done, is printed apart: it is paid once, however many trials follow.
"""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from ray import tune

from xmadapter.config import SelectionProtocol, SweepConfig, load
from xmadapter.distributed import sweep
from xmadapter.distributed.connect import connect, cores
from xmadapter.features import TuningData, open_features
from xmadapter.results import SweepFolder, create_sweep_folder
from xmadapter.tracking import Tracker
from xmadapter.trial import TrialConfig, TrialResult, run_trial

METHOD = '[{"adapter": {"kind": "tip-f"}, "trials": 125}]'
BY_DEFAULT = 12

_data: TuningData


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        overrides = [f"output={scratch}/sweep", f"tracking.uri=sqlite:///{scratch}/mlflow.db", f"methods={METHOD}"]
        overrides += ["shots=[1, 2, 4, 8]"]
        config = load(SweepConfig, Path("pipelines/configs/demo/sweep.yaml"), overrides)
        store, folder = open_features(config.features), create_sweep_folder(config)
        begun = time.perf_counter()
        connect(config.cluster)
        finished = watch_records()
        sweep.run_sweep(store, folder)
        trials, seconds = _as_run(folder, store.manifest.plan_fingerprint)
        slots = cores()
        default = _as_tune_does(trials[:: len(trials) // BY_DEFAULT][:BY_DEFAULT], config)
    loop = _bare_loop(trials, slots, config)
    # The first trial of each slot is start-up's.
    busy, counted = finished[-1].at - finished[slots - 1].at, len(trials) - slots
    inside = sum(sorted(seconds)[slots:]) / slots
    print(
        f"trials:                       {len(trials)} on {slots} slots, {1000 * sum(seconds) / len(trials):.0f} ms each"
    )
    print(f"until the first are done:     {finished[slots - 1].at - begun:.1f} s (Ray, imports, features)")
    print(f"sweep after that:             {busy:.1f} s, of which inside trials {inside:.1f} s ({inside / busy:.0%})")
    print(f"engine:                       {(busy - inside) * slots / counted * 1000:.0f} ms a trial and slot")
    print(f"bare loop on as many slots:   {loop:.1f} s; the sweep has {loop / busy:.2f} of its throughput")
    print(
        f"Tune by default:              {default:.2f} s a trial ({BY_DEFAULT} trials after the first two); "
        f"the sweep takes {busy / counted:.3f} s, {default / (busy / counted):.1f} times less"
    )


def _as_run(folder: SweepFolder, plan: str) -> tuple[list[TrialConfig], list[float]]:
    """List what was run, and the seconds inside each trial."""
    ended, trials, seconds = folder.trials(), [], []
    for study in folder.studies(plan):
        for trial in ended[study.uid].values():
            if trial.result is not None:
                trials.append(study.trial(trial.drawn))
                seconds.append(trial.result.seconds)
    return trials, seconds


class Moment(NamedTuple):
    """When a trial reached the ledger, and how large the driver was."""

    at: float
    driver_mb: float


def watch_records() -> list[Moment]:
    """Note the moment at which each trial reaches the ledger."""
    finished: list[Moment] = []
    process = psutil.Process()
    record: Callable[..., None] = Tracker.record

    def noted(self: Tracker, entry: object) -> None:
        record(self, entry)
        if getattr(entry, "kind", "") == "trial":
            finished.append(Moment(time.perf_counter(), process.memory_info().rss / 1e6))

    Tracker.record = noted
    return finished


def _as_tune_does(trials: list[TrialConfig], config: SweepConfig) -> float:
    """Seconds a trial where each is a process of its own that opens the features, as many at once as fit."""
    features, protocol, ended = str(Path(config.features).resolve()), config.protocol, []

    def trainable(drawn: dict[str, Any]) -> dict[str, float]:
        data = open_features(features).tuning(protocol)
        return {"score": run_trial(data, TrialConfig.model_validate_json(drawn["trial"])).score}

    class Watch(tune.Callback):
        def on_trial_complete(self, *_: object, **__: object) -> None:
            ended.append(time.perf_counter())

    more = [*trials[:2], *trials]  # the first two pay for what all share
    with tempfile.TemporaryDirectory() as scratch:
        tune.Tuner(
            trainable,
            param_space={"trial": tune.grid_search([trial.model_dump_json() for trial in more])},
            run_config=tune.RunConfig(storage_path=scratch, verbose=0, callbacks=[Watch()]),
        ).fit()
    return (ended[-1] - ended[1]) / (len(ended) - 2)


def _bare_loop(trials: list[TrialConfig], slots: int, config: SweepConfig) -> float:
    with ProcessPoolExecutor(slots, get_context("spawn"), _load, (config.features, config.protocol)) as pool:
        wait([pool.submit(_run, trials[0]) for _ in range(4 * slots)])
        begun = time.perf_counter()
        for done in wait([pool.submit(_run, trial) for trial in trials]).done:
            done.result()
        return time.perf_counter() - begun


def _load(features: str, protocol: SelectionProtocol) -> None:
    global _data
    torch.set_num_threads(1)
    _data = open_features(features).tuning(protocol)


def _run(trial: TrialConfig) -> TrialResult:
    return run_trial(_data, trial)


if __name__ == "__main__":
    main()
