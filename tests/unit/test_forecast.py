"""What a dry run says is what a sweep then does."""

from pathlib import Path

import pytest

from tests.factories import make_result, make_store
from xmadapter.config import SweepConfig
from xmadapter.entry import entry_point
from xmadapter.errors import ConfigError
from xmadapter.forecast import Forecast, forecast
from xmadapter.records import trial_entry
from xmadapter.reports import forecast_table
from xmadapter.results import create_sweep_folder
from xmadapter.study import FinishedTrial

METHODS = [
    {"adapter": {"kind": "tip"}},
    {"adapter": {"kind": "tip-f", "fit": {"epochs": 2}}, "trials": 6},
    {"adapter": {"kind": "linear-probe", "fit": {"epochs": 2}}, "space": {}},
]


def make_config(folder: Path, **changes: object) -> SweepConfig:
    values = {
        "features": str(folder / "features"),
        "output": str(folder / "sweep"),
        "experiment": "made-up",
        "methods": METHODS,
        "shots": [1, 2, 4],
        "seeds": [1, 2],
    }
    return SweepConfig.model_validate(values | changes)


def test_trials_are_counted_and_timed_and_nothing_is_written(tmp_path: Path):
    make_store(tmp_path / "features")
    rows = forecast([make_config(tmp_path)])
    assert [(row.method.title, row.trials, row.finished) for row in rows] == [
        ("Tip-Adapter", 3, 0),
        ("Tip-Adapter-F", 18, 0),
        ("Linear probe", 3, 0),
    ]
    for row in rows:
        assert list(row.seconds) == [1, 2, 4]
        assert all(value > 0 for value in row.seconds.values())
        assert row.total_s == pytest.approx(sum(row.left[shots] * row.seconds[shots] for shots in (1, 2, 4)))
        middle = row.seconds[1] + (row.seconds[4] - row.seconds[1]) / 3
        assert row.seconds[2] == pytest.approx(middle)
    assert not (tmp_path / "sweep").exists()


def test_what_is_finished_is_not_counted_again(tmp_path: Path):
    store = make_store(tmp_path / "features")
    config = make_config(tmp_path)
    folder = create_sweep_folder(config)
    for study in folder.studies(store.manifest.plan_fingerprint)[:4]:  # all of the first, one of the second
        folder.ledger.append(trial_entry(study, 0, FinishedTrial({}, make_result())))
    rows = forecast([config])
    assert [(row.trials, row.finished) for row in rows] == [(0, 3), (17, 1), (3, 0)]
    assert rows[0].seconds == {}


def test_features_that_are_not_encoded_yet_are_said_to_be_missing_from_the_figure(tmp_path: Path):
    make_store(tmp_path / "features")
    there, missing = make_config(tmp_path), make_config(tmp_path, features=str(tmp_path / "none"), experiment="later")
    text = forecast_table(forecast([there, missing]), slots=2)
    assert "48 trials to run: about " in text
    assert "24 of them are not in this figure" in text
    assert [line.split()[0] for line in text.splitlines() if "Linear probe" in line] == ["made-up", "later"]


def test_the_table_names_the_space_and_the_sum_of_core_seconds():
    method = make_config(Path("x")).methods[1]
    text = forecast_table([Forecast("a", method, {1: 10, 16: 10}, 5, {1: 60.0, 16: 660.0})], slots=4)
    assert "60.00 to 660.00" in text
    assert "7200.0" in text
    assert "20 trials to run: about 30 min on 4 cores beside start-up, 2.00 core-hours" in text
    assert "fit.learning_rate" in text
    assert "solves" in text


def test_a_method_that_fails_as_it_is_configured_is_named_in_one_line(tmp_path: Path):
    make_store(tmp_path / "features")
    broken = {"adapter": {"kind": "tip", "cache_weight": 1e39}, "solve": {}, "name": "too heavy"}
    with pytest.raises(ConfigError, match="too heavy at 1 shots fails as it is configured: Diverged"):
        forecast([make_config(tmp_path, methods=[broken])])


def test_a_grid_has_as_many_trials_as_combinations(tmp_path: Path):
    make_store(tmp_path / "features")
    config = make_config(tmp_path, search={"sampler": {"kind": "grid", "points": 2}}, shots=[2])
    assert forecast([config])[1].trials == 6  # `trials` of the method is the most
    free = config.methods[1].model_copy(update={"trials": None})
    whole = config.model_copy(update={"methods": (free,)})
    assert forecast([whole])[0].trials == 2**3 + 1  # and the method as configured


def test_the_option_is_known_where_it_means_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    file = tmp_path / "sweep.yaml"
    file.write_text(make_config(tmp_path).model_dump_json())
    ran: list[str] = []

    def command(*, dry: bool) -> int | str | None:
        make = entry_point(SweepConfig, dry_run=(lambda _: ran.append("dry")) if dry else None)
        with pytest.raises(SystemExit) as left:
            make(main)()
        return left.value.code

    def main(config: SweepConfig) -> None:
        ran.append("wet")

    monkeypatch.setattr("sys.argv", ["sweep", "--config", str(file), "--dry-run"])
    assert command(dry=True) == 0
    assert ran == ["dry"]
    assert command(dry=False) == ConfigError.exit_status
    assert "--dry-run" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["sweep", "--config", str(file)])
    assert command(dry=True) == 0
    assert ran == ["dry", "wet"]
