"""Ranks over data sets against published tables and hand computation."""

import math

import numpy as np
import pytest

from xmadapter.evaluation import rank_methods

# Demšar (2006), table 5a: critical values of the two-tailed Nemenyi test at 0.05, for 3 to 10 methods.
PUBLISHED = {3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}


@pytest.mark.parametrize("methods", PUBLISHED)
def test_the_critical_difference_is_the_published_one(methods: int):
    accuracy = np.random.default_rng(0).random((14, methods))
    expected = PUBLISHED[methods] * math.sqrt(methods * (methods + 1) / (6 * 14))
    assert rank_methods(accuracy).critical_difference == pytest.approx(expected, abs=2e-3)


def test_the_best_has_rank_one_and_equals_share():
    ranking = rank_methods(np.array([[0.9, 0.5, 0.5], [0.8, 0.7, 0.6]]))
    assert ranking.ranks == pytest.approx([1.0, (2.5 + 2) / 2, (2.5 + 3) / 2])


def test_an_order_that_repeats_is_no_accident():
    agreed = np.tile([0.9, 0.8, 0.7, 0.6], (10, 1)) + np.random.default_rng(0).normal(0, 0.001, (10, 4))
    noise = np.random.default_rng(0).random((10, 4))
    assert rank_methods(agreed).p_value < 1e-5 < 0.05 < rank_methods(noise).p_value


@pytest.mark.parametrize("shape", [(1, 3), (5, 2)])
def test_too_few_are_refused(shape: tuple[int, int]):
    with pytest.raises(ValueError, match="at least 2 data sets and 3 methods"):
        rank_methods(np.zeros(shape))
