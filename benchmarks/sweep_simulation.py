"""How full a large pool is while a sweep of 11 data sets x 5 shot counts x 60 configurations runs, and what holds it back.

python -m benchmarks.sweep_simulation [--slots 100] [--driver-ms 20] [--parallel 1 4 8 16]

The search is the real one (`StudySearch`: 55 studies, TPE); time is simulated. A trial takes what XMAdapter's took at its shot count, 5
seeds on one core, in the run of pipelines/configs/benchmark/real.yaml, and 30 % more or less by chance. The driver handles one event after
another, each in `--driver-ms` (`benchmarks.sweep_scale` measures it). Nothing is trained.
"""

import argparse
import heapq
from dataclasses import dataclass

import numpy as np

from xmadapter.config import MethodConfig, SearchConfig, XMAdapterConfig
from xmadapter.distributed.search import StudySearch
from xmadapter.distributed.trial_actor import METRIC
from xmadapter.seeding import derive_seed
from xmadapter.study import Study
from xmadapter.trial import TrialResult

SETS, TRIALS, SPREAD = 11, 60, 0.3
SECONDS = {1: 1.4, 2: 4.5, 4: 6.7, 8: 9.3, 16: 18.4}


@dataclass(frozen=True)
class Outcome:
    """What became of a sweep: seconds of all trials, seconds it took, seconds the driver worked, trials."""

    worked_s: float
    makespan_s: float
    driver_s: float
    trials: int


def make_studies(parallel: int) -> list[Study]:
    """One study a data set and shot count, shots varying fastest."""
    method = MethodConfig(adapter=XMAdapterConfig(), trials=TRIALS)
    return [
        Study(
            uid=f"set{number}-{shots}",
            parent=f"set{number}",
            method=method,
            shots=shots,
            seeds=(1, 2, 3),
            search=SearchConfig(parallel=parallel, seed=number),
            take_all=False,
        )
        for number in range(SETS)
        for shots in SECONDS
    ]


def duration(study: Study, number: int) -> float:
    """Seconds of a trial; the same in every simulation."""
    rng = np.random.default_rng(derive_seed("duration", study.uid, number))
    return SECONDS[study.shots] * rng.uniform(1 - SPREAD, 1 + SPREAD)


def answer(study: Study, number: int) -> dict[str, object]:
    """What a trial reports, with a score by chance."""
    score = float(np.random.default_rng(derive_seed("score", study.uid, number)).uniform())
    result = TrialResult(
        method=study.method.title,
        adapter=study.method.adapter,
        solved={},
        shots=study.shots,
        seeds=study.seeds,
        protocol="fewshot-val",
        validation=(score,) * len(study.seeds),
        validation_rows=40,
        solved_points=0,
        trained_parameters=1,
        stored_bytes=1,
        seconds=0.0,
    )
    return {METRIC: score, "result": result.model_dump_json()}


def simulate(studies: list[Study], *, slots: int, driver_s: float) -> Outcome:
    """Hand out trials to free slots, one event of the driver after another."""
    search, by_uid = StudySearch((study, {}) for study in studies), {study.uid: study for study in studies}
    running: list[tuple[float, str, Study, int]] = []
    now = worked = busy = 0.0
    begun = 0
    while True:
        while len(running) < slots and isinstance(config := search.suggest(str(begun)), dict):
            study, number = by_uid[config["study"]], config["number"]
            now, busy = now + driver_s / 2, busy + driver_s / 2
            seconds = duration(study, number)
            heapq.heappush(running, (now + seconds, str(begun), study, number))
            worked, begun = worked + seconds, begun + 1
        if not running:
            return Outcome(worked, now, busy, begun)
        ended, name, study, number = heapq.heappop(running)
        now, busy = max(now, ended) + driver_s / 2, busy + driver_s / 2
        search.on_trial_complete(name, answer(study, number))


def main() -> None:
    """Print a line for every number of trials that a study may run side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--driver-ms", type=float, default=20)
    parser.add_argument("--parallel", type=int, nargs="+", default=[1, 4, 8, 16])
    given = parser.parse_args()
    print(f"{'parallel':>8} {'trials':>7} {'ideal s':>8} {'sweep s':>8} {'of ideal':>9} {'driver busy':>12}")
    for parallel in given.parallel:
        found = simulate(make_studies(parallel), slots=given.slots, driver_s=given.driver_ms / 1000)
        ideal = found.worked_s / given.slots
        print(
            f"{parallel:8d} {found.trials:7d} {ideal:8.0f} {found.makespan_s:8.0f} {ideal / found.makespan_s:9.0%} "
            f"{found.driver_s / found.makespan_s:12.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
