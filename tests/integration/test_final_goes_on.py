"""A final test that was interrupted goes on, and one with a method more scores that method alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.factories import make_store
from tests.sweeps import sweep_here
from xmadapter.config import ClusterConfig, EvaluateConfig, SweepConfig
from xmadapter.elsewhere import Elsewhere
from xmadapter.features import TestSet, TuningData
from xmadapter.final import FinalResult
from xmadapter.jobs import evaluate_sweep, score_here
from xmadapter.results import SweepFolder
from xmadapter.trial import TrialResult

pytestmark = [
    pytest.mark.timeout(300),
    # MLflow's database layer warns of its own deprecations in this process; none of them is ours to mend.
    pytest.mark.filterwarnings("ignore"),
]


class Cut(RuntimeError):
    """The process ends here."""


class Watched:
    """Scores in this process, notes which methods, and is cut off after a first one that is zero-shot."""

    def __init__(self) -> None:
        self.fitted: list[str] = []

    def __call__(
        self,
        data: TuningData,
        test: TestSet,
        choices: Sequence[TrialResult],
        elsewhere: Sequence[Elsewhere],
        cluster: ClusterConfig,
    ) -> Iterator[Any]:
        for choice in choices:
            self.fitted.append(choice.method)
            yield from score_here(data, test, [choice], elsewhere, cluster)
            if self.fitted == ["Zero-shot"]:
                raise Cut


def swept(folder: Path, *kinds: str) -> SweepFolder:
    return sweep_here(
        SweepConfig.model_validate(
            {
                "features": str(folder / "features"),
                "output": str(folder / "sweep"),
                "experiment": "pets: small",
                "methods": [{"adapter": {"kind": kind}} for kind in kinds],
                "shots": [2],
                "seeds": [1, 2],
                "tracking": {"uri": f"sqlite:///{folder / 'mlflow.db'}"},
            }
        )
    )


def test_no_choice_is_scored_twice_and_an_interrupted_look_is_one_look(tmp_path: Path):
    make_store(tmp_path / "features")
    sweep = swept(tmp_path, "zero-shot", "tip")
    watched = Watched()
    config = EvaluateConfig(sweep=str(sweep.path))
    with pytest.raises(Cut):
        evaluate_sweep(config, score=watched)
    assert sweep.finals(FinalResult) == []
    evaluate_sweep(config, score=watched)
    assert (watched.fitted, sweep.looks) == (["Zero-shot", "Tip-Adapter"], 1)

    whole = pq.read_table(sweep.path / "predictions.parquet")
    more = swept(tmp_path, "zero-shot", "gda", "tip")
    evaluate_sweep(config, score=watched)
    assert (watched.fitted, more.looks) == (["Zero-shot", "Tip-Adapter", "GDA"], 2)
    assert [final.choice.method for final in more.finals(FinalResult)] == ["Zero-shot", "GDA", "Tip-Adapter"]
    again = pq.read_table(sweep.path / "predictions.parquet")
    assert again.num_rows == 3 * whole.num_rows // 2
    for method in ("Zero-shot", "Tip-Adapter"):
        mine = [[row for row in table.to_pylist() if row["method"] == method] for table in (whole, again)]
        assert mine[0] == mine[1]
        assert mine[0]


def test_predictions_that_were_deleted_are_made_again(tmp_path: Path):
    make_store(tmp_path / "features")
    sweep = swept(tmp_path, "tip")
    watched = Watched()
    config = EvaluateConfig(sweep=str(sweep.path))
    evaluate_sweep(config, score=watched)
    before = pq.read_table(sweep.path / "predictions.parquet")
    for part in (sweep.path / "predictions").iterdir():
        part.unlink()
    evaluate_sweep(config, score=watched)
    assert watched.fitted == ["Tip-Adapter", "Tip-Adapter"]
    assert pq.read_table(sweep.path / "predictions.parquet").equals(before)
