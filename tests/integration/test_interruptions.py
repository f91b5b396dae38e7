"""Interrupted, killed, cut off from MLflow: the same command goes on, and ends where an undisturbed run ends."""

import shutil
import socket
from collections import Counter

import pytest
import yaml

from tests.factories import tree
from tests.integration.conftest import Step
from tests.integration.line import (
    TRIALS,
    Started,
    children,
    counted,
    encode_config,
    mlflow_runs,
    parents,
    records,
    sweep_config,
    trial_lines,
)
from xmadapter.features import open_features
from xmadapter.ledger import Ledger

pytestmark = pytest.mark.timeout(300)  # the first test waits for the line, on a machine that may be busy

INTERRUPTED = "interrupted: what was finished is kept; the same command resumes"


def trials(sweep):
    """What each trial drew and found, by method, shots and number; seconds left out."""
    entries = list(Ledger(sweep / "ledger.jsonl").entries("trial"))
    found = {
        (entry.body["tags"]["method"], entry.body["tags"]["shots"], entry.body["number"]): (
            entry.body["drawn"],
            entry.body["result"]["solved"],
            entry.body["result"]["validation"],
        )
        for entry in entries
    }
    assert len(found) == len(entries)
    return found


def identities(folder):
    """Inode and time of every file of a folder: what is written anew differs, even with equal bytes."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return tmp_path_factory.mktemp("other")


@pytest.fixture(scope="module")
def killed_encode(other, images):
    config = encode_config(other / "encode.yaml", images)
    started = Started(("pipelines.encode", "--config", str(config)), other)
    started.wait_until(lambda: len(records(other / "features")) >= 1)
    return Step(started.kill(), other / "features")


def test_a_killed_encode_leaves_a_store_that_readers_refuse(killed_encode, encoded, desk):
    assert killed_encode.done.status == -9
    assert 1 <= len(records(killed_encode.path)) < len(records(encoded.path))
    refused = desk("xmadapter", "inspect", killed_encode.path)
    assert refused.status == 4
    kept = counted(r"has no manifest; (\d+) finished shards are kept", refused.err)
    assert kept == (len(records(killed_encode.path)),)


def test_a_resumed_encode_computes_what_is_missing_and_equals_an_undisturbed_one(other, killed_encode, encoded, desk):
    features = killed_encode.path
    before = identities(features / "records")
    done = desk("pipelines.encode", "--config", other / "encode.yaml", "max_actors=1")
    assert done.status == 0, done.err
    computed, kept = counted(r": (\d+) features computed, (\d+) kept from earlier runs", done.out)
    missing = len(records(features)) - len(before)
    assert 0 < computed <= 3 * missing
    assert kept == counted(r"(\d+) features computed", encoded.done.out)[0] - computed
    assert before.items() <= identities(features / "records").items()
    assert tree(features) == tree(encoded.path)


@pytest.fixture(scope="module")
def silent_port():
    """A port of this machine where nobody answers, held so that nobody begins to."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture(scope="module")
def blind(other, encoded):
    """The line's features without a single test shard."""
    features = shutil.copytree(encoded.path, other / "blind")
    shards = open_features(str(features)).manifest.of("test")
    for shard in shards:
        (features / "shards" / shard.name).unlink()
    assert len(shards) == 8
    return features


@pytest.fixture(scope="module")
def interrupted_sweep(other, blind, silent_port):
    """Begun without test shards and without MLflow, then interrupted."""
    config = sweep_config(other / "sweep.yaml", blind, tracking={"uri": f"http://127.0.0.1:{silent_port}"})
    started = Started(("pipelines.sweep", "--config", str(config)), other)
    started.wait_until(lambda: trial_lines(other / "sweep") >= 1)
    return Step(started.interrupt(), other / "sweep")


@pytest.fixture(scope="module")
def killed_sweep(other, interrupted_sweep):
    sweep, kept = interrupted_sweep.path, trial_lines(interrupted_sweep.path)
    started = Started(("pipelines.sweep", "--config", "sweep.yaml"), other)
    started.wait_until(lambda: trial_lines(sweep) > kept)
    return Step(started.kill(), sweep)


@pytest.fixture(scope="module")
def resumed_sweep(other, killed_sweep, desk):
    return Step(desk("pipelines.sweep", "--config", other / "sweep.yaml"), killed_sweep.path)


def test_an_interrupted_sweep_says_so_in_one_line(interrupted_sweep):
    done = interrupted_sweep.done
    assert done.status == 130
    assert done.err.splitlines().count(INTERRUPTED) == 1
    assert done.errors == []
    assert "Traceback" not in done.err


def test_trials_in_hand_finish_before_an_interrupted_sweep_ends(interrupted_sweep):
    (in_hand,) = counted(r"interrupted: (\d+) trials in hand finish; interrupt again", interrupted_sweep.done.err)
    assert (
        trial_lines(interrupted_sweep.path) >= in_hand >= 1
    )  # the one that was waited for may still have counted as running
    assert trial_lines(interrupted_sweep.path) < TRIALS


def test_a_killed_sweep_keeps_what_was_finished(killed_sweep):
    assert killed_sweep.done.status == -9
    assert 1 < len(trials(killed_sweep.path)) < TRIALS


def test_without_mlflow_a_sweep_completes_and_says_what_to_do(resumed_sweep, silent_port):
    assert resumed_sweep.done.status == 7
    (error,) = resumed_sweep.done.errors
    assert error.startswith("error[tracking]: ")
    assert f"http://127.0.0.1:{silent_port}" in error
    assert error.endswith(f"xmadapter sync {resumed_sweep.path}")
    assert "Traceback" not in resumed_sweep.done.err


def test_a_silent_mlflow_is_told_once_and_not_at_every_try(resumed_sweep):
    assert "Retrying" not in resumed_sweep.done.err


def test_a_resumed_sweep_has_each_trial_once_and_equals_an_undisturbed_one(resumed_sweep, swept):
    assert len(trials(resumed_sweep.path)) == TRIALS
    assert trials(resumed_sweep.path) == trials(swept.path)


def test_the_test_split_opens_in_the_final_evaluation_only(resumed_sweep, blind, desk):
    refused = desk("pipelines.evaluate", f"sweep={resumed_sweep.path}")
    assert refused.status == 4
    (error,) = refused.errors
    assert error.startswith(f"error[store-incomplete]: shard {blind}")
    assert "Traceback" not in refused.err


@pytest.fixture(scope="module")
def delivered(other, resumed_sweep, desk):
    """The sweep's records, sent to a database that is there."""
    config = resumed_sweep.path / "config.yaml"
    values = yaml.safe_load(config.read_text())
    values["tracking"]["uri"] = f"sqlite:///{other / 'mlflow.db'}"
    config.write_text(yaml.safe_dump(values))
    return Step(desk("xmadapter", "sync", resumed_sweep.path), other / "mlflow.db")


def test_sync_delivers_what_mlflow_missed(delivered, resumed_sweep):
    assert delivered.done.status == 0, delivered.done.err
    assert delivered.done.out == f"{resumed_sweep.path}: everything is at sqlite:///{delivered.path}\n"
    runs = mlflow_runs(delivered.path, "shapes")
    counts = Counter(child.tags["mlflow.parentRunId"] for child in children(runs))
    assert sorted(counts.values()) == [2, 2, 8]
    assert set(counts) == {parent.id for parent in parents(runs).values()}
    assert {run.status for run in runs} == {"FINISHED"}


def test_sync_again_sends_nothing_twice(delivered, resumed_sweep, desk):
    before = {run.id for run in mlflow_runs(delivered.path, "shapes")}
    assert desk("xmadapter", "sync", resumed_sweep.path).status == 0
    assert {run.id for run in mlflow_runs(delivered.path, "shapes")} == before


def test_a_further_method_and_shot_count_run_the_new_trials_only(other, delivered, resumed_sweep, swept, desk):
    method = {"adapter": {"kind": "tip", "sharpness": 2.0}, "name": "Tip, blunt"}
    config = yaml.safe_load((resumed_sweep.path / "config.yaml").read_text())
    wider = other / "wider.yaml"
    wider.write_text(yaml.safe_dump({**config, "methods": [*config["methods"], method], "shots": [1, 2, 4]}))
    done = desk("pipelines.sweep", "--config", wider)
    assert done.status == 0, done.err
    assert done.out.startswith(f"{6 + 3} trials run, {TRIALS} kept from earlier runs")
    assert trials(swept.path).items() <= trials(resumed_sweep.path).items()
