"""How many trial-seconds does TPE with early stopping need for what 500 random trials find?

python -m benchmarks.search_quality [REPETITIONS]      after `make demo`, whose features it searches on; 5 repetitions by default

Tip-Adapter-F at 4 shots with learning rate, sharpness and cache weight drawn and nothing solved inside the trial, so that the
search has something to find. Trials run one after another in this process, without Ray: what counts is the seconds inside them.
"""

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from xmadapter.config import MethodConfig, SearchConfig
from xmadapter.distributed.search import StudySearch
from xmadapter.distributed.trial_actor import METRIC
from xmadapter.features import TuningData, open_features
from xmadapter.study import Study
from xmadapter.tasks import run_any
from xmadapter.trial import Pruned

FEATURES = Path("runs/demo/features")
TRIALS, SHARE = 500, 0.99
METHOD = {
    "adapter": {"kind": "tip-f", "fit": {"epochs": 30}},
    "space": {
        "fit.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
        "sharpness": {"low": 0.1, "high": 50, "log": True},
        "cache_weight": {"low": 0.1, "high": 100, "log": True},
    },
    "solve": {},
    "trials": TRIALS,
}


def main() -> None:
    torch.set_num_threads(1)
    data = open_features(str(FEATURES)).tuning("fewshot-val")
    shares = []
    for repetition in range(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        random = _run(data, {"sampler": {"kind": "random"}, "seed": repetition})
        best, spent = max(score for score, _ in random), random[-1][1]
        learnt = _run(data, {"sampler": {"kind": "tpe"}, "pruning": {}, "seed": repetition}, enough=SHARE * best)
        reached = learnt[-1][0] >= SHARE * best
        shares.append(learnt[-1][1] / spent if reached else float("inf"))
        print(
            f"repetition {repetition}: {TRIALS} random trials {spent:.0f} s, best {best:.4f}; TPE with stopping "
            + (f"reaches {SHARE:.0%} of it after {len(learnt)} trials" if reached else "does not reach it")
            + f", {learnt[-1][1]:.0f} s, a share of {shares[-1]:.3f}",
            flush=True,
        )
    print(f"median share of the trial-seconds: {statistics.median(shares):.3f}")


def _run(data: TuningData, search: dict[str, Any], enough: float = 2.0) -> list[tuple[float, float]]:
    """Run trials until one scores enough: the score of each (0 where it was stopped), and the seconds up to its end."""
    study = Study(
        uid="study",
        parent="parent",
        method=MethodConfig.model_validate(METHOD),
        shots=4,
        seeds=(1, 2, 3),
        search=SearchConfig.model_validate(search),
        take_all=False,
    )
    searcher, spent, ran = StudySearch([(study, {})]), 0.0, []
    for number in tqdm(range(TRIALS), desc=study.search.sampler.kind, disable=None):
        config = searcher.suggest(str(number))
        begun = time.perf_counter()
        score, last = _trial(data, study, config)
        spent += time.perf_counter() - begun
        searcher.on_trial_complete(str(number), last)
        ran.append((score, spent))
        if score >= enough:
            break
    return ran


def _trial(data: TuningData, study: Study, config: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    try:
        result = run_any(data, study.trial(config["drawn"], config["rungs"]))
    except Pruned as pruned:
        return 0.0, {"stopped": list(pruned.rungs.items())}
    except ArithmeticError as error:  # diverged
        return 0.0, {"failure": str(error)}
    return result.score, {METRIC: result.score, "result": result.model_dump_json()}


if __name__ == "__main__":
    main()
