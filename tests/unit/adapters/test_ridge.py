"""Kernel ridge regression: leaving one image out in closed form equals fitting again without it."""

import pytest
import torch

from tests.factories import make_episodes, make_tuning_data
from xmadapter.adapters import fit_ridge, sharpened, zero_shot_residual

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
