"""What holds of every interval."""

from hypothesis import given
from hypothesis import strategies as st

from tests.factories import law
from xmadapter.evaluation import paired_interval, seed_interval, wilson_interval

_SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=10)
_ROUNDING = 1e-12
"""Bounds and estimate are computed apart, in float64."""


@law
@given(st.integers(1, 10_000), st.data())
def test_the_wilson_interval_contains_the_estimate_and_stays_in_0_1(total: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, total))
    interval = wilson_interval(correct, total)
    assert -_ROUNDING <= interval.low <= interval.estimate + _ROUNDING
    assert interval.estimate - _ROUNDING <= interval.high <= 1 + _ROUNDING


@law
@given(_SCORES)
def test_the_seed_interval_contains_the_mean(scores: list[float]) -> None:
    interval = seed_interval(scores)
    assert interval.low <= interval.estimate <= interval.high


@law
@given(_SCORES.filter(lambda scores: len(scores) > 1))
def test_swapping_the_methods_mirrors_the_paired_interval(scores: list[float]) -> None:
    others = [score / 2 for score in scores]
    ours, theirs = paired_interval(scores, others), paired_interval(others, scores)
    assert (ours.low, ours.high) == (-theirs.high, -theirs.low) or abs(ours.low + theirs.high) < _ROUNDING
