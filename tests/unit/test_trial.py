"""One configuration at one shot count, all seeds at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from tests.adapter_configs import EVERY as ONE_OF_EACH
from tests.adapter_configs import FEW
from tests.factories import make_encode_plan, make_episodes, make_store, make_test_set, make_tuning_data
from xmadapter.adapters import SolvableAdapter
from xmadapter.config import (
    AdapterConfig,
    FitConfig,
    FusedConfig,
    LinearProbeConfig,
    SelectionProtocol,
    SolveRange,
    TipConfig,
    TipFConfig,
    XMAdapterConfig,
    ZeroShotConfig,
)
from xmadapter.errors import EpisodeError, StoreIncomplete
from xmadapter.evaluation import accuracy
from xmadapter.features import FeatureSet, TextBank, TuningData
from xmadapter.training import Diverged, EpochMetrics, fold_episodes, pool, solve, solve_held_out
from xmadapter.trial import TrialConfig, fit_adapter, refit, run_trial

EVERY = [*ONE_OF_EACH, XMAdapterConfig(fit=FEW, text_width=4, ratio="dynamic", train_keys=False)]
every = pytest.mark.parametrize("adapter", EVERY, ids=lambda config: config.kind)
DATA = make_tuning_data(classes=4, per_class=8)


def make_trial(
    adapter: AdapterConfig, *, shots: int = 4, seeds: tuple[int, ...] = (1, 2, 3), solved: bool = True
) -> TrialConfig:
    solve = adapter.default_solve if solved else {}
    return TrialConfig(method=adapter.title, adapter=adapter, solve=solve, shots=shots, seeds=seeds)


@every
def test_a_result_says_what_was_run_and_what_was_found(adapter: AdapterConfig):
    result = run_trial(DATA, make_trial(adapter))
    assert (result.method, result.adapter, result.shots, result.seeds) == (adapter.title, adapter, 4, (1, 2, 3))
    assert (result.protocol, result.validation_rows) == ("fewshot-val", 16)
    assert all(0 <= score <= 1 and (16 * score).is_integer() for score in result.validation)
    assert result.mean_validation == pytest.approx(sum(result.validation) / 3)
    always = {"cache_weight"} if adapter.default_solve else set()  # as configured, where it is not solved
    assert set(result.solved) == set(adapter.default_solve) | always
    assert result.stored_bytes > 0
    assert result.seconds > 0


@every
def test_refitting_gives_the_accuracy_of_the_trial(adapter: AdapterConfig):
    result = run_trial(DATA, make_trial(adapter))
    episodes = make_episodes(DATA, shots=4, seeds=(1, 2, 3))
    again = refit(DATA, result, seeds=(1, 2, 3))
    with torch.no_grad():
        assert tuple(accuracy(again(episodes.validation), episodes.validation_labels).tolist()) == result.validation


@every
def test_refitting_twice_gives_the_same_bytes(adapter: AdapterConfig):
    result = run_trial(DATA, make_trial(adapter, solved=False))
    first, second = (refit(DATA, result, seeds=(1, 2)).state_dict() for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_one_seed_refitted_alone_is_that_seed_of_the_trial():
    result = run_trial(DATA, make_trial(TipFConfig(fit=FEW)))
    together, alone = refit(DATA, result, seeds=(1, 2, 3)), refit(DATA, result, seeds=(2,))
    torch.testing.assert_close(alone.keys[0], together.keys[1], atol=1e-5, rtol=0)  # float32 products of another shape


def test_solving_reaches_at_least_the_configured_point():
    solved, fixed = (run_trial(DATA, make_trial(TipConfig(), solved=flag)) for flag in (True, False))
    assert solved.score >= fixed.score
    assert solved.solved_points >= 100
    assert (fixed.solved, fixed.solved_points) == ({}, 0)


@every
def test_held_out_accuracy_is_that_of_a_loop_over_folds(adapter: AdapterConfig):
    result = run_trial(DATA, make_trial(adapter, shots=5, solved=False))
    assert result.held_out_rows == 4 * 2 * 2
    for place, seed in enumerate(result.seeds):
        episode, shares = make_episodes(DATA, shots=5, seeds=(seed,)), []
        for held in ([0, 1], [2, 3]):
            asked = torch.tensor([shot in held for shot in range(5)]).repeat(4)
            parts = {"views": episode.views[:, ~asked], "norms": episode.norms[:, ~asked]}
            fold = replace(episode, shots=3, labels=episode.labels[~asked], **parts)
            logits = fit_adapter(DATA, adapter, fold)(episode.views[:, asked, 0])
            shares.append(accuracy(logits, episode.labels[asked]).item())
        assert result.held_out[place] == pytest.approx(sum(shares) / 2, abs=1e-6)


def test_what_leaves_images_out_in_closed_form_is_solved_by_them():
    episodes = make_episodes(DATA, shots=5, seeds=(1, 2, 3))
    config = FusedConfig(sharpness=2.0)
    adapter = fit_adapter(DATA, config, episodes)
    assert isinstance(adapter, SolvableAdapter)
    grid = config.default_solve
    points = pool(solve(adapter, episodes, grid), solve_held_out(adapter, episodes, grid))
    assert points.rows == 16 + 20
    result = run_trial(DATA, make_trial(config, shots=5))
    assert result.solved == points.near({"sharpness": 2.0, "regularisation": 0.3, "cache_weight": 1.0})
    assert result.held_out_rows == 16


def test_leaving_images_out_equals_the_loop_over_points():
    episodes = make_episodes(DATA, shots=3)
    adapter = fit_adapter(DATA, FusedConfig(), episodes)
    assert isinstance(adapter, SolvableAdapter)
    points = solve_held_out(adapter, episodes, FusedConfig.default_solve)
    for index in (0, 17, 34):
        setting = dict(zip(points.names, points.values[index].tolist(), strict=True))
        adapter.settle(setting)
        images = adapter.held_out_images
        assert images is not None
        votes = next(iter(adapter.held_out_grid({})))
        found = accuracy(adapter.base_logits(images) + setting["cache_weight"] * votes, episodes.labels)
        assert points.accuracy[:, index].tolist() == pytest.approx(found.tolist())


def test_the_score_counts_validation_and_held_out_images_alike():
    result = run_trial(DATA, make_trial(TipConfig(), shots=5))
    correct = sum(round(16 * score) for score in result.validation + result.held_out)
    assert (result.validation_rows, result.held_out_rows) == (16, 16)
    assert result.score == pytest.approx(correct / (3 * 32))
    assert result.score_error == pytest.approx((result.score * (1 - result.score) / (3 * 32)) ** 0.5)


@every
def test_without_validation_images_the_support_alone_is_asked(adapter: AdapterConfig):
    data = make_tuning_data(classes=4, per_class=8, protocol="no-val")
    empty = FeatureSet(data.train.features[:0, :1], data.train.norms[:0, :1], data.train.labels[:0], ())
    result = run_trial(replace(data, validation=empty), make_trial(adapter, shots=4))
    assert (result.validation, result.validation_rows, result.mean_validation) == ((), 0, None)
    assert result.score == pytest.approx(sum(result.held_out) / 3)
    assert result.held_out_rows == 16


def test_with_nobody_to_ask_a_method_stays_as_it_is_configured():
    data = make_tuning_data(classes=4, per_class=8, protocol="no-val")
    empty = FeatureSet(data.train.features[:0, :1], data.train.norms[:0, :1], data.train.labels[:0], ())
    result = run_trial(replace(data, validation=empty), make_trial(TipConfig(), shots=1))
    assert (result.solved, result.score, result.score_error) == ({}, 0, 0)
    again = refit(replace(data, validation=empty), result, seeds=(1, 2, 3))
    assert isinstance(again, SolvableAdapter)
    assert again.config == TipConfig()


@pytest.mark.parametrize(("protocol", "shots"), [("full-val", 4), ("oracle", 4), ("fewshot-val", 1)])
def test_one_shot_and_a_whole_validation_split_hold_nothing_out(protocol: SelectionProtocol, shots: int):
    data = make_tuning_data(classes=4, per_class=8, protocol=protocol)
    result = run_trial(data, make_trial(TipFConfig(fit=FEW), shots=shots))
    assert (result.held_out, result.held_out_rows) == ((), 0)
    assert result.score == pytest.approx(result.mean_validation)


def test_a_training_free_adapter_is_solved_for_the_best_over_all_images():
    episodes = make_episodes(DATA, shots=4, seeds=(1, 2, 3))
    parts = [episodes, fold_episodes(episodes)]
    tables = [solve(fit_adapter(DATA, TipConfig(), part), part, TipConfig.default_solve) for part in parts]
    result = run_trial(DATA, make_trial(TipConfig()))
    assert result.solved == pool(*tables).best
    assert result.score == pytest.approx(pool(*tables).accuracy.mean(axis=0).max())


def test_a_trained_adapter_keeps_what_it_was_trained_with_where_images_cannot_tell():
    grid = {"cache_weight": SolveRange(low=1e-6, high=1e-5, points=3), "sharpness": SolveRange(low=1, high=9, points=5)}
    config = TipFConfig(fit=FEW, sharpness=5.2, cache_weight=1e-5)
    trial = TrialConfig(method="a", adapter=config, solve=grid, shots=4, seeds=(1, 2))
    assert run_trial(DATA, trial).solved == {"sharpness": 5.0, "cache_weight": 1e-5}


def test_a_trained_adapter_leaves_values_that_held_out_images_refuse():
    config = TipFConfig(fit=FitConfig(epochs=1, learning_rate=1e-6), cache_weight=0)
    weak = replace(
        DATA, text=TextBank(DATA.text.features[[1, 2, 3, 0]], DATA.text.class_names)
    )  # every text is of another class
    kept, solved = (run_trial(weak, make_trial(config, solved=flag)) for flag in (False, True))
    assert solved.score > kept.score + kept.score_error
    assert solved.solved["cache_weight"] > 1


def test_solved_parameters_are_used_by_the_refitted_adapter():
    result = run_trial(DATA, make_trial(TipFConfig(fit=FEW)))
    config = refit(DATA, result, seeds=(1,)).config
    assert {name: getattr(config, name) for name in result.solved} == result.solved
    assert result.adapter == TipFConfig(fit=FEW)


def test_a_result_survives_json():
    result = run_trial(DATA, make_trial(XMAdapterConfig(fit=FEW, text_width=4)))
    assert type(result).model_validate_json(result.model_dump_json()) == result


def test_epochs_are_reported_as_they_end():
    seen: list[EpochMetrics] = []
    run_trial(DATA, make_trial(LinearProbeConfig(fit=FEW)), on_epoch=seen.append)
    assert [metrics.epoch for metrics in seen] == [1, 2, 3]


def test_too_many_shots_are_refused_before_training():
    with pytest.raises(EpisodeError, match="9 training images"):
        run_trial(DATA, make_trial(TipFConfig(), shots=9))


@pytest.mark.parametrize("epochs", [1, 5])
def test_a_diverged_training_gives_no_result(epochs: int):
    training = FitConfig(epochs=epochs, learning_rate=100)
    with pytest.raises(Diverged):
        run_trial(DATA, make_trial(TipFConfig(sharpness=20, fit=training), solved=False))


def test_a_test_set_is_no_tuning_data():
    with pytest.raises(TypeCheckError):
        run_trial(make_test_set(), make_trial(ZeroShotConfig()))


def test_a_trial_opens_no_test_shard(tmp_path):
    store = make_store(tmp_path, make_encode_plan())
    lost = [tmp_path / "shards" / shard.name for shard in store.manifest.of("test")]
    for path in lost:
        path.unlink()
    result = run_trial(store.tuning("fewshot-val"), make_trial(TipConfig(), shots=2))
    assert len(result.validation) == 3
    assert lost
    with pytest.raises(StoreIncomplete):
        store.test()


def test_tuning_data_holds_no_test_row(tmp_path):
    data = make_store(tmp_path).tuning("full-val")
    assert {name.partition("/")[0] for name in data.train.ids} == {"train"}
    assert {name.partition("/")[0] for name in data.validation.ids} == {"validation"}


def with_short_class(protocol: SelectionProtocol = "fewshot-val") -> TuningData:
    """Class 1 has two training images, class 3 one, and class 2 no image to validate on."""
    data = make_tuning_data(classes=4, per_class=8, protocol=protocol)
    number = np.tile(np.arange(8), 4)
    few = np.flatnonzero(~((data.train.labels == 1) & (number >= 2)) & ~((data.train.labels == 3) & (number >= 1)))
    asked = np.flatnonzero(data.validation.labels != 2)
    return replace(data, train=data.train.take(few), validation=data.validation.take(asked))


@every
def test_classes_with_fewer_images_than_shots_give_all_they_have(adapter: AdapterConfig):
    data = with_short_class()
    config = make_trial(adapter).model_copy(update={"take_all": True})
    result = run_trial(data, config)
    assert result.short == {"class 1": 2, "class 3": 1}
    assert result.validation_rows == 12
    assert result.held_out_rows == 2 * (2 + 1 + 2)
    again = refit(data, result, seeds=(2,))
    image = torch.tensor(data.validation.features[:, 0])[None]
    assert torch.isfinite(again(image)).all()
    assert result.score > 0.3  # four classes


def test_short_classes_are_refused_unless_the_config_takes_them():
    with pytest.raises(EpisodeError, match=r"class 1 has 2, class 3 has 1"):
        run_trial(with_short_class(), make_trial(TipConfig()))


def test_nothing_is_short_where_every_class_has_enough():
    config = make_trial(TipConfig()).model_copy(update={"take_all": True})
    assert run_trial(DATA, config).model_copy(update={"seconds": 0, "latency_us": 0, "take_all": False}) == run_trial(
        DATA, make_trial(TipConfig())
    ).model_copy(update={"seconds": 0, "latency_us": 0})
