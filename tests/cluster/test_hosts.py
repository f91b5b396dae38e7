"""The line across hosts that share a network and nothing else: a head, two workers, a tracking server, a bucket.

A worker is cut off in the middle of the sweep, and comes back. All that is found is what one machine finds.
"""

import secrets
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray

from tests.cluster.hosts import BIN, Driver, Host, ip, network, obstacle
from tests.factories import tree
from tests.integration.line import draw_images, encode_config, sweep_config, trial_lines
from tests.sweeps import sweep_here
from xmadapter.config import EncodeConfig, EvaluateConfig, SweepConfig, load
from xmadapter.distributed.encode import run_encode
from xmadapter.jobs import evaluate_sweep
from xmadapter.ledger import Ledger

pytestmark = [
    pytest.mark.timeout(600),  # processes that start anew import torch, on a machine that may be busy
    # Ray 2.60 and MLflow's database layer warn of their own deprecations, and leave sockets to the collector.
    pytest.mark.filterwarnings("ignore"),
]

SEARCH = {
    "methods": [{"adapter": {"kind": "tip"}}, {"adapter": {"kind": "tip-f", "fit": {"epochs": 300}}, "trials": 6}],
    "search": {"sampler": {"kind": "random"}},  # no trial waits for another
}
TRIALS = 2 * (1 + 6)
TRIAL = ".train"
"""Ray's word for what a worker does during a trial."""
HEALTH = {"initial_delay_ms": 1000, "period_ms": 1000, "timeout_ms": 1000, "failure_threshold": 3}
ABSENCE_S = 12.0
"""Twice as long as the head waits for a host: it lets a second pass, then asks three times, each a second, with a second in between."""
STARTED = "Ray runtime started"
LOOK_S = 0.05
"""Between two looks at a host, each of which costs some 10 ms; a trial in which one is held lasts hundreds."""


@dataclass(frozen=True)
class Site:
    """The hosts, and a folder on the head's disk."""

    head: Host
    workers: tuple[Host, Host]
    tracking: Host
    bucket: Host
    folder: Path

    def start_head(self) -> None:
        """Start Ray without room for any work."""
        self._start_ray(self.head, "--head", "--num-cpus", 0, "--include-dashboard", "false")

    def join(self, worker: Host) -> None:
        """Let a worker with one core join the head; it finds none of the head's files."""
        address = f"{self.head.address}:6379"
        self._start_ray(worker, "--address", address, "--num-cpus", 1, hidden=self.folder)

    def _start_ray(self, host: Host, *role: object, hidden: Path | None = None) -> None:
        place = ("--node-ip-address", host.address, "--temp-dir", host.folder, "--object-store-memory", 100_000_000)
        host.start(BIN / "ray", "start", "--block", *place, "--num-gpus", 0, *role, hidden=hidden)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if reason := obstacle():
        pytest.skip(reason)
    with network("head", "one", "two", "tracking", "bucket") as (head, one, two, tracking, bucket):
        site = Site(head, (one, two), tracking, bucket, tmp_path_factory.mktemp("hosts"))
        introduce(site)
        bucket.start(BIN / "moto_server", "--host", bucket.address, "--port", 5000)
        site.start_head()
        for worker in site.workers:
            site.join(worker)
        server = ("server", "--host", tracking.address, "--workers", 1, "--backend-store-uri", database(site))
        tracking.start(sys.executable, "-m", "mlflow", *server)
        bucket.wait_for_line("Running on")
        for worker in site.workers:
            worker.wait_for_line(STARTED)
        yield site


def introduce(site: Site) -> None:
    """Tell each host the others' addresses, and give it the token in a file of its own."""
    token = secrets.token_hex(32)
    for host in (site.head, *site.workers):
        (host.folder / "token").touch(0o600)
        (host.folder / "token").write_text(token)
        host.environment |= {f"RAY_health_check_{name}": str(value) for name, value in HEALTH.items()} | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(host.folder / "token"),
            "RAY_ADDRESS": f"{site.head.address}:6379",
            "RAY_USAGE_STATS_ENABLED": "0",
            "AWS_ENDPOINT_URL": f"http://{site.bucket.address}:5000",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
    site.tracking.environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"


def database(site: Site) -> str:
    return f"sqlite:///{site.tracking.folder}/mlflow.db"


@pytest.fixture(scope="module")
def images(site: Site) -> Path:
    return draw_images(site.folder / "images", counts={"train": 4, "val": 2, "test": 2}, side=64)


@pytest.fixture(scope="module")
def driver(site: Site, images: Path) -> Driver:
    """A user on the head, who has put the images into the bucket."""
    request = f"Request('{site.head.environment['AWS_ENDPOINT_URL']}/shapes', method='PUT')"
    ip("netns", "exec", site.head.name, sys.executable, "-c", f"from urllib.request import *; urlopen({request})")
    driver = Driver(site.head)
    driver("tests.cluster.hosts", images, "s3://shapes/images")
    return driver


@pytest.fixture(scope="module")
def encoded(site: Site, driver: Driver) -> Path:
    """The store in the bucket, fetched."""
    output = "s3://shapes/features"
    config = encode_config(site.folder / "encode.yaml", "s3://shapes/images", batch_size=16, output=output)
    driver("pipelines.encode", "--config", config, "cluster.address=auto", "max_actors=2")
    driver("tests.cluster.hosts", output, site.folder / "fetched")
    return site.folder / "fetched"


@pytest.fixture(scope="module")
def swept(site: Site, driver: Driver, encoded: Path) -> Path:
    """A sweep that loses a worker to the network and gets it back, evaluated."""
    sweep = site.folder / "sweep"
    tracking = {"uri": f"http://{site.tracking.address}:5000", "required": True}
    config = sweep_config(site.folder / "sweep.yaml", "s3://shapes/features", tracking=tracking, **SEARCH)
    site.tracking.wait_for_line("startup complete")
    driver.begin("pipelines.sweep", "--config", config, "cluster.address=auto")
    cut_off_and_return(site, sweep)
    driver.finish()
    driver("pipelines.evaluate", f"sweep={sweep}")
    return sweep


def cut_off_and_return(site: Site, sweep: Path) -> None:
    """Cut the second worker off at work until Ray gives it up, and let it join again; the first leaves it work to do."""
    first, second = site.workers
    # Held in the midst of a trial, so that one is lost; the first is held once it has done one, or it could do them all.
    held = False
    while not second.hold(TRIAL):
        held = held or (trial_lines(sweep) > 0 and first.hold(TRIAL))
        time.sleep(LOOK_S)
    second.unplug()
    cut, found = time.monotonic(), trial_lines(sweep)
    for worker in site.workers:
        worker.release()
    wait_until(lambda: trial_lines(sweep) > found)
    wait_until(lambda: first.hold(TRIAL))
    found = trial_lines(sweep)
    time.sleep(max(0.0, cut + ABSENCE_S - time.monotonic()))
    second.plug()
    wait_until(lambda: not second.processes())
    assert trial_lines(sweep) == found < TRIALS - 1, "the first is not held, or has left no work"
    site.join(second)
    wait_until(lambda: bool(second.processes(TRIAL)))
    first.release()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "not within two minutes"
        time.sleep(LOOK_S)


@pytest.fixture(scope="module")
def here(site: Site, images: Path, swept: Path) -> Path:
    """The same on this machine."""
    (folder := site.folder / "here").mkdir()
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    run_encode(load(EncodeConfig, encode_config(folder / "encode.yaml", images, batch_size=16)))
    ray.shutdown()
    values = {"experiment": "here", "tracking": {"uri": database(site)}, **SEARCH}
    sweep_here(load(SweepConfig, sweep_config(folder / "sweep.yaml", folder / "features", **values)))
    evaluate_sweep(EvaluateConfig(sweep=str(folder / "sweep")))
    return folder


def test_the_store_that_two_hosts_write_to_a_bucket_is_that_of_one_machine(encoded: Path, here: Path):
    there, local = tree(encoded), tree(here / "features")
    assert there.keys() == local.keys()
    # The plan names the images where they are.
    assert {name.partition("/")[0] for name in there if there[name] != local[name]} == {"plans"}
    assert sum(name.startswith("shards/") for name in there) == 17


def test_a_host_that_is_cut_off_and_comes_back_changes_no_result_and_doubles_no_trial(
    site: Site, swept: Path, here: Path
):
    assert trials(swept) == trials(here / "sweep")
    tested = [pq.read_table(sweep / "predictions.parquet") for sweep in (swept, here / "sweep")]
    assert tested[0].equals(tested[1])
    assert tested[0].num_rows > 0
    assert len(set(tracked(site))) == len(tracked(site)) == TRIALS


def trials(sweep: Path) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """What each trial drew and found, by method, shots and number; every one is there, once."""
    entries = list(Ledger(sweep / "ledger.jsonl").entries("trial"))
    found = {
        (entry.body["tags"]["method"], entry.body["tags"]["shots"], entry.body["number"]): (
            entry.body["drawn"],
            entry.body["result"]["solved"],
            entry.body["result"]["validation"],
        )
        for entry in entries
    }
    assert len(found) == len(entries) == TRIALS
    return found


def tracked(site: Site) -> list[str]:
    """Uids of the trials that the tracking server was told of."""
    query = """select value from tags join runs using (run_uuid) join experiments using (experiment_id)
               where key = 'trial_uid' and status = 'FINISHED' and experiments.name = 'shapes'
               and run_uuid in (select run_uuid from tags where key = 'mlflow.parentRunId')"""
    with closing(sqlite3.connect(site.tracking.folder / "mlflow.db")) as server:
        return [uid for (uid,) in server.execute(query)]
