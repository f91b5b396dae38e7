"""Intervals: Wilson for one run, t over seeds, paired t for a difference, bootstrap over images. All by scipy."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from xmadapter.config import Frozen

__all__ = ["Interval", "image_interval", "paired_interval", "seed_interval", "wilson_interval"]


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
    if spread < 1e-12:  # equal up to rounding
        return Interval(estimate=mean, low=mean, high=mean, level=level)
    low, high = stats.t.interval(level, len(values) - 1, loc=mean, scale=spread)
    return Interval(estimate=mean, low=float(low), high=float(high), level=level)


def paired_interval(ours: Sequence[float], theirs: Sequence[float], *, level: float = 0.95) -> Interval:
    """Bound the mean difference of two methods over the same episodes; positive where ours is better."""
    return seed_interval(np.subtract(ours, theirs).tolist(), level=level)


def image_interval(
    scores: Float[np.ndarray, "seeds images"], *, level: float = 0.95, resamples: int = 2000
) -> Interval:
    """Bound the mean over seeds for another draw of test images: percentile bootstrap, each image with all its seeds.

    Seeds share their test images, so their predictions are not independent and must not be pooled as if they were.

    Args:
        scores: 1 where the prediction is right, or a difference of two methods on the same image.
        level: Of the interval.
        resamples: Of the bootstrap, seeded.
    """
    per_image = scores.mean(axis=0)
    mean = float(per_image.mean())
    if np.ptp(per_image) == 0:
        return Interval(estimate=mean, low=mean, high=mean, level=level)
    found = stats.bootstrap(
        (per_image,), np.mean, n_resamples=resamples, confidence_level=level, method="percentile", batch=100, rng=0
    ).confidence_interval
    return Interval(estimate=mean, low=float(found.low), high=float(found.high), level=level)
