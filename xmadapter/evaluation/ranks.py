"""Methods over several data sets: average ranks, and by how much they must differ (Demšar, JMLR 2006)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

__all__ = ["Ranking", "rank_methods"]


class Ranking(NamedTuple):
    """How methods rank over data sets.

    Args:
        ranks: Mean rank of each method, 1 being the best; equal accuracies share their mean rank.
        critical_difference: Mean ranks further apart than this differ at the stated level (Nemenyi test).
        p_value: Of Friedman's test that all methods are alike; NaN where they cannot be told apart at all.
    """

    ranks: Float[np.ndarray, " methods"]
    critical_difference: float
    p_value: float


def rank_methods(accuracy: Float[np.ndarray, "sets methods"], *, level: float = 0.95) -> Ranking:
    """Rank methods on each data set and average.

    Data sets must be independent: accuracies of one data set at several shot counts are not.

    Args:
        accuracy: Of each method on each data set; at least 2 sets and 3 methods, which Friedman's test asks for.
        level: Of the critical difference.

    Raises:
        ValueError: There are too few sets or methods.

    Example:
        >>> ranking = rank_methods(np.array([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4], [0.9, 0.7, 0.8]]))
        >>> ranking.ranks.round(2).tolist(), round(ranking.critical_difference, 2)
        ([1.0, 2.33, 2.67], 1.91)
    """
    sets, methods = accuracy.shape
    if sets < 2 or methods < 3:
        raise ValueError(f"ranks need at least 2 data sets and 3 methods, got {sets} and {methods}")
    ranks = stats.rankdata(-accuracy, axis=1).mean(axis=0)
    # Nemenyi: the studentised range at infinite degrees of freedom, over the root of 2 (Demšar's table 5).
    quantile = stats.studentized_range.ppf(level, methods, np.inf) / np.sqrt(2)
    critical = float(quantile * np.sqrt(methods * (methods + 1) / (6 * sets)))
    return Ranking(ranks, critical, float(stats.friedmanchisquare(*accuracy.T).pvalue))
