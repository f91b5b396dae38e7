"""Where a sweep's time goes: trials, or starting processes?

python -m benchmarks.sweep_overhead      after `make demo`, whose features it sweeps

Runs the demo's sweep into a scratch folder, then the same trials in one bare Python loop, and prints how busy the slots were
and the throughput of the sweep against the loop. Start-up is printed apart: it is paid once, however many trials follow.
"""

import tempfile
import time
from pathlib import Path

import torch

from xmadapter.config import SweepConfig, load
from xmadapter.distributed import run_sweep
from xmadapter.distributed.connect import connect, cores
from xmadapter.features import open_features
from xmadapter.results import create_sweep_folder
from xmadapter.trial import TrialConfig, run_trial


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        overrides = [f"output={scratch}/sweep", f"tracking.uri=sqlite:///{scratch}/mlflow.db"]
        config = load(SweepConfig, Path("pipelines/configs/demo/sweep.yaml"), overrides)
        store, folder = open_features(config.features), create_sweep_folder(config)
        begun = time.perf_counter()
        connect(config.cluster)
        ready = time.perf_counter()
        run_sweep(store, folder)
        wall = time.perf_counter() - ready
        results = folder.results(store.manifest.plan_fingerprint)
        slots = cores()
    inside = sum(result.seconds for result in results)
    data = store.tuning(config.protocol)
    methods = {method.title: method for method in config.methods}
    looped = time.perf_counter()
    for result in results:
        solve = methods[result.method].solve_grid
        trial = TrialConfig(
            method=result.method, adapter=result.adapter, solve=solve, shots=result.shots, seeds=result.seeds
        )
        run_trial(data, trial)
    loop = time.perf_counter() - looped
    print(f"trials:                  {len(results)} on {slots} slots")
    print(f"start of Ray:            {ready - begun:.1f} s")
    print(
        f"sweep after it:          {wall:.1f} s, of which inside trials {inside / slots:.1f} s ({inside / slots / wall:.0%})"
    )
    print(f"bare loop, one process:  {loop:.1f} s; the sweep has {loop / wall:.2f} of {slots} times its throughput")


if __name__ == "__main__":
    main()
