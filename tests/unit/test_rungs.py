"""A training that is compared on its way, and stopped where it falls short."""

import pytest

from tests.factories import make_tuning_data
from xmadapter.config import FitConfig, LinearProbeConfig
from xmadapter.trial import Pruned, TrialConfig, run_trial

DATA = make_tuning_data(classes=4, per_class=8)


def trained_for(epochs: int, rungs: tuple[tuple[int, float | None], ...]) -> TrialConfig:
    adapter = LinearProbeConfig(fit=FitConfig(epochs=epochs))
    return TrialConfig(method="Linear probe", adapter=adapter, shots=4, seeds=(1, 2, 3), rungs=rungs)


def test_a_rung_is_the_validation_accuracy_of_a_training_of_that_length_so_far():
    seen: list[int] = []
    result = run_trial(DATA, trained_for(6, ((2, None), (5, 0.0))), on_epoch=lambda metrics: seen.append(metrics.epoch))
    assert list(result.rungs) == [2, 5]
    assert all(0 <= value <= 1 for value in result.rungs.values())
    assert seen[:6] == [1, 2, 3, 4, 5, 6]
    alone = run_trial(DATA, trained_for(6, ()))
    assert (alone.validation, alone.rungs) == (result.validation, {})


def test_a_missed_rung_stops_the_training_and_says_what_was_reached():
    seen: list[int] = []
    with pytest.raises(Pruned, match="stopped after epoch 3") as stopped:
        run_trial(
            DATA, trained_for(6, ((2, None), (3, 1.1), (5, None))), on_epoch=lambda metrics: seen.append(metrics.epoch)
        )
    assert list(stopped.value.rungs) == [2, 3]
    assert seen == [1, 2, 3]
