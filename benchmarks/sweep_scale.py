"""Does a sweep of many trials end as fast as it began, and does its driver stay small?

python -m benchmarks.sweep_scale [TRIALS ...]      after `make demo`, whose features it takes; 1000 and 10000 by default

Trials do nothing and return a fixed result, so that all there is to see is the engine: Tune, the searches (20 studies, TPE), the
ledger. MLflow is left out, as it would be delivered to for minutes after the last of them. Prints the milliseconds a trial in each
tenth of the sweep, and the driver's memory. The first ten draws of a study are random, which is cheaper than what TPE does later.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ray import tune

from benchmarks.sweep_overhead import watch_records
from xmadapter.config import SweepConfig, load
from xmadapter.distributed import sweep
from xmadapter.distributed.trial_actor import METRIC, TrialActor
from xmadapter.features import open_features
from xmadapter.results import create_sweep_folder, open_sweep_folder
from xmadapter.tracking import Tracker
from xmadapter.trial import TrialResult

STUDIES = 20


class IdleActor(tune.Trainable):
    """Answers at once."""

    def setup(self, config: dict[str, Any], features: Any, studies: dict[str, Any]) -> None:
        self._studies, self._trial = studies, config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._trial = new_config
        return True

    def step(self) -> dict[str, Any]:
        study = self._studies[self._trial["study"]]
        trial = study.trial(self._trial["drawn"])
        result = TrialResult(
            **trial.model_dump(exclude={"solve", "rungs"}),
            solved={},
            protocol="fewshot-val",
            validation=(0.5,) * len(trial.seeds),
            validation_rows=40,
            solved_points=0,
            trained_parameters=1,
            stored_bytes=1,
            seconds=0.0,
        )
        return {METRIC: result.score, "result": result.model_dump_json(), "done": True}

    save_checkpoint, load_checkpoint = TrialActor.save_checkpoint, TrialActor.load_checkpoint


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        _one(int(sys.argv[2]))
        return
    for trials in map(int, sys.argv[1:] or (1000, 10_000)):
        subprocess.run([sys.executable, "-m", "benchmarks.sweep_scale", "--one", str(trials)], check=True)


def _one(trials: int) -> None:
    sweep.TrialActor = IdleActor
    Tracker._enqueue = lambda self, entry, *, sent_before: None
    with tempfile.TemporaryDirectory() as scratch:
        methods = [
            {"adapter": {"kind": "tip-f"}, "trials": trials // STUDIES, "name": f"method {number}"}
            for number in range(STUDIES // 5)
        ]
        overrides = [
            f"output={scratch}/sweep",
            f"tracking.uri=sqlite:///{scratch}/mlflow.db",
            f"methods={json.dumps(methods)}",
        ]
        config = load(SweepConfig, Path("pipelines/configs/demo/sweep.yaml"), overrides)
        store, folder = open_features(config.features), create_sweep_folder(config)
        finished = watch_records()
        sweep.run_sweep(store, folder)
        tenth = len(finished) // 10
        spans = [
            (finished[k + tenth - 1].at - finished[k].at) / (tenth - 1) * 1000 for k in range(0, 10 * tenth, tenth)
        ]
        begun = time.perf_counter()
        summary = sweep.run_sweep(store, open_sweep_folder(config.output))
        again = time.perf_counter() - begun
    print(f"{len(finished)} trials, {STUDIES} studies")
    print("ms a trial, tenth by tenth:   " + " ".join(f"{span:.1f}" for span in spans))
    print(f"last tenth over the third:   {spans[-1] / spans[2]:.2f}")
    print(
        f"driver memory:                {finished[tenth].driver_mb:.0f} MB after a tenth, {finished[-1].driver_mb:.0f} MB at the end"
    )
    print(f"the same command again:       {again:.1f} s for {summary.kept} kept trials", flush=True)


if __name__ == "__main__":
    main()
