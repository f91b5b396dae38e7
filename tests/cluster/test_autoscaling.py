"""Jobs on a cluster that has no worker until they come, against the same files on this machine."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.cluster.autoscaler import AutoscalingCluster, Nodes
from tests.factories import tree
from tests.integration.line import Done, draw_images, encode_config, sweep_config, trial_lines
from xmadapter.config import EncodeConfig, SweepConfig, TrackingConfig, load
from xmadapter.config.doctor import DoctorConfig
from xmadapter.distributed.doctor import examine
from xmadapter.distributed.encode import run_encode
from xmadapter.distributed.sweep import run_sweep
from xmadapter.features import open_features
from xmadapter.results import create_sweep_folder, open_sweep_folder

pytestmark = [
    pytest.mark.timeout(600),  # processes that start anew import torch, on a machine that may be busy
    # Ray 2.60 warns itself of its own settings, and leaves sockets to the collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

METHODS = [{"adapter": {"kind": "tip"}}, {"adapter": {"kind": "tip-f", "fit": {"epochs": 400}}, "trials": 3}]
TRIALS = 2 * (1 + 3)
AUTO = "cluster.address=auto"


@pytest.fixture(scope="module")
def cluster() -> Iterator[AutoscalingCluster]:
    cluster = AutoscalingCluster(idle_timeout_s=10)
    try:
        cluster.wait()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("autoscaling")
    draw_images(folder / "images", counts={"train": 4, "val": 2, "test": 2}, side=64)
    for place in ("there", "here"):
        (folder / place).mkdir()
        encode_config(folder / place / "encode.yaml", folder / "images", batch_size=16, rows_per_shard=12)
        # One database for both: MLflow takes seconds to make one.
        tracking = {"uri": f"sqlite:///{folder / 'mlflow.db'}"}
        sweep_config(folder / place / "sweep.yaml", folder / place / "features", methods=METHODS, tracking=tracking)
    return folder


@pytest.fixture(scope="module")
def encoded(cluster: AutoscalingCluster, folder: Path) -> tuple[Done, list[Nodes]]:
    cluster.seen()
    config = ("--config", folder / "there" / "encode.yaml")
    done = cluster.submit("encode", "pipelines.encode", *config, AUTO, "cluster.encoder_gpus=1", "max_actors=1")
    return done, cluster.seen()


@pytest.fixture(scope="module")
def swept(cluster: AutoscalingCluster, folder: Path, encoded: tuple[Done, list[Nodes]]) -> Done:
    """A sweep that was stopped on its way, and submitted again under its id."""
    command = ("pipelines.sweep", "--config", folder / "there" / "sweep.yaml", AUTO, "cluster.trials_at_once=2")
    cluster.begin("sweep", *command)
    cluster.wait_until(lambda: trial_lines(folder / "there" / "sweep") >= 1)
    cluster.stop("sweep")
    return cluster.submit("sweep", *command)


@pytest.fixture(scope="module")
def without_cluster(folder: Path, swept: Done) -> Iterator[Path]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield folder / "here"
    ray.shutdown()


@pytest.fixture(scope="module")
def here(without_cluster: Path) -> Path:
    """The same files, on a Ray of this process."""
    run_encode(load(EncodeConfig, without_cluster / "encode.yaml"))
    config = load(SweepConfig, without_cluster / "sweep.yaml")
    run_sweep(open_features(config.features), create_sweep_folder(config))
    return without_cluster


def test_without_its_token_a_cluster_takes_no_job(cluster):
    paths = ("/api/jobs/", "/api/version", "/api/v0/nodes")
    assert {cluster.status(path, None) for path in paths} == {401}
    assert {cluster.status(path, "0" * 64) for path in paths} == {403}
    assert {cluster.status(path, cluster.token) for path in paths} == {200}


def test_the_demand_of_an_encode_job_brings_a_gpu_node_to_a_cluster_without_workers(encoded):
    done, seen = encoded
    assert done.status == 0, done.out + done.err
    assert "features computed, 0 kept from earlier runs" in done.out
    assert seen[0] == frozenset()
    assert any(kind == "gpu" for nodes in seen for kind, _ in nodes)


def test_a_submitted_encode_writes_what_a_local_one_writes(folder, encoded, here):
    assert tree(folder / "there" / "features") == tree(here / "features")


def test_a_job_submitted_again_under_its_id_does_not_run_again(cluster, folder, encoded):
    before = tree(folder / "there" / "features")
    again = cluster.submit("encode", "pipelines.encode", "--config", folder / "there" / "encode.yaml", AUTO)
    assert again.status != 0
    assert "already exists" in again.out + again.err
    assert tree(folder / "there" / "features") == before


def test_a_stopped_sweep_goes_on_when_submitted_again_and_finds_what_a_local_one_finds(folder, swept, here):
    assert swept.status == 0, swept.out + swept.err
    # Both runs write to the log that bears their id.
    run, kept = map(int, re.findall(r"(\d+) trials run, (\d+) kept from earlier runs", swept.out)[-1])
    assert run + kept == TRIALS
    assert min(run, kept) >= 1
    assert scores(folder / "there" / "sweep") == scores(here / "sweep")


def scores(sweep: Path) -> list[tuple[str, int, str, float]]:
    """Method, shots, draw and score of every trial."""
    results = [
        (trial.result.method, trial.result.shots, str(trial.drawn), trial.result.score)
        for trials in open_sweep_folder(str(sweep)).trials().values()
        for trial in trials.values()
        if trial.result is not None
    ]
    assert len(results) == TRIALS
    return sorted(results)


def test_a_sweep_brings_cpu_nodes_and_all_nodes_go_when_idle(cluster, swept):
    assert any(kind == "cpu" for nodes in cluster.seen() for kind, _ in nodes)
    cluster.wait_until(lambda: cluster.nodes() == frozenset())


def test_the_doctor_asks_every_node_the_head_and_the_tracking_server(cluster, without_cluster):
    store = without_cluster / "store"
    tracking = TrackingConfig(uri=f"sqlite:///{without_cluster.parent / 'mlflow.db'}")
    findings = examine(DoctorConfig(store=str(store), dashboard=cluster.address, tracking=tracking, timeout_s=100))
    found = {(finding.check, finding.place): finding.state for finding in findings}
    (node,) = {place for check, place in found if check == "clock"} - {"driver"}
    sound = {("token", "head"), ("nodes", "cpu")} | {(check, node) for check in ("versions", "clock", "store")}
    assert {key: found[key] for key in sound} == dict.fromkeys(sound, "ok")
    assert found["tracking", "driver"] == "warn"
    assert list(store.iterdir()) == []
