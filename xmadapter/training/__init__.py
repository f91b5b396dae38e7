"""Training by gradient, and solving over grids."""

from xmadapter.training.loop import Diverged, EpochMetrics, fit
from xmadapter.training.solve import Points, correct_counts, grid_values, solve

__all__ = ["Diverged", "EpochMetrics", "Points", "correct_counts", "fit", "grid_values", "solve"]
