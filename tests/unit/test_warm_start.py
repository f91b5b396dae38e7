"""What an earlier sweep found best is tried first, and nothing else of it is taken over."""

from pathlib import Path

import pytest

from tests.factories import make_result
from xmadapter.config import SweepConfig
from xmadapter.errors import ConfigError
from xmadapter.records import trial_entry
from xmadapter.results import SweepFolder, create_sweep_folder, open_sweep_folder
from xmadapter.study import FinishedTrial

RATES = (1e-3, 2e-3, 3e-3, 4e-3)


def make_folder(path: Path, *, shots: tuple[int, ...], **search: object) -> SweepFolder:
    method = {"adapter": {"kind": "tip-f"}, "space": {"fit.learning_rate": {"low": 1e-4, "high": 1e-2}}, "trials": 8}
    values = {"features": "f", "output": str(path), "experiment": "e", "methods": [method], "shots": shots}
    return create_sweep_folder(SweepConfig.model_validate(values | {"search": search}))


@pytest.fixture
def earlier(tmp_path: Path) -> SweepFolder:
    """At 2 shots the last rate was best, at 16 the first; one trial failed."""
    folder = make_folder(tmp_path / "earlier", shots=(2, 16))
    for study in folder.studies("plan"):
        for number, rate in enumerate(RATES):
            score = (number if study.shots == 2 else -number) / 100 + 0.5
            result = make_result(method="Tip-Adapter-F", shots=study.shots, validation=(score, score))
            folder.ledger.append(trial_entry(study, number, FinishedTrial({"fit.learning_rate": rate}, result)))
        folder.ledger.append(trial_entry(study, 9, FinishedTrial({"fit.learning_rate": 9e-3}), "made up"))
    return folder


def first_rates(folder: SweepFolder) -> dict[int, list[object]]:
    """What is drawn first, after the method as configured."""
    return {
        study.shots: [draw["fit.learning_rate"] for draw in study.first_draws if draw != study.method.as_configured]
        for study in folder.studies("other plan")
    }


def test_the_best_draws_of_the_nearest_shot_count_come_first(earlier: SweepFolder, tmp_path: Path):
    warm = {"sweep": str(earlier.path), "draws": 2}
    folder = make_folder(tmp_path / "later", shots=(1, 4, 16), warm_start=warm)
    assert first_rates(folder) == {1: [4e-3, 3e-3], 4: [4e-3, 3e-3], 16: [2e-3]}  # 1e-3 is the method as configured
    assert all(not trials for trials in folder.trials().values())


def test_what_was_taken_over_does_not_change_with_the_earlier_sweep(earlier: SweepFolder, tmp_path: Path):
    folder = make_folder(tmp_path / "later", shots=(2,), warm_start={"sweep": str(earlier.path)})
    before = first_rates(folder)
    study = earlier.studies("plan")[0]
    better = make_result(method="Tip-Adapter-F", shots=2, validation=(0.9, 0.9))
    earlier.ledger.append(trial_entry(study, 5, FinishedTrial({"fit.learning_rate": 9e-3}, better)))
    assert first_rates(open_sweep_folder(str(folder.path))) == before
    again = make_folder(tmp_path / "later", shots=(2,), warm_start={"sweep": str(earlier.path)})
    assert first_rates(again) == before


def test_a_sweep_without_trials_is_no_start(tmp_path: Path):
    make_folder(tmp_path / "empty", shots=(2,))
    with pytest.raises(ConfigError, match="no finished trial to start from"):
        make_folder(tmp_path / "later", shots=(2,), warm_start={"sweep": str(tmp_path / "empty")})
    with pytest.raises(ConfigError, match="holds no sweep"):
        make_folder(tmp_path / "none", shots=(2,), warm_start={"sweep": str(tmp_path / "nowhere")})
