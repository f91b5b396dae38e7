"""What does recording cost a sweep: with an MLflow server that answers, and with one that does not?

python -m benchmarks.recording_cost      after `make demo`, whose features it sweeps

Sweeps 120 trials of the demo in turns, after a warm-up: with the ledger alone, with an `mlflow server` on this machine (which takes
its share of the same cores), with the sqlite database in the driver, and with an address where nobody listens. Prints the seconds
from the first trials to the last, and what delivering the rest takes afterwards.
"""

import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean

from benchmarks.sweep_overhead import watch_records
from xmadapter.config import SweepConfig, load
from xmadapter.distributed import sweep
from xmadapter.distributed.connect import connect, cores
from xmadapter.errors import TrackingError
from xmadapter.features import open_features
from xmadapter.results import create_sweep_folder
from xmadapter.tracking import Tracker

ROUNDS = 3
METHODS = '[{"adapter": {"kind": "tip-f"}, "trials": 24}]'


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, _server(scratch) as address:
        ways = {
            "ledger alone": "none",
            "mlflow server": address,
            "sqlite in the driver": f"sqlite:///{scratch}/driver.db",
            "nobody listens": "http://127.0.0.1:1",
        }
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        finished = watch_records()
        _sweep(scratch, "warm-up", "none", finished)
        for number in range(ROUNDS):
            for way, uri in ways.items():
                taken[way].append(_sweep(scratch, f"{way} {number}", uri, finished))
    alone = mean(busy for busy, _ in taken["ledger alone"])
    for way, times in taken.items():
        busy, after = mean(one for one, _ in times), mean(one for _, one in times)
        each = " ".join(f"{one:.1f}" for one, _ in times)
        print(
            f"{way:22}{busy:6.1f} s in the sweep ({each}), {busy / alone - 1:+.1%}; {after:.1f} s after its last trial"
        )


def _sweep(scratch: str, name: str, uri: str, finished: list) -> tuple[float, float]:
    """Sweep; the seconds between first and last trials, and those after."""
    overrides = [f"output={scratch}/{name}", f"tracking.uri={uri}", f"experiment={name}", f"methods={METHODS}"]
    config = load(SweepConfig, Path("pipelines/configs/demo/sweep.yaml"), overrides)
    connect(config.cluster)
    finished.clear()
    enqueue: Callable[..., None] = Tracker._enqueue
    if uri == "none":
        Tracker._enqueue = lambda self, entry, *, sent_before: None
    try:
        sweep.run_sweep(open_features(config.features), create_sweep_folder(config))
    except TrackingError:
        pass  # as it should where nobody listens
    finally:
        Tracker._enqueue = enqueue
    return finished[-1].at - finished[cores() - 1].at, time.perf_counter() - finished[-1].at


@contextmanager
def _server(folder: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *options, "--artifacts-destination", f"{folder}/artifacts"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


if __name__ == "__main__":
    main()
