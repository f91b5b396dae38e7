"""The published table's config, whole, on miniatures of its eleven data sets."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.coop_trees import FOLDERS, plant
from xmadapter.results import open_sweep_folder

CONFIG = Path(__file__).parents[2] / "pipelines" / "configs" / "coop11" / "coop11.yaml"
SHOTS, SEEDS = (2,), (1, 2)


def miniature(folder: Path, **changes: object) -> Path:
    """The config as it is, but for where data and results lie, a tiny encoder, few shots, and training that ends soon."""
    values = yaml.safe_load(CONFIG.read_text())
    for one in values["sets"].values():
        one["data"]["root"] = str(folder / one["data"]["root"])
        one.pop("zero_shot")
    for method in values["methods"]:
        method["trials"] = 1
        if method["adapter"]["kind"] in {
            "linear-probe",
            "tip-f",
            "ape-t",
            "xmadapter",
            "multi-modal",
            "clip-adapter",
            "taskres",
            "clap",
            "meta",
        }:
            method["adapter"]["fit"] = {"epochs": 5}
        if method["adapter"]["kind"] == "lp++":
            method["adapter"]["epochs"] = 5
    values |= {
        "output": str(folder / "out"),
        "encoders": {"tiny": {"kind": "tiny"}},
        "views": 2,
        "shots": list(SHOTS),
        "seeds": list(SEEDS),
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
        **changes,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def benchmark(config: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pipelines.benchmark", "--config", str(config)]
    return subprocess.run(command, cwd=config.parent, capture_output=True, text=True, timeout=550, check=False)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coop11")
    for dataset in FOLDERS:
        plant(folder / "data", dataset)
    return folder


@pytest.mark.timeout(600)
def test_eleven_data_sets_end_in_one_table(planted: Path) -> None:
    config = miniature(planted)
    done = benchmark(config)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = list(csv.DictReader((planted / "out" / "benchmark.csv").read_text().splitlines()))
    methods = {row["method"] for row in rows}
    assert len(methods) == 18
    assert len(rows) == 11 * 18 * len(SHOTS)
    assert {row["set"] for row in rows} == set(FOLDERS)
    assert all(row["protocol"] == "fewshot-val" and int(row["test_images"]) == 18 for row in rows)
    assert max(float(row["test_mean"]) for row in rows if row["method"] == "Fused adapter") == 1  # colours are easy
    page = (planted / "out" / "benchmark.md").read_text()
    for title in ("Mean over 11 data sets", "Fused adapter minus each other method", "Mean rank over data sets"):
        assert title in page
    assert (planted / "out" / "accuracy-tiny.png").read_bytes()[:4] == b"\x89PNG"

    again = benchmark(config)
    assert again.returncode == 0, again.stderr[-2000:]
    looks = [open_sweep_folder(str(planted / "out" / "sweeps" / "tiny" / name)).looks for name in FOLDERS]
    assert looks == [1] * 11  # nothing new, so nobody looked again


@pytest.mark.timeout(300)
def test_nothing_is_swept_where_zero_shot_is_not_the_published_one(planted: Path) -> None:
    values = yaml.safe_load(CONFIG.read_text())["sets"]["eurosat"]
    values["data"]["root"] = str(planted / values["data"]["root"])
    sets = {"eurosat": values | {"zero_shot": {"tiny": 99.5}, "tolerance": 0.5}}
    # The features of the test above, where it has run.
    config = miniature(planted, sets=sets, output=str(planted / "wrong"), features=str(planted / "out" / "features"))
    done = benchmark(config)
    assert done.returncode == 3
    assert "error[not-reproduced]" in done.stderr
    assert "eurosat with tiny" in done.stderr
    assert "instead of 99.50" in done.stderr
    assert not (planted / "wrong" / "sweeps").exists()
