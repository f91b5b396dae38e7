"""Support images held out in turn."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.factories import make_adapter, make_episodes, make_tuning_data
from xmadapter.config import AdapterConfig, FitConfig, LinearProbeConfig, TipFConfig, XMAdapterConfig
from xmadapter.episodes import EpisodeBatch, sample_episode, stack_episodes
from xmadapter.training import fit, fold_episodes

DATA = make_tuning_data(classes=3, per_class=9)
TRAINED = [LinearProbeConfig(), TipFConfig(), XMAdapterConfig(text_width=4)]
shapes = pytest.mark.parametrize(("shots", "folds"), [(2, 2), (4, 2), (5, 2), (7, 3), (8, 4), (3, 3)])


def rows_of(views: torch.Tensor) -> Counter[bytes]:
    """Images as bytes of their test view, counted."""
    return Counter(row.numpy().tobytes() for row in views)


def fold_of(batch: EpisodeBatch, place: int) -> EpisodeBatch:
    """One place of the leading axis as episodes of its own."""
    return EpisodeBatch(
        batch.shots,
        batch.seeds[place : place + 1],
        batch.views[place : place + 1],
        batch.norms[place : place + 1],
        batch.labels,
        batch.validation[place : place + 1],
        batch.validation_labels,
    )


@shapes
def test_an_image_is_a_key_or_a_query_of_a_fold_and_never_both(shots: int, folds: int):
    episodes = make_episodes(DATA, shots=shots, seeds=(1, 2))
    batch = fold_episodes(episodes, folds=folds)
    assert batch.seeds == (1, 2) * folds
    for place in range(2 * folds):
        kept, held = rows_of(batch.views[place, :, 0]), rows_of(batch.validation[place])
        assert kept + held == rows_of(episodes.views[place % 2, :, 0])
        assert not kept & held
        assert held.total() == 3 * (shots // folds)


@shapes
def test_no_image_is_asked_twice(shots: int, folds: int):
    batch = fold_episodes(make_episodes(DATA, shots=shots, seeds=(1,)), folds=folds)
    asked = rows_of(batch.validation.flatten(0, 1))
    assert set(asked.values()) == {1}
    assert asked.total() == 3 * folds * (shots // folds)


@shapes
def test_images_keep_their_class_and_folds_are_balanced(shots: int, folds: int):
    episodes = make_episodes(DATA, shots=shots, seeds=(1,))
    label = {row.numpy().tobytes(): int(one) for row, one in zip(episodes.views[0, :, 0], episodes.labels, strict=True)}
    batch = fold_episodes(episodes, folds=folds)
    assert batch.labels.bincount().tolist() == [batch.shots] * 3
    for place in range(folds):
        assert [label[row.numpy().tobytes()] for row in batch.views[place, :, 0]] == batch.labels.tolist()
        assert [label[row.numpy().tobytes()] for row in batch.validation[place]] == batch.validation_labels.tolist()


@pytest.mark.parametrize("config", TRAINED, ids=lambda config: config.kind)
def test_folds_trained_together_equal_a_loop_over_folds(config: AdapterConfig):
    batch, training = fold_episodes(make_episodes(DATA, shots=5, seeds=(1, 2))), FitConfig(epochs=5, learning_rate=0.01)
    together = make_adapter(config, DATA, batch)
    fit(together, batch, training)
    for place in range(4):
        alone = make_adapter(config, DATA, one := fold_of(batch, place))
        fit(alone, one, training)
        for found, expected in zip(together.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(found[place], expected[0], atol=1e-5, rtol=0)  # products of another shape


def test_a_short_class_is_cut_into_smaller_folds_and_its_only_image_always_trains():
    data = make_tuning_data(classes=3, per_class=9)
    kept = np.flatnonzero(~np.isin(data.train.labels, [1]) | np.isin(data.train.ids, ["train/1/0"]))
    kept = np.array([row for row in kept if data.train.labels[row] != 2 or row % 9 < 4])
    short = replace(data, train=data.train.take(kept))
    episodes = stack_episodes(short, [sample_episode(short, shots=6, seed=seed, take_all=True) for seed in (1, 2)])
    assert episodes.labels.tolist() == [0] * 6 + [1] + [2] * 4
    batch = fold_episodes(episodes)
    assert batch.labels.tolist() == [0] * 3 + [1] + [2] * 2
    assert batch.validation_labels.tolist() == [0] * 3 + [2] * 2
    for place in range(4):
        kept_rows, held = rows_of(batch.views[place, :, 0]), rows_of(batch.validation[place])
        assert not kept_rows & held
        whole = rows_of(episodes.views[place % 2, :, 0])
        assert kept_rows + held == whole
