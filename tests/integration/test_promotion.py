"""Who is champion is decided by a paired test, and by nothing else."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.factories import make_encode_plan, make_samples, make_store
from tests.sweeps import sweep_here
from xmadapter.bundle import load_bundle
from xmadapter.cli import cli
from xmadapter.config import EvaluateConfig, ExportConfig, SweepConfig
from xmadapter.errors import ConfigError, FingerprintMismatch, NotBetter, TrackingError
from xmadapter.jobs import evaluate_sweep, export_choice
from xmadapter.promotion import promote
from xmadapter.results import SweepFolder
from xmadapter.sealed import seal

pytestmark = [
    pytest.mark.timeout(300),
    # MLflow's database layer warns of its own deprecations in this process; none of them is ours to mend.
    pytest.mark.filterwarnings("ignore"),
]


@dataclass(frozen=True)
class Desk:
    """An evaluated sweep of two methods, and a bundle of each."""

    sweep: SweepFolder
    bundles: dict[str, Path]


def make_desk(folder: Path, database: Path, *, name: str = "sweep") -> Desk:
    config = SweepConfig.model_validate(
        {
            "features": str(folder / "features"),
            "output": str(folder / name),
            "experiment": "pets: small",
            "methods": [{"adapter": {"kind": "zero-shot"}}, {"adapter": {"kind": "tip"}}],
            "shots": [2],
            "seeds": [1, 2],
            "tracking": {"uri": f"sqlite:///{database}"},
        }
    )
    sweep = sweep_here(config)
    evaluate_sweep(EvaluateConfig(sweep=config.output))
    bundles = {}
    for method in ("Zero-shot", "Tip-Adapter"):
        bundles[method] = folder / f"{name}-{method}"
        export_choice(ExportConfig(sweep=config.output, output=str(bundles[method]), method=method))
    return Desk(sweep, bundles)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("promotion")
    make_store(folder / "features")
    return make_desk(folder, folder / "mlflow.db")


def predict(desk: Desk, method: str, right: float) -> None:
    """Rewrite what a method predicted: so large a share is right, the first images first."""
    path = desk.sweep.path / "predictions.parquet"
    rows = pq.read_table(path).to_pylist()
    own = [row for row in rows if row["method"] == method]
    for seed in {row["seed"] for row in own}:
        images = sorted((row for row in own if row["seed"] == seed), key=lambda row: row["sample_id"])
        for place, row in enumerate(images):
            row["predicted"] = row["label"] if place < right * len(images) else row["label"] + 1
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)


def versions(desk: Desk) -> dict[int, dict[str, str]]:
    from mlflow import MlflowClient

    client = MlflowClient(desk.sweep.config.tracking.uri, registry_uri=desk.sweep.config.tracking.uri)
    return {int(one.version): dict(one.tags) for one in client.search_model_versions("name = 'pets- small tiny'")}


def test_only_what_is_shown_to_be_better_takes_the_place_of_the_champion(desk: Desk):
    sweep = str(desk.sweep.path)
    zero_shot, tip = (str(desk.bundles[method]) for method in ("Zero-shot", "Tip-Adapter"))
    predict(desk, "Zero-shot", 0.5)
    predict(desk, "Tip-Adapter", 0.5)
    first = promote(sweep, zero_shot)
    assert (first.model, first.version, first.before, first.difference) == ("pets- small tiny", 1, None, None)
    assert promote(sweep, zero_shot).version == 1  # the same bundle again
    with pytest.raises(NotBetter, match=r"not shown to be better than pets- small tiny v1: 0.0 points"):
        promote(sweep, tip)
    assert list(versions(desk)) == [1]
    predict(desk, "Tip-Adapter", 1.0)
    said = CliRunner().invoke(cli, ["promote", sweep, tip])
    assert said.exception is None
    assert said.output.endswith("is pets- small tiny v2, the champion: +50.0 points over v1\n")
    assert versions(desk)[2]["method"] == "Tip-Adapter"
    with pytest.raises(NotBetter):
        promote(sweep, zero_shot)


def test_the_registered_files_are_the_bundle_and_nothing_that_runs_on_loading(desk: Desk):
    from mlflow import MlflowClient

    predict(desk, "Tip-Adapter", 1.0)
    with suppress(NotBetter):
        promote(str(desk.sweep.path), str(desk.bundles["Tip-Adapter"]))
    client = MlflowClient(desk.sweep.config.tracking.uri, registry_uri=desk.sweep.config.tracking.uri)
    champion = client.get_model_version_by_alias("pets- small tiny", "champion")
    place = champion.tags["folder"]
    names = {Path(file.path).name for file in client.list_artifacts(champion.run_id, place)}
    assert names == {"adapter.safetensors", "bundle.json", "predictions.parquet"}
    assert champion.source.endswith(place)


def test_a_champion_of_another_split_is_not_compared(desk: Desk, tmp_path: Path):
    predict(desk, "Tip-Adapter", 1.0)
    promote(str(desk.sweep.path), str(desk.bundles["Tip-Adapter"]))
    make_store(tmp_path / "features", make_encode_plan(make_samples(per_class=9)))
    other = make_desk(tmp_path, desk.sweep.path.parent / "mlflow.db", name="other")
    with pytest.raises(FingerprintMismatch, match="another split"):
        promote(str(other.sweep.path), str(other.bundles["Zero-shot"]))
    with pytest.raises(ConfigError, match="not exported from"):
        promote(str(desk.sweep.path), str(other.bundles["Zero-shot"]))


def test_a_champion_whose_files_are_gone_keeps_its_place(desk: Desk, tmp_path: Path):
    make_store(tmp_path / "features")
    other = make_desk(tmp_path, tmp_path / "mlflow.db")
    promote(str(other.sweep.path), str(other.bundles["Zero-shot"]))
    for folder in (tmp_path / "mlartifacts").rglob("model-*"):
        shutil.rmtree(folder)
    with pytest.raises(TrackingError, match="the champion is as it was"):
        promote(str(other.sweep.path), str(other.bundles["Tip-Adapter"]))


def test_a_bundle_that_was_not_tested_as_it_is_is_refused(desk: Desk, tmp_path: Path):
    card = load_bundle(str(desk.bundles["Tip-Adapter"])).card
    untested = tmp_path / "untested"
    shutil.copytree(desk.bundles["Tip-Adapter"], untested)
    (untested / "bundle.json").write_bytes(seal(card.model_copy(update={"test": None})))
    with pytest.raises(ConfigError, match="not exported from"):
        promote(str(desk.sweep.path), str(untested))


def test_without_mlflow_nothing_changes_and_the_line_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    config = desk.sweep.config.model_copy(
        update={"tracking": desk.sweep.config.tracking.model_copy(update={"uri": "http://127.0.0.1:1"})}
    )
    monkeypatch.setattr(
        "xmadapter.promotion.open_sweep_folder", lambda _: SweepFolder(desk.sweep.path, config, desk.sweep.uid)
    )
    with pytest.raises(TrackingError, match="the champion is as it was"):
        promote(str(desk.sweep.path), str(desk.bundles["Zero-shot"]))
