"""Intervals: Wilson for one run, t over seeds, paired t for a difference. All by scipy."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from xmadapter.config import Frozen

__all__ = ["Interval", "paired_interval", "seed_interval", "wilson_interval"]


class Interval(Frozen):
    """An estimate with the bounds that hold it at the stated level."""

    estimate: float
    low: float
    high: float
    level: float = 0.95


def wilson_interval(correct: int, total: int, *, level: float = 0.95) -> Interval:
    """Bound an accuracy from one run over `total` images (Wilson, 1927).

    Example:
        >>> interval = wilson_interval(8, 10)
        >>> round(interval.low, 2), round(interval.high, 2)
        (0.49, 0.94)
    """
    bounds = stats.binomtest(correct, total).proportion_ci(level, method="wilson")
    return Interval(estimate=correct / total, low=float(bounds.low), high=float(bounds.high), level=level)


def seed_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Bound the mean over seeds by Student's t; with one seed there is no spread and the interval is the value itself."""
    mean, spread = float(np.mean(values)), float(stats.sem(values)) if len(values) > 1 else 0.0
    if spread == 0:
        return Interval(estimate=mean, low=mean, high=mean, level=level)
    low, high = stats.t.interval(level, len(values) - 1, loc=mean, scale=spread)
    return Interval(estimate=mean, low=float(low), high=float(high), level=level)


def paired_interval(ours: Sequence[float], theirs: Sequence[float], *, level: float = 0.95) -> Interval:
    """Bound the mean difference of two methods over the same episodes; positive where ours is better."""
    return seed_interval(np.subtract(ours, theirs).tolist(), level=level)
