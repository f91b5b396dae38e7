"""The one look at the test split."""

import numpy as np
import pytest
import torch
from scipy import stats

from tests.factories import PROVENANCE, make_result, make_store, make_test_set, make_tuning_data
from xmadapter.config import FitConfig, LinearProbeConfig, TipConfig, TipFConfig
from xmadapter.errors import DataError, FingerprintMismatch
from xmadapter.features import FeatureSet, Provenance, TestSet
from xmadapter.final import FinalResult, predictions_table, run_final
from xmadapter.trial import TrialConfig, refit, run_trial

DATA = make_tuning_data(classes=4, per_class=8)
TEST = make_test_set(classes=4, per_class=15)


def make_choice(**changes: object):
    return run_trial(DATA, TrialConfig(method="Tip", adapter=TipConfig(), shots=2, seeds=(1, 2, 3), **changes))


@pytest.mark.parametrize("field", ["plan_fingerprint", "encoder_fingerprint", "split_hash"])
def test_a_test_split_of_other_features_is_refused(field: str):
    other = Provenance(**{**vars(PROVENANCE), field: "another"})
    with pytest.raises(FingerprintMismatch, match="nothing was scored"):
        next(run_final(DATA, make_test_set(classes=4, provenance=other), [make_choice()]))


def test_scores_are_those_of_the_refitted_choice():
    choice = make_choice(solve=TipConfig.default_solve)
    (result, predicted) = next(run_final(DATA, TEST, [choice]))
    logits = refit(DATA, choice, seeds=choice.seeds)(torch.tensor(TEST.data.features[:, 0])[None])
    assert np.array_equal(predicted, logits.argmax(dim=-1).numpy())
    assert result.test == tuple((predicted == TEST.data.labels).mean(axis=1).tolist())
    assert (result.choice, result.test_rows) == (choice, 60)


def test_solved_parameters_survive_to_the_test():
    solved = make_choice(solve=TipConfig.default_solve)
    unsolved = solved.model_copy(update={"solved": {"cache_weight": 0.0, "sharpness": 5.5}})
    (_, with_votes), (_, without) = run_final(DATA, TEST, [solved, unsolved])
    zero_shot = torch.tensor(TEST.data.features[:, 0]) @ torch.tensor(DATA.text.class_features).mT
    assert np.array_equal(without[0], zero_shot.argmax(dim=-1).numpy())
    assert not np.array_equal(with_votes, without)


def test_intervals_are_students_t_over_seeds_and_wilsons_over_images():
    result, _ = next(run_final(DATA, TEST, [make_choice()]))
    mean, deviation = np.mean(result.test), np.std(result.test, ddof=1)
    half = stats.t.ppf(0.975, df=2) * deviation / np.sqrt(3)
    assert (result.interval.estimate, result.interval.low, result.interval.high) == pytest.approx(
        (mean, mean - half, mean + half)
    )
    assert result.bootstrap is not None
    assert result.bootstrap.estimate == pytest.approx(mean)
    assert result.bootstrap.low < mean < result.bootstrap.high
    z, n = stats.norm.ppf(0.975), 60
    for score, wilson in zip(result.test, result.wilson, strict=True):
        centre = (score + z**2 / (2 * n)) / (1 + z**2 / n)
        spread = z / (1 + z**2 / n) * np.sqrt(score * (1 - score) / n + z**2 / (4 * n**2))
        assert (wilson.estimate, wilson.low, wilson.high) == pytest.approx((score, centre - spread, centre + spread))


def test_class_accuracy_is_over_all_seeds():
    result, predicted = next(run_final(DATA, TEST, [make_choice()]))
    expected = [(predicted[:, TEST.data.labels == label] == label).mean() for label in range(4)]
    assert result.class_accuracy == pytest.approx(expected)


def test_every_choice_is_scored_in_order():
    choices = [make_choice(), make_choice(solve=TipConfig.default_solve)]
    assert [result.choice for result, _ in run_final(DATA, TEST, choices)] == choices


def test_trained_choices_are_trained_again():
    fit = FitConfig(epochs=3, learning_rate=0.01)
    for adapter in (TipFConfig(fit=fit), LinearProbeConfig(fit=fit)):
        choice = run_trial(DATA, TrialConfig(method="trained", adapter=adapter, shots=2, seeds=(1, 2)))
        first, second = (next(run_final(DATA, TEST, [choice]))[0] for _ in range(2))
        assert first.test == second.test


def test_predictions_have_a_row_per_seed_and_image():
    result, predicted = next(run_final(DATA, TEST, [make_choice()]))
    table = predictions_table(TEST, result, predicted)
    assert table.num_rows == 3 * 60
    row = table.slice(60 + 7, 1).to_pylist()[0]
    assert row == {
        "method": "Tip",
        "shots": 2,
        "seed": 2,
        "sample_id": TEST.data.ids[7],
        "label": 0,
        "predicted": predicted[1, 7],
    }


def test_a_final_result_survives_json():
    result, _ = next(run_final(DATA, TEST, [make_choice()]))
    assert FinalResult.model_validate_json(result.model_dump_json()) == result


def test_a_class_without_test_images_is_told_or_left_out():
    kept = TEST.data.labels != 3
    part = FeatureSet(TEST.data.features[kept], TEST.data.norms[kept], TEST.data.labels[kept], TEST.data.ids[:45])
    result, _ = next(run_final(DATA, TestSet(part, PROVENANCE), [make_choice()]))
    assert FinalResult.model_validate_json(result.model_dump_json()) == result
    assert result.class_accuracy[:3] == pytest.approx(
        next(run_final(DATA, TEST, [make_choice()]))[0].class_accuracy[:3]
    )


def test_an_empty_test_split_is_told():
    empty = FeatureSet(TEST.data.features[:0], TEST.data.norms[:0], TEST.data.labels[:0], ())
    with pytest.raises(DataError, match="test"):
        next(run_final(DATA, TestSet(empty, PROVENANCE), [make_result()]))


def test_a_store_from_disk_goes_through_trial_and_test(tmp_path):
    store = make_store(tmp_path)
    data = store.tuning("fewshot-val")
    choice = run_trial(
        data, TrialConfig(method="Tip", adapter=TipConfig(), solve=TipConfig.default_solve, shots=2, seeds=(1, 2))
    )
    result, predicted = next(run_final(data, store.test(), [choice]))
    assert predicted.shape == (2, 18)
    assert result.interval.estimate > 0.5
