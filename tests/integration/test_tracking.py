"""MLflow gets what the ledger holds, once, whatever happens between them."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import make_result, make_store
from tests.integration.tracking_server import MlflowServer, gate, wait_for
from xmadapter.config import SweepConfig, TrackingConfig
from xmadapter.errors import TrackingError
from xmadapter.ledger import Entry
from xmadapter.records import chosen_entry, method_entry, trial_entry
from xmadapter.results import SweepFolder, create_sweep_folder
from xmadapter.study import FinishedTrial
from xmadapter.tracking import Tracker

pytestmark = [
    pytest.mark.timeout(300),
    # MLflow's database layer warns of its own deprecations in this process; none of them is ours to mend.
    pytest.mark.filterwarnings("ignore"),
]
RUNS_CREATE, LOG_BATCH = "/api/2.0/mlflow/runs/create", "/api/2.0/mlflow/runs/log-batch"


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    service = MlflowServer(tmp_path_factory.mktemp("server"))
    service.start()
    yield service
    service.kill()


def never(method: str, path: str) -> None:
    return None


class Sweep:
    """A sweep without Ray: its folder, and entries as a sweep would record them."""

    def __init__(self, folder: Path, address: str, *, experiment: str, required: bool = False) -> None:
        manifest = make_store(folder / "features").manifest
        config = SweepConfig.model_validate(
            {
                "features": str(folder / "features"),
                "output": str(folder / "sweep"),
                "experiment": experiment,
                "methods": [{"adapter": {"kind": "tip"}}],
                "shots": [2],
                "seeds": [1, 2],
                "tracking": {"uri": address, "required": required},
            }
        )
        self.folder: SweepFolder = create_sweep_folder(config)
        self.study = self.folder.studies(manifest.plan_fingerprint)[0]
        self.method = method_entry(self.study, config, manifest, job="raysubmit_made_up")

    def track(self) -> Tracker:
        config = self.folder.config
        return Tracker(config.tracking, config.experiment, self.folder.ledger)

    def trial(self, number: int) -> Entry:
        result = make_result(validation=(number / 100, 1 / 3), seconds=0.25)
        return trial_entry(self.study, number, FinishedTrial({"draw": number / 7}, result))

    def end(self) -> Entry:
        return chosen_entry([make_result()], [self.study])


def children(service: MlflowServer, experiment: str) -> list:
    """Read the database itself, past any server."""
    from mlflow import MlflowClient

    client = MlflowClient(service.database)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], max_results=1000)
    return sorted((run for run in runs if run.data.tags["level"] == "trial"), key=lambda run: run.info.run_name)


def test_sixty_trials_arrive_once_though_replies_are_lost_and_the_server_is_killed_twice(
    mlflow_server: MlflowServer, tmp_path: Path, request: pytest.FixtureRequest
):
    seed = 20_261_122
    print(f"seed {seed}")
    rng, lost = random.Random(seed), Counter()

    def fault(method: str, path: str) -> str | None:
        if path in (RUNS_CREATE, LOG_BATCH) and sum(lost.values()) < 25 and rng.random() < 0.3:
            lost[path] += 1
            return "lost"
        return None

    with gate(mlflow_server.address, fault) as address:
        sweep = Sweep(tmp_path, address, experiment="lossy")
        tracker = sweep.track()
        tracker.record(sweep.method)
        longest = 0.0
        for number in range(60):
            begun = time.perf_counter()
            tracker.record(sweep.trial(number))
            longest = max(longest, time.perf_counter() - begun)
            if number in (20, 40):
                mlflow_server.kill()
                mlflow_server.start(wait=False)
            time.sleep(0.1)
        tracker.record(sweep.end())
        wait_for(mlflow_server.address)
        tracker.close(timeout_s=200)
    runs = children(mlflow_server, "lossy")
    assert sum(lost.values()) == 25
    assert lost[RUNS_CREATE] >= 5
    assert len(runs) == 60
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len({run.data.tags["trial_uid"] for run in runs}) == 60
    by_uid = {run.data.tags["trial_uid"]: run for run in runs}
    for entry in sweep.folder.ledger.entries("trial"):
        assert by_uid[entry.uid].data.metrics == entry.body["metrics"]  # bit for bit
    assert longest < 5


def test_a_run_says_where_it_comes_from_and_when_it_ran(
    mlflow_server: MlflowServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from mlflow import MlflowClient

    sweep = Sweep(tmp_path, mlflow_server.address, experiment="lineage")
    tracker = sweep.track()
    tracker.record(sweep.method)
    stopped = trial_entry(sweep.study, 1, FinishedTrial({"draw": 1}, rungs={3: 0.25, 9: 0.5}))
    failed = trial_entry(sweep.study, 2, FinishedTrial({"draw": 2}), "Diverged: " + "x" * 10_000)
    for entry in (sweep.trial(0), stopped, failed, sweep.end()):
        tracker.record(entry)
    tracker.close()
    assert capsys.readouterr().out == ""  # MLflow would print two lines a run
    client = MlflowClient(mlflow_server.address)
    runs = children(mlflow_server, "lineage")
    assert [run.info.status for run in runs] == ["FINISHED", "KILLED", "FAILED"]
    assert runs[0].info.end_time - runs[0].info.start_time == 250
    assert runs[1].data.tags["stopped_after_epoch"] == "9"
    assert [(m.step, m.value) for m in client.get_metric_history(runs[1].info.run_id, "accuracy/rung")] == [
        (3, 0.25),
        (9, 0.5),
    ]
    assert runs[2].data.tags["failure"].startswith("Diverged: xxx")
    parent = client.get_run(runs[0].data.tags["mlflow.parentRunId"])
    assert parent.data.tags["ray_job"] == "raysubmit_made_up"
    dataset = parent.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("lineage", parent.data.tags["split_hash"][:36])
    assert '"classes"' in dataset.profile


@pytest.mark.parametrize("status", ["500", "429", "503"])
def test_a_server_that_answers_with_errors_for_a_while_gets_everything_later(
    mlflow_server: MlflowServer, tmp_path: Path, status: str
):
    asked = Counter()

    def fault(method: str, path: str) -> str | None:
        asked[path] += 1
        return status if path == RUNS_CREATE and asked[path] <= 2 else None

    with gate(mlflow_server.address, fault) as address:
        sweep = Sweep(tmp_path, address, experiment=f"sorry {status}")
        tracker = sweep.track()
        for entry in (sweep.method, sweep.trial(0), sweep.end()):
            tracker.record(entry)
        tracker.close()
    assert len(children(mlflow_server, f"sorry {status}")) == 1


def test_a_wrong_password_is_told_at_once_and_the_right_one_delivers(
    mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with gate(mlflow_server.address, never, login="ada:right") as address:
        sweep = Sweep(tmp_path, address, experiment="guarded")
        tracker = sweep.track()
        for entry in (sweep.method, sweep.trial(0), sweep.end()):
            tracker.record(entry)
        begun = time.monotonic()
        with pytest.raises(TrackingError, match=r"3 records were not delivered.*401.*xmadapter sync"):
            tracker.close()
        assert time.monotonic() - begun < 10
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "right")
        sweep.track().close()
    assert len(children(mlflow_server, "guarded")) == 1


def test_a_token_that_expires_on_the_way_loses_nothing(mlflow_server: MlflowServer, tmp_path: Path):
    expired = []

    def fault(method: str, path: str) -> str | None:
        return "401" if expired else None

    with gate(mlflow_server.address, fault) as address:
        sweep = Sweep(tmp_path, address, experiment="expired")
        tracker = sweep.track()
        tracker.record(sweep.method)
        tracker.record(sweep.trial(0))
        deadline = time.monotonic() + 60
        while sum(1 for _ in sweep.folder.ledger.entries("delivered")) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        expired.append(True)
        for number in (1, 2):
            tracker.record(sweep.trial(number))
        with pytest.raises(TrackingError, match="2 records were not delivered"):
            tracker.close()
        expired.clear()
        sweep.track().close()
    assert len(children(mlflow_server, "expired")) == 3


def test_what_must_be_recorded_is_refused_at_once_where_nobody_answers(tmp_path: Path):
    sweep = Sweep(tmp_path, "http://127.0.0.1:1", experiment="nobody", required=True)
    begun = time.monotonic()
    with pytest.raises(TrackingError, match=r"does not answer .* nothing was run"):
        sweep.track()
    assert time.monotonic() - begun < 15
    assert not list(sweep.folder.ledger.entries())


def test_a_server_that_never_answers_costs_no_trial_anything(tmp_path: Path):
    import socket

    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        sweep = Sweep(tmp_path, f"http://127.0.0.1:{hole.getsockname()[1]}", experiment="hole")
        tracker = sweep.track()
        begun = time.monotonic()
        for number in range(20):
            tracker.record(sweep.trial(number))
        assert time.monotonic() - begun < 5
        with pytest.raises(TrackingError, match="20 records were not delivered"):
            tracker.close(timeout_s=1)
    assert len(list(sweep.folder.ledger.entries("trial"))) == 20
    assert TrackingConfig().required is False
