"""The line for captions: encode, finetune, evaluate, report, export, search; on shapes, with a small model whose towers are entered."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.integration.line import Desk, Done, children, draw_shape, mlflow_runs, parents, write_config
from tests.unit.encoders.zoo import FAMILIES, make_family
from xmadapter.ledger import Ledger

pytestmark = pytest.mark.timeout(300)

SAYINGS = ("a blue triangle", "a green square", "a red circle")
FIT = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01}
METHODS: list[dict[str, Any]] = [
    {"adapter": {"kind": "zero-shot"}},
    {"adapter": {"kind": "heads", "fit": dict(FIT)}, "space": {}},
    {"adapter": {"kind": "cross-modal", "width": 4, "first_block": 1, "fit": dict(FIT)}, "trials": 2},
]
TITLES = ("Zero-shot", "Linear heads", "Cross-Modal Adapter")
TRIALS = 1 + 1 + 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captions")


@pytest.fixture(scope="module")
def swept(place: Path, desk: Desk) -> Done:
    entries = []
    for number in range(30):
        split = ("train", "val", "test")[0 if number < 14 else 1 + number % 2]
        draw_shape(place / "shapes" / f"{number}.png", number % 3, number, side=64)
        sentences = [{"raw": f"{SAYINGS[number % 3]} number {number}"}, {"raw": SAYINGS[number % 3]}][: 1 + number % 2]
        entries.append({"imgid": number, "filename": f"{number}.png", "split": split, "sentences": sentences})
    (place / "shapes.json").write_text(json.dumps({"images": entries}))
    model = make_family(place / "model", FAMILIES["CLIP ViT"])
    data = {"kind": "karpathy", "path": str(place / "shapes.json"), "root": str(place / "shapes")}
    encoder = {"kind": "open_clip", "model": f"local-dir:{model}"}
    features = str(place / "features")
    encode = write_config(
        place / "encode.yaml", {"data": data, "encoder": encoder, "views": 0, "rows_per_shard": 8, "output": features}
    )
    done = desk("pipelines.encode", "--config", encode)
    assert done.status == 0, done.err
    config = {
        "features": features,
        "output": str(place / "sweep"),
        "experiment": "captions",
        "methods": METHODS,
        "seeds": [1, 2],
        "search": {"sampler": {"kind": "random"}},
        "tracking": {"uri": f"sqlite:///{place / 'mlflow.db'}"},
    }
    return desk("pipelines.finetune", "--config", write_config(place / "finetune.yaml", config))


@pytest.fixture(scope="module")
def evaluated(place: Path, swept: Done, desk: Desk) -> Done:
    return desk("pipelines.evaluate", f"sweep={place / 'sweep'}")


def test_the_sweep_runs_every_trial_and_keeps_its_training_states(place: Path, swept: Done):
    assert swept.status == 0, swept.err
    assert swept.out.startswith(f"{TRIALS} trials run, 0 kept from earlier runs")
    assert "failed:" not in swept.out
    assert len(list((place / "sweep" / "states").iterdir())) == 2 * 3  # two seeds of what is trained


def test_the_same_command_runs_nothing_again(place: Path, swept: Done, desk: Desk):
    again = desk("pipelines.finetune", "--config", place / "finetune.yaml")
    assert (again.status, again.errors) == (0, [])
    assert again.out.startswith(f"0 trials run, {TRIALS} kept from earlier runs")


def test_the_final_test_prints_a_row_a_method_and_keeps_every_rank(place: Path, evaluated: Done):
    assert evaluated.status == 0, evaluated.err
    assert all(title.split()[0] in evaluated.out for title in TITLES), evaluated.out
    table = pq.read_table(place / "sweep" / "ranks.parquet")
    assert set(table["method"].to_pylist()) == set(TITLES)
    assert set(table["seed"].to_pylist()) == {1, 2}
    assert min(table["rank"].to_pylist()) == 1


def test_mlflow_holds_methods_and_trials_with_their_recalls(place: Path, evaluated: Done):
    runs = mlflow_runs(place / "mlflow.db", "captions")
    assert parents(runs).keys() == set(TITLES)
    for parent in parents(runs).values():
        assert {"recall/test", "recall/text_to_image_1", "recall/selection"} <= parent.metrics.keys()
        ((images, recall),) = parent.metrics["recall/test"].items()
        assert images == 14
        assert 0 <= recall <= 1
        assert "T2I R@1" in parent.tags["mlflow.note.content"]
    trials = children(runs)
    assert len(trials) == TRIALS
    assert {run.params["shots"] for run in trials} == {"14"}
    (first, second) = [run for run in trials if run.params["kind"] == "cross-modal"]
    assert first.params["fit.learning_rate"] != second.params["fit.learning_rate"]


def test_the_report_is_written_and_says_what_was_looked_at(place: Path, evaluated: Done, desk: Desk):
    done = desk("pipelines.report", f"sweep={place / 'sweep'}", f"output={place / 'report'}")
    assert done.status == 0, done.err
    page = (place / "report" / "report.html").read_text(encoding="utf-8")
    assert all(title in page for title in TITLES)
    assert "captions" in page
    assert (place / "report" / "recall.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("method", TITLES)
def test_a_bundle_searches_by_text_and_by_image(place: Path, evaluated: Done, desk: Desk, method: str):
    bundle = place / f"bundle {method}"
    done = desk("pipelines.export", f"sweep={place / 'sweep'}", f"output={bundle}", f"method={method}")
    assert done.status == 0, done.err
    assert f"xmadapter search '{bundle}' QUERY" in done.out
    found = desk("xmadapter", "search", bundle, "a red circle", "--top", "3")
    assert found.status == 0, found.err
    lines = found.out.splitlines()
    assert len(lines) == 3
    scores = [float(line.split("  ")[0]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    assert all(line.endswith(".png") for line in lines)
    captions = desk("xmadapter", "search", bundle, place / "shapes" / "2.png", "--top", "2")
    assert captions.status == 0, captions.err
    assert all(any(saying in line for saying in SAYINGS) for line in captions.out.splitlines())


def test_wrong_input_is_one_line(place: Path, swept: Done, desk: Desk):
    sweep = place / "sweep"
    many = desk("pipelines.finetune", "--config", place / "finetune.yaml", "images=[99]", f"output={place / 'many'}")
    assert (many.status, len(many.errors)) == (3, 1)
    assert "99 training images are asked for, the store has 14" in many.err
    other = desk("pipelines.sweep", f"features={place / 'features'}", f"output={sweep}", "experiment=x", "methods=[]")
    assert (other.status, len(other.errors)) == (2, 1)
    shifted = desk("pipelines.evaluate", f"sweep={sweep}", f"shifted={{other: {place / 'features'}}}")
    assert (shifted.status, len(shifted.errors)) == (2, 1)
    looks = list(Ledger(sweep / "ledger.jsonl").entries("look"))
    assert len(looks) <= 1
