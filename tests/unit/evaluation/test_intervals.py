"""Intervals against hand computation."""

import math

import numpy as np
import pytest
from scipy import stats

from xmadapter.evaluation import image_interval, paired_interval, seed_interval, wilson_interval

SCORES = [0.71, 0.74, 0.69, 0.77]


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_the_seed_interval_is_students_t(level: float):
    interval = seed_interval(SCORES, level=level)
    mean = sum(SCORES) / 4
    deviation = math.sqrt(sum((score - mean) ** 2 for score in SCORES) / 3)
    half = stats.t.ppf((1 + level) / 2, df=3) * deviation / 2
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((mean, mean - half, mean + half))


def test_one_seed_has_no_spread():
    interval = seed_interval([0.7])
    assert (interval.estimate, interval.low, interval.high) == (0.7, 0.7, 0.7)


def test_equal_seeds_have_no_spread():
    interval = seed_interval([0.75, 0.75, 0.75])
    assert interval.low == interval.estimate == interval.high


def test_a_paired_interval_is_that_of_the_differences():
    theirs = [0.70, 0.70, 0.70, 0.70]
    interval = paired_interval(SCORES, theirs)
    expected = stats.ttest_rel(SCORES, theirs).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.estimate == pytest.approx(np.mean(SCORES) - 0.7)


def test_a_paired_interval_needs_the_same_episodes():
    with pytest.raises(ValueError, match="broadcast"):
        paired_interval(SCORES, SCORES[:3])


@pytest.mark.parametrize(("correct", "low", "high"), [(8, 0.4902, 0.9433), (0, 0.0, 0.2775), (10, 0.7225, 1.0)])
def test_the_wilson_interval_of_ten_images(correct: int, low: float, high: float):
    interval = wilson_interval(correct, 10)  # bounds from Brown, Cai and DasGupta's formula by hand
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)


def test_the_image_interval_of_one_seed_is_nearly_wilsons():
    right = np.zeros((1, 400))
    right[0, :280] = 1
    interval, wilson = image_interval(right), wilson_interval(280, 400)
    assert interval.estimate == pytest.approx(0.7)
    assert (interval.low, interval.high) == pytest.approx((wilson.low, wilson.high), abs=0.01)


def test_seeds_on_the_same_images_add_no_images():
    right = (np.random.default_rng(0).random((1, 300)) < 0.6).astype(float)
    alone, copied = image_interval(right), image_interval(np.repeat(right, 5, axis=0))
    assert (alone.low, alone.high) == (copied.low, copied.high)


def test_images_that_are_all_alike_have_no_spread():
    interval = image_interval(np.ones((2, 50)))
    assert interval.low == interval.estimate == interval.high == 1
