"""The straight line: encode, sweep, evaluate, report, export, predict; and the same commands again."""

import json
import re

import pyarrow.parquet as pq
import pytest

from tests.factories import tree
from tests.integration.line import (
    CLASSES,
    IMAGES,
    NOWHERE,
    TITLES,
    TRIALS,
    children,
    counted,
    mlflow_runs,
    parents,
    run,
    trial_lines,
)
from xmadapter.ledger import Ledger

pytestmark = pytest.mark.timeout(300)  # the first test waits for the line, on a machine that may be busy

ROWS = 3 * (3 * IMAGES["train"] + IMAGES["val"] + IMAGES["test"]) + len(CLASSES)
TESTED = 3 * IMAGES["test"]


@pytest.fixture
def runs(folder, reported):
    return mlflow_runs(folder / "mlflow.db", "shapes")


def test_encode_says_how_many_features_it_computed(encoded):
    assert encoded.done.status == 0, encoded.done.err
    assert encoded.done.out == f"{encoded.path}: {ROWS} features computed, 0 kept from earlier runs\n"
    assert len(list((encoded.path / "shards").iterdir())) > 30


def test_encode_again_reuses_everything_changes_no_byte_and_needs_no_ray(folder, encoded):
    before = tree(encoded.path)
    command = ("pipelines.encode", "--config", "encode.yaml", f"cluster.address={NOWHERE}")
    again = run(*command, folder=folder)
    assert (again.status, again.err) == (0, "")
    assert again.out == f"{encoded.path} is complete: {ROWS} features reused, nothing computed\n"
    assert tree(encoded.path) == before


def test_sweep_runs_every_planned_trial(swept):
    assert swept.done.status == 0, swept.done.err
    assert swept.done.out.startswith(
        f"{TRIALS} trials run, 0 kept from earlier runs; ledger and config in {swept.path}"
    )
    assert "failed:" not in swept.done.out
    assert trial_lines(swept.path) == TRIALS


def test_sweep_again_runs_no_trial(folder, swept, desk):
    again = desk("pipelines.sweep", "--config", folder / "sweep.yaml", f"cluster.address={NOWHERE}")
    assert (again.status, again.errors) == (0, [])
    assert again.out.startswith(f"0 trials run, {TRIALS} kept from earlier runs")
    assert trial_lines(swept.path) == TRIALS


def test_evaluate_prints_a_line_per_method_and_keeps_every_prediction(evaluated):
    assert evaluated.done.status == 0, evaluated.done.err
    lines = evaluated.done.out.splitlines()
    assert "Protocol fewshot-val; seeds 1, 2; 24 test images." in lines
    assert re.search(r"^method +1 shot +2 shots$", evaluated.done.out, re.MULTILINE)
    for title in TITLES:
        assert sum(re.match(rf"{title} +\d+\.\d", line) is not None for line in lines) == 1
    assert pq.read_metadata(evaluated.path).num_rows == len(TITLES) * 2 * 2 * TESTED


def test_shots_help_on_these_images(evaluated):
    table = pq.read_table(evaluated.path).to_pylist()
    right = {title: [row["label"] == row["predicted"] for row in table if row["method"] == title] for title in TITLES}
    share = {title: sum(hits) / len(hits) for title, hits in right.items()}
    # The tiny encoder's texts say nothing of its images, so zero-shot guesses, and colours are easy to learn.
    assert share["Tip-Adapter"] > share["Zero-shot"] + 0.2


def test_report_says_where_it_is_and_how_to_compare(folder, reported):
    assert reported.done.status == 0, reported.done.err
    page, mlflow, compare = reported.done.out.splitlines()
    assert page == f"report:  {reported.path / 'report.html'}"
    assert mlflow.startswith("mlflow:  mlflow server --backend-store-uri")
    assert str(folder / "mlflow.db") in mlflow
    assert re.fullmatch(
        r"compare: http://127\.0\.0\.1:5000/#/experiments/\d+/runs\?searchFilter=tags\.level\S+", compare
    )
    suffixes = {path.suffix for path in reported.path.rglob("*") if path.is_file()}
    assert suffixes >= {".html", ".md", ".csv"}
    assert "The test split was looked at 1 time in this sweep." in (reported.path / "report.html").read_text()


def test_export_writes_a_bundle_and_says_how_to_use_it(exported):
    assert exported.done.status == 0, exported.done.err
    assert exported.done.out == f"bundle: {exported.path}\nuse it: xmadapter predict {exported.path} IMAGE...\n"
    assert sorted(path.name for path in exported.path.iterdir()) == ["adapter.safetensors", "bundle.json"]


def test_predict_names_class_and_probability_of_each_image(folder, images, exported):
    files = [str(next((images / "test" / name).iterdir())) for name in CLASSES]
    done = run("xmadapter", "predict", str(exported.path), *files, folder=folder)
    assert (done.status, done.err) == (0, "")
    found = [re.fullmatch(r"(.+\.png)  ([a-z ]+) ([01]\.\d{3})", line) for line in done.out.splitlines()]
    assert [match and match[1] for match in found] == files
    assert {match[2] for match in found if match} <= set(CLASSES)
    assert all(1 / 3 < float(match[3]) <= 1 for match in found if match)


def test_predict_lists_the_likeliest_classes_in_order(images, exported, desk):
    file = next((images / "test" / CLASSES[0]).iterdir())
    done = desk("xmadapter", "predict", exported.path, file, "--top", 3)
    shares = [float(share) for share in re.findall(r" ([01]\.\d{3})", done.out)]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=0.002)  # three roundings to three decimals


def test_mlflow_has_a_finished_parent_for_each_method(runs):
    found = parents(runs)
    assert sorted(found) == sorted(TITLES)
    for parent in found.values():
        assert parent.metrics["accuracy/validation"].keys() == parent.metrics["accuracy/test"].keys() == {1, 2}
        assert all(0 <= value <= 1 for value in parent.metrics["accuracy/test"].values())
        assert parent.artifacts >= {"sweep.yaml", "predictions.parquet", "report.html"}
        assert "| shots | selection | test |" in parent.tags["mlflow.note.content"]


def test_mlflow_parents_say_where_their_numbers_come_from(runs, encoded):
    manifest = json.loads((encoded.path / "manifest-000001.json").read_text())["content"]
    for parent in parents(runs).values():
        assert parent.tags["protocol"] == "fewshot-val"
        assert parent.tags["feature_manifest"] == manifest["plan_fingerprint"]
        assert parent.tags["split_hash"] == manifest["split_hash"]
        assert re.fullmatch("[0-9a-f]{64}", parent.tags["encoder_fingerprint"])
        assert re.fullmatch("[0-9a-f]{64}", parent.tags["config_hash"])
        assert parent.tags["git_commit"]


def test_mlflow_has_a_finished_child_for_each_trial(runs, swept):
    parent_of = {parent.id: name for name, parent in parents(runs).items()}
    found = children(runs)
    assert len(found) == trial_lines(swept.path) == TRIALS
    assert {run.status for run in runs} == {"FINISHED"}
    for child in found:
        assert child.name.startswith(parent_of[child.tags["mlflow.parentRunId"]] + " ")
        assert child.metrics["accuracy/validation"].keys() == {0}
    assert len({child.tags["trial_uid"] for child in found}) == TRIALS


def test_the_parents_metric_is_that_of_the_method_as_configured_or_of_the_best_child(runs):
    for name, parent in parents(runs).items():
        mine = [child for child in children(runs) if child.tags["mlflow.parentRunId"] == parent.id]
        for shots, value in parent.metrics["accuracy/selection"].items():
            tried = {
                child.name: child.metrics["accuracy/selection"][0]
                for child in mine
                if child.tags["shots"] == str(shots)
            }
            first = next(tried[one] for one in tried if one.endswith("#0"))
            assert value in (first, max(tried.values())), name


def test_a_second_look_at_the_test_split_is_counted_and_shown(folder, swept, evaluated_again, desk):
    assert evaluated_again.done.status == 0, evaluated_again.done.err
    assert sum(1 for _ in Ledger(swept.path / "ledger.jsonl").entries("look")) == 2
    for parent in parents(mlflow_runs(folder / "mlflow.db", "shapes")).values():
        assert counted(r"looked at (\d+) times in this sweep", parent.tags["mlflow.note.content"]) == (2,)
    assert desk("pipelines.report", f"sweep={swept.path}", f"output={folder / 'report2'}").status == 0
    assert "Warning: the test split was looked at 2 times" in (folder / "report2" / "report.html").read_text()


def test_the_second_look_finds_what_the_first_found(evaluated, evaluated_again):
    assert evaluated_again.done.out == evaluated.done.out
