"""How much memory does a data set take when four trials run on it at once?

python -m benchmarks.sweep_memory      after `make demo`, whose manifest it borrows

Sweeps over made features, once 5 MB of them and once 500 MB, with four trials at a time, and prints by how much the proportional
memory (PSS: shared pages count once) of driver and workers together differs while all four are at work.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray

from xmadapter.config import SweepConfig, load
from xmadapter.distributed import sweep
from xmadapter.features import FeatureSet, TextBank, TuningData, open_features
from xmadapter.results import create_sweep_folder

SLOTS, CLASSES, VIEWS, DIM = 4, 50, 11, 512
FEW = {"epochs": 5}
METHODS = json.dumps([{"adapter": {"kind": kind, "fit": FEW}, "trials": 12} for kind in ("tip-f", "linear-probe")])


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        _one(float(sys.argv[2]))
        return
    found = []
    for megabytes in (5, 500):
        command = [sys.executable, "-m", "benchmarks.sweep_memory", "--one", str(megabytes)]
        found.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]))
    more = found[1] - found[0]
    print(f"driver and {SLOTS} workers:  {found[0]:.0f} MB with 5 MB of features, {found[1]:.0f} MB with 500 MB")
    print(f"495 MB more of features take {more:.0f} MB more, {more / 495:.2f} times their size")


def _one(megabytes: float) -> None:
    per_class = max(32, int(megabytes * 1e6 / (CLASSES * VIEWS * DIM * 4)))
    ray.init(address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    seen: list[float] = []
    threading.Thread(target=_watch, args=(seen,), daemon=True).start()
    with tempfile.TemporaryDirectory() as scratch:
        overrides = [
            f"output={scratch}/sweep",
            f"tracking.uri=sqlite:///{scratch}/mlflow.db",
            f"methods={METHODS}",
            "shots=[2, 4]",
        ]
        config = load(SweepConfig, Path("pipelines/configs/demo/sweep.yaml"), overrides)
        sweep.run_sweep(_Store(config.features, per_class), create_sweep_folder(config))
    print(float(np.median(seen)))


def _watch(seen: list[float]) -> None:
    """Note the memory of driver and workers, whenever all slots are busy."""
    me = psutil.Process()
    while True:
        time.sleep(0.5)
        processes = [me]
        for process in psutil.process_iter(["name", "cmdline", "ppid"]):
            title = " ".join(process.info["cmdline"] or [])
            if title.startswith("ray::_Inner") and _mine(process):  # as Tune calls every trainable
                processes.append(process)
        busy = [process for process in processes[1:] if ".train" in " ".join(process.cmdline())]
        if len(busy) == SLOTS:
            seen.append(sum(process.memory_full_info().pss for process in processes) / 1e6)


def _mine(process: psutil.Process) -> bool:
    return any(parent.pid == os.getpid() for parent in process.parents())


class _Store:
    """The demo's manifest with made features of another size."""

    def __init__(self, features: str, per_class: int) -> None:
        self.manifest, self._per_class = open_features(features).manifest, per_class

    def tuning(self, protocol: Any, classes: Any) -> TuningData:
        rng = np.random.default_rng(0)
        text = TextBank(_unit(rng, CLASSES, 2), tuple(f"class {label}" for label in range(CLASSES)))
        train = self._rows(rng, "train", self._per_class, VIEWS)
        validation = self._rows(rng, "validation", 8, 1)
        provenance = open_features("runs/demo/features").tuning(protocol).provenance
        return TuningData(protocol, train, validation, text, 100.0, provenance)

    def _rows(self, rng: np.random.Generator, split: str, per_class: int, views: int) -> FeatureSet:
        rows = CLASSES * per_class
        labels = np.repeat(np.arange(CLASSES), per_class)
        ids = tuple(f"{split}/{row}" for row in range(rows))
        return FeatureSet(_unit(rng, rows, views), np.ones((rows, views), np.float32), labels, ids)


def _unit(rng: np.random.Generator, rows: int, views: int) -> np.ndarray:
    features = rng.standard_normal((rows, views, DIM), dtype=np.float32)
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    return features


if __name__ == "__main__":
    main()
