"""Grids solved at once, against the loop over their points."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from tests.factories import make_adapter, make_episodes, make_tuning_data
from tests.reference import slow_adapters as slow
from xmadapter.adapters import SolvableAdapter
from xmadapter.config import (
    APEConfig,
    APETConfig,
    FitConfig,
    GDAConfig,
    LogisticConfig,
    ProKeRConfig,
    SolveRange,
    TIMOConfig,
    TipConfig,
    TipFConfig,
    XMAdapterConfig,
)
from xmadapter.episodes import EpisodeBatch
from xmadapter.evaluation import accuracy
from xmadapter.training import Points, correct_counts, fit, grid_values, pool, solve

DATA = make_tuning_data(classes=4, per_class=10)
EPISODES = make_episodes(DATA, shots=4, seeds=(1, 2, 3))
WEIGHT = SolveRange(low=0.05, high=50, points=7, log=True)
FROM_ZERO = SolveRange(low=0, high=8, points=5)
SHARPNESS = SolveRange(low=0.5, high=50, points=4, log=True)
SHRINKAGE = SolveRange(low=0.01, high=1, points=4, log=True)
SHARE = SolveRange(low=0, high=1, points=3)
FIXED = XMAdapterConfig(ratio="fixed", text_width=4)
CASES = {
    "tip": (TipConfig(), {"cache_weight": WEIGHT, "sharpness": SHARPNESS}),
    "tip-from-zero": (TipConfig(), {"sharpness": SHARPNESS, "cache_weight": FROM_ZERO}),
    "tip-weight-only": (TipConfig(sharpness=3), {"cache_weight": WEIGHT}),
    "tip-sharpness-only": (TipConfig(cache_weight=3), {"sharpness": SHARPNESS}),
    "xmadapter-learned": (
        XMAdapterConfig(text_width=4),
        {"cache_weight": WEIGHT, "sharpness": SHARPNESS, "text_sharpness": SHARPNESS},
    ),
    "xmadapter-dynamic": (
        XMAdapterConfig(ratio="dynamic", text_width=4),
        {"cache_weight": WEIGHT, "sharpness": SHARPNESS},
    ),
    "xmadapter-share": (
        FIXED,
        {"cache_weight": WEIGHT, "sharpness": SHARPNESS, "text_sharpness": SHARPNESS, "image_share": SHARE},
    ),
    "gda": (GDAConfig(), {"cache_weight": WEIGHT}),
    "gda-shrinkage": (GDAConfig(shrinkage=0.5), {"shrinkage": SHRINKAGE, "cache_weight": WEIGHT}),
    "proker": (ProKeRConfig(), {"regularisation": WEIGHT, "sharpness": SHARPNESS}),
    "proker-weight": (ProKeRConfig(), {"regularisation": WEIGHT, "cache_weight": WEIGHT}),
    "ape": (APEConfig(), {"cache_weight": WEIGHT, "sharpness": SHARPNESS, "surprise_weight": SHARE}),
    "ape-t": (APETConfig(), {"cache_weight": WEIGHT, "sharpness": SHARPNESS}),
    "timo": (TIMOConfig(), {"cache_weight": WEIGHT}),
    "logistic": (LogisticConfig(), {"inverse_regularisation": WEIGHT}),
    "xmadapter-other-order": (
        FIXED,
        {"image_share": SHARE, "text_sharpness": WEIGHT, "sharpness": SHARPNESS, "cache_weight": WEIGHT},
    ),
}
cases = pytest.mark.parametrize(("config", "grid"), CASES.values(), ids=CASES)


def looped(adapter: SolvableAdapter, episodes: EpisodeBatch, points: Points) -> np.ndarray:
    """Settle the adapter at each point in turn and score it."""
    start, found = {name: getattr(adapter.config, name) for name in points.names}, []
    for setting in points.values:
        adapter.settle(dict(zip(points.names, setting.tolist(), strict=True)))
        found.append(accuracy(adapter(episodes.validation), episodes.validation_labels).numpy())
        adapter.settle(start)
    return np.stack(found, axis=1)


@cases
@torch.no_grad()
def test_the_table_is_that_of_the_loop_over_points(config: TipConfig | XMAdapterConfig, grid: dict[str, SolveRange]):
    adapter = make_adapter(config, DATA, EPISODES)
    points = solve(adapter, EPISODES, grid)
    assert np.array_equal(points.accuracy, looped(adapter, EPISODES, points))
    assert len(np.unique(points.accuracy)) > 2


@torch.no_grad()
def test_the_table_of_trained_keys_is_that_of_the_loop_over_points():
    adapter = make_adapter(TipFConfig(), DATA, EPISODES)
    with torch.enable_grad():
        fit(adapter, EPISODES, FitConfig(epochs=5, learning_rate=0.01))
    points = solve(adapter, EPISODES, TipFConfig.default_solve)
    assert points.accuracy.size >= 3 * 800
    assert np.array_equal(points.accuracy, looped(adapter, EPISODES, points))


@cases
def test_every_combination_of_the_grid_is_tried_once(config: TipConfig | XMAdapterConfig, grid: dict[str, SolveRange]):
    points = solve(make_adapter(config, DATA, EPISODES), EPISODES, grid)
    rows = [dict(zip(points.names, setting, strict=True)) for setting in points.values.tolist()]
    expected = [dict(zip(grid, setting, strict=True)) for setting in product(*map(grid_values, grid.values()))]
    asked = [{name: row[name] for name in grid} for row in rows]
    assert sorted(asked, key=lambda row: sorted(row.items())) == sorted(expected, key=lambda row: sorted(row.items()))


def test_the_table_agrees_with_the_slow_reference():
    adapter = make_adapter(TipConfig(), DATA, EPISODES)
    points = solve(adapter, EPISODES, {"sharpness": SHARPNESS, "cache_weight": FROM_ZERO})
    text, labels = adapter.text.tolist(), EPISODES.validation_labels.tolist()
    for seed, (sharpness, weight) in product(range(3), points.values[::3].tolist()):
        cache = {
            "keys": EPISODES.keys[seed].tolist(),
            "labels": EPISODES.labels.tolist(),
            "text": text,
            "scale": DATA.logit_scale,
        }
        scores = [
            slow.tip(query, **cache, alpha=weight, beta=sharpness) for query in EPISODES.validation[seed].tolist()
        ]
        correct = sum(row.index(max(row)) == label for row, label in zip(scores, labels, strict=True))
        point = points.values.tolist().index([sharpness, weight])
        assert points.accuracy[seed, point] == correct / len(labels)


@pytest.mark.parametrize("chunk", [1, 100, 1000])
def test_pieces_of_queries_do_not_change_the_table(monkeypatch: pytest.MonkeyPatch, chunk: int):
    adapter, grid = make_adapter(TipConfig(), DATA, EPISODES), TipConfig.default_solve
    whole = solve(adapter, EPISODES, grid)
    monkeypatch.setitem(solve.__globals__, "_CHUNK", chunk)
    assert np.array_equal(solve(adapter, EPISODES, grid).accuracy, whole.accuracy)


def test_solving_does_not_change_the_adapter():
    adapter = make_adapter(config := TipConfig(cache_weight=2, sharpness=3), DATA, EPISODES)
    solve(adapter, EPISODES, TipConfig.default_solve)
    assert adapter.config == config


def test_the_best_point_is_the_first_strict_maximum_of_the_mean_over_seeds():
    table = np.array([[0.1, 0.9, 0.5, 0.7], [0.9, 0.1, 0.7, 0.5]])
    points = Points(
        ("sharpness", "cache_weight"), np.array([[1.0, 1.0], [1.0, 2.0], [3.0, 1.0], [3.0, 2.0]]), table, 10
    )
    assert points.best == {"sharpness": 3.0, "cache_weight": 1.0}


def test_grid_values_include_both_ends_in_ascending_order():
    assert grid_values(SolveRange(low=1, high=100, points=3, log=True)) == pytest.approx([1, 10, 100])
    assert grid_values(SolveRange(low=0, high=2, points=5)) == [0, 0.5, 1, 1.5, 2]


def counted(base: list[float], votes: list[float], label: int, weights: list[float]) -> list[int]:
    table = correct_counts(
        torch.tensor([[base]]), torch.tensor([[votes]]), torch.tensor([label]), torch.tensor(weights)
    )
    return table[0].tolist()


def test_a_class_that_needs_votes_is_correct_above_its_threshold():
    assert counted([3.0, 1.0], [0.0, 1.0], 1, [0.0, 1.0, 2.5, 4.0]) == [0, 0, 1, 1]


def test_a_class_that_others_outvote_is_correct_below_its_threshold():
    assert counted([3.0, 1.0], [0.0, 1.0], 0, [0.0, 1.0, 2.5, 4.0]) == [1, 1, 0, 0]


def test_a_tie_at_a_threshold_goes_to_the_lower_class():
    assert counted([3.0, 1.0], [0.0, 1.0], 0, [1.0, 2.0, 3.0]) == [1, 1, 0]
    assert counted([3.0, 1.0], [0.0, 1.0], 1, [1.0, 2.0, 3.0]) == [0, 0, 1]
    assert counted([1.0, 3.0], [1.0, 0.0], 0, [1.0, 2.0, 3.0]) == [0, 1, 1]
    assert counted([1.0, 3.0], [1.0, 0.0], 1, [1.0, 2.0, 3.0]) == [1, 0, 0]


def test_equal_base_logits_at_weight_zero_go_to_the_lower_class():
    assert counted([1.0, 1.0], [2.0, 1.0], 0, [0.0, 1.0]) == [1, 1]
    assert counted([1.0, 1.0], [2.0, 1.0], 1, [0.0, 1.0]) == [0, 0]


def test_two_classes_alike_in_everything_go_to_the_lower():
    assert counted([1.0, 1.0], [2.0, 2.0], 0, [0.0, 1.0]) == [1, 1]
    assert counted([1.0, 1.0], [2.0, 2.0], 1, [0.0, 1.0]) == [0, 0]


def test_a_query_between_two_thresholds_is_correct_in_between():
    assert counted([0.0, 2.0, -9.0], [1.0, 0.0, 3.0], 0, [1.0, 3.0, 4.0, 5.0]) == [0, 1, 1, 0]


def make_points(accuracy: list[list[float]], *, rows: int, sharpness: tuple[float, ...] = (1, 2, 4, 8, 16)) -> Points:
    """A table over sharpness alone."""
    weight = [[one, 1.0] for one in sharpness]
    return Points(("sharpness", "cache_weight"), np.array(weight), np.array(accuracy), rows)


def test_what_is_within_a_standard_error_of_the_best_stays_near_the_start():
    points = make_points([[0.5, 0.85, 0.86, 0.9, 0.83]], rows=25)  # the standard error of 0.9 is 0.06
    found = [
        points.near({"sharpness": start, "cache_weight": 1.0})["sharpness"] for start in (0.1, 1.0, 3.9, 16.0, 100.0)
    ]
    assert found == [2, 2, 4, 8, 8]


def test_enough_images_move_any_start_to_the_best():
    points = make_points([[0.5, 0.84, 0.86, 0.9, 0.8]], rows=100_000)
    assert {points.near({"sharpness": start, "cache_weight": 1.0})["sharpness"] for start in (1.0, 2.0, 16.0)} == {8}


def test_a_start_that_is_the_best_stays():
    points = solve(
        make_adapter(TipConfig(), DATA, EPISODES), EPISODES, {"sharpness": SHARPNESS, "cache_weight": WEIGHT}
    )
    assert points.near(points.best) == points.best


def test_a_start_between_grid_values_takes_the_nearer_in_steps():
    points = make_points([[0.9, 0.9, 0.9, 0.9, 0.9]], rows=10)
    assert [points.near({"sharpness": start, "cache_weight": 1.0})["sharpness"] for start in (2.9, 3.1)] == [2, 4]


def test_pooled_tables_count_every_image_once():
    first = make_points([[0.5, 1, 0, 0, 0], [1, 0.5, 0, 0, 0]], rows=2)
    folds = make_points([[1, 0.25, 0, 0, 1], [0.5] * 5, [0.75, 0.25, 0, 0, 1], [0.5] * 5], rows=4)
    pooled = pool(first, folds)
    assert pooled.rows == 2 + 2 * 4
    expected = [[(1 + 4 + 3) / 10, (2 + 1 + 1) / 10, 0, 0, 8 / 10], [(2 + 4) / 10, (1 + 4) / 10, 0.4, 0.4, 0.4]]
    assert pooled.accuracy.tolist() == expected


def test_pooling_two_halves_is_solving_the_whole():
    adapter, grid = make_adapter(TipConfig(), DATA, EPISODES), {"sharpness": SHARPNESS, "cache_weight": WEIGHT}
    whole = solve(adapter, EPISODES, grid)
    halves = [
        replace(EPISODES, validation=EPISODES.validation[:, part], validation_labels=EPISODES.validation_labels[part])
        for part in (slice(0, 5), slice(5, None))
    ]
    pooled = pool(*[solve(adapter, half, grid) for half in halves])
    np.testing.assert_allclose(pooled.accuracy, whole.accuracy, atol=1e-12)
    assert (pooled.rows, pooled.best) == (whole.rows, whole.best)
