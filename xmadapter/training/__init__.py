"""Training by gradient, and solving over grids."""

from xmadapter.training.folds import FOLDS, fold_episodes
from xmadapter.training.loop import Diverged, EpochMetrics, fit
from xmadapter.training.lp_plus_plus import fit_lp_plus_plus, step_sizes
from xmadapter.training.solve import Points, correct_counts, grid_values, pool, solve, solve_held_out

__all__ = [
    "FOLDS",
    "Diverged",
    "EpochMetrics",
    "Points",
    "correct_counts",
    "fit",
    "fit_lp_plus_plus",
    "fold_episodes",
    "grid_values",
    "pool",
    "solve",
    "solve_held_out",
    "step_sizes",
]
