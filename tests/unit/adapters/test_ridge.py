"""Kernel ridge regression: leaving one image out in closed form equals fitting again without it."""

import pytest
import torch
import torch.nn.functional as F

from tests.factories import make_episodes, make_tuning_data
from xmadapter.adapters import condensed, fit_ridge, sharpened, zero_shot_residual

DATA = make_tuning_data(classes=3, per_class=8, views=3)
EPISODES = make_episodes(DATA, shots=3)
TEXT = torch.tensor(DATA.text.class_features)
KEYS, QUERIES = EPISODES.keys, EPISODES.views[:, :, 0]
RESIDUAL = zero_shot_residual(KEYS, EPISODES.labels, TEXT)


@pytest.mark.parametrize("sharpness", [1.0, 8.0])
@pytest.mark.parametrize("regularisation", [0.03, 1.0])
@pytest.mark.parametrize("queries", [KEYS, QUERIES], ids=["keys", "test-view"])
def test_the_answer_for_an_image_is_that_of_a_fit_without_it(sharpness, regularisation, queries):
    together = fit_ridge(KEYS, RESIDUAL, sharpness=sharpness)
    found = together.held_out(sharpened(queries @ KEYS.mT, sharpness), regularisation)
    assert found.shape == (2, 9, 3)
    for image in range(9):
        rest = torch.arange(9) != image
        alone = fit_ridge(KEYS[:, rest], RESIDUAL[:, rest], sharpness=sharpness).coefficients(regularisation)
        expected = sharpened(queries[:, image : image + 1] @ KEYS[:, rest].mT, sharpness) @ alone
        torch.testing.assert_close(found[:, image], expected[:, 0], atol=1e-5, rtol=0)


def test_an_image_that_is_left_out_does_not_know_its_label():
    ridge = fit_ridge(KEYS, RESIDUAL, sharpness=2.0)
    other = RESIDUAL.clone()
    other[:, 4] += 10
    changed = fit_ridge(KEYS, other, sharpness=2.0)
    affinity = sharpened(QUERIES @ KEYS.mT, 2.0)
    first, second = ridge.held_out(affinity, 0.1), changed.held_out(affinity, 0.1)
    torch.testing.assert_close(first[:, 4], second[:, 4], atol=1e-4, rtol=0)
    assert (first[:, 3] - second[:, 3]).abs().min() > 1e-3


def test_few_rows_are_left_as_they_are():
    keys, labels = condensed(KEYS, EPISODES.labels, most=9)
    assert keys is KEYS
    assert labels is EPISODES.labels


@pytest.mark.parametrize(("most", "size"), [(12, 2), (6, 3), (5, 6), (1, 6)])
def test_too_many_rows_become_means_of_equal_groups_of_a_class(most: int, size: int):
    episodes = make_episodes(make_tuning_data(classes=3, per_class=8), shots=6)
    keys, labels = condensed(episodes.keys, episodes.labels, most=most)
    rows = 18 // size
    assert labels.tolist() == [label for label in range(3) for _ in range(rows // 3)]
    for row in range(rows):
        group = episodes.keys[:, row * size : (row + 1) * size]
        torch.testing.assert_close(keys[:, row], F.normalize(group.mean(dim=1), dim=-1))


def test_groups_of_short_classes_are_as_equal_as_they_can_be():
    labels = torch.tensor([0] * 5 + [1] + [2] * 4)
    keys = F.normalize(torch.randn(2, 10, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    found, classes = condensed(keys, labels, most=6)
    assert classes.tolist() == [0, 0, 0, 1, 2, 2]
    groups = [[0, 1], [2, 3], [4], [5], [6, 7], [8, 9]]
    expected = torch.stack([F.normalize(keys[:, group].mean(dim=1), dim=-1) for group in groups], dim=1)
    torch.testing.assert_close(found, expected)
