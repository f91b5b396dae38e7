"""solve: continuous parameters of vote-based adapters over a whole grid at once, all seeds side by side.

The naive search evaluates the adapter at every point. Here the affinities are computed once, each sharpness once, and all cache
weights in one pass: for fixed votes, a query is classified correctly on an interval of cache weights, so its two ends say
all there is to know.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xmadapter.adapters import SolvableAdapter
from xmadapter.config import SolveRange
from xmadapter.episodes import EpisodeBatch

__all__ = ["Points", "correct_counts", "grid_values", "pool", "solve", "solve_held_out"]

_CHUNK = 1 << 20
"""Votes held at once, in numbers: 4 MiB, so that a search over 50,000 queries stays in cache-sized pieces."""


@dataclass(frozen=True)
class Points:
    """Accuracy on held-out images over a grid.

    Args:
        names: Parameters, the last varying fastest.
        values: Their value at each point.
        accuracy: In [0, 1], per seed and point.
        rows: Images per seed that were counted.
    """

    names: tuple[str, ...]
    values: Float[np.ndarray, "points names"]
    accuracy: Float[np.ndarray, "seeds points"]
    rows: int

    @property
    def best(self) -> dict[str, float]:
        """Settings of the best point by the mean over seeds; the first of several equals, as in the paper's search."""
        return self._settings(int(self.accuracy.mean(axis=0).argmax()))

    def near(self, start: Mapping[str, float]) -> dict[str, float]:
        """Settings nearest to `start` among the points within one standard error of the best, by the mean over seeds.

        The best of a thousand points on a hundred images is the luckiest; what cannot be told from it by that many images is
        no reason to leave `start` (the one-standard-error rule of Breiman et al., 1984). Distance is Euclidean, in grid steps,
        each parameter's range counting as 1.
        """
        accuracy = self.accuracy.mean(axis=0)
        best = accuracy.max()
        error = math.sqrt(best * (1 - best) / (self.rows * len(self.accuracy)))
        distance = np.zeros(len(self.values))
        for name, column in zip(self.names, self.values.T, strict=True):
            steps, place = np.unique(column, return_inverse=True)
            origin = np.interp(start[name], steps, np.arange(len(steps)))
            distance += ((place - origin) / max(1, len(steps) - 1)) ** 2
        return self._settings(int(np.where(accuracy >= best - error, distance, np.inf).argmin()))

    def _settings(self, index: int) -> dict[str, float]:
        return {name: float(value) for name, value in zip(self.names, self.values[index], strict=True)}


def grid_values(grid: SolveRange) -> list[float]:
    """List the values of a range, both ends included, in ascending order."""
    space = np.geomspace if grid.log else np.linspace
    return [float(value) for value in space(grid.low, grid.high, grid.points)]


def pool(first: Points, *others: Points) -> Points:
    """Count images of several tables of one grid together.

    Args:
        first: Says how many seeds there are.
        others: Of as many seeds, or of folds of them, fold by fold: each fold adds its images.
    """
    seeds, points = first.accuracy.shape
    correct, rows = first.rows * first.accuracy, first.rows
    for other in others:
        folds = other.accuracy.reshape(-1, seeds, points)
        correct, rows = correct + other.rows * folds.sum(axis=0), rows + other.rows * len(folds)
    return Points(first.names, first.values, correct / max(1, rows), rows)


def correct_counts(
    base: Float[Tensor, "#seeds batch classes"],
    votes: Float[Tensor, "seeds batch classes"],
    labels: Int[Tensor, " batch"],
    weights: Float[Tensor, " points"],
) -> Int[Tensor, "seeds points"]:
    """Count queries that `base + weight · votes` classifies correctly, for every weight in one pass.

    The true class leads another class by `gap + weight · slope`: above a threshold where the slope is positive, below it where
    it is negative. The largest lower and the smallest upper threshold bound the weights that classify a query correctly.

    Args:
        base: Logits at weight 0.
        votes: What the weight multiplies.
        labels: True classes.
        weights: Not negative, ascending.

    Returns:
        Correct queries, as the loop over weights counts them; a tie goes to the lower class, as in argmax.
    """
    index = labels.expand(votes.shape[:-1])[..., None]
    base = base.expand_as(votes)
    gap, slope = base.gather(-1, index) - base, votes.gather(-1, index) - votes
    threshold = -gap / slope
    # `max` and `min` name the first of equal rivals. Where even that one comes after the true class, a tie at the threshold is won.
    lower, below = threshold.masked_fill(slope <= 0, -torch.inf).max(dim=-1)
    upper, above = threshold.masked_fill(slope >= 0, torch.inf).min(dim=-1)
    (start, start_past), (stop, stop_past) = (
        [torch.searchsorted(weights, bound, right=right) for right in (False, True)] for bound in (lower, upper)
    )
    start, stop = torch.where(below > labels, start, start_past), torch.where(above > labels, stop_past, stop)
    wins_ties = torch.arange(votes.shape[-1], device=votes.device) < index
    lost = (slope == 0) & ((gap < 0) | ((gap == 0) & wins_ties))
    stop = torch.where(lost.any(dim=-1), start, stop.maximum(start))
    changes = torch.zeros(votes.shape[0], len(weights) + 1, dtype=torch.int64, device=votes.device)
    ones = torch.ones_like(start)
    changes.scatter_add_(1, start, ones).scatter_add_(1, stop, -ones)
    return changes.cumsum(dim=1)[:, :-1]


@torch.no_grad()
def solve(adapter: SolvableAdapter, episodes: EpisodeBatch, grid: Mapping[str, SolveRange]) -> Points:
    """Evaluate an adapter on the validation images at every point of a grid.

    Args:
        adapter: Trained or training-free; not changed.
        episodes: Whose validation images decide.
        grid: Range per parameter; a `cache_weight` that is absent stays as configured.

    Returns:
        The table of all points, equal to what a loop over points computes.
    """
    values, weights = _axes(adapter, grid)
    rows = len(episodes.validation_labels)
    counts = _no_counts(len(episodes.seeds), values, weights, episodes.views.device)
    step = max(1, _CHUNK // (len(episodes.seeds) * max(len(episodes.labels), len(adapter.text))))
    for start in range(0, rows, step):
        image, labels = episodes.validation[:, start : start + step], episodes.validation_labels[start : start + step]
        _count(counts, adapter.base_logits(image), adapter.vote_grid(image, values), labels, weights)
    return _points(counts, values, weights, rows)


@torch.no_grad()
def solve_held_out(adapter: SolvableAdapter, episodes: EpisodeBatch, grid: Mapping[str, SolveRange]) -> Points:
    """Evaluate an adapter on its own support, each image left out in closed form.

    Args:
        adapter: Over the support of these episodes, able to leave images out; not changed.
        episodes: What it was built from.
        grid: As of `solve`.

    Raises:
        ValueError: The adapter cannot: its `held_out_images` is None.
    """
    images = adapter.held_out_images
    if images is None:
        raise ValueError(f"{type(adapter).__name__} leaves no image out in closed form")
    values, weights = _axes(adapter, grid)
    counts = _no_counts(len(episodes.seeds), values, weights, episodes.views.device)
    _count(counts, adapter.base_logits(images), adapter.held_out_grid(values), episodes.labels, weights)
    return _points(counts, values, weights, len(episodes.labels))


def _axes(adapter: SolvableAdapter, grid: Mapping[str, SolveRange]) -> tuple[dict[str, list[float]], list[float]]:
    """Split a grid into what `vote_grid` walks, in its order whatever that of the file, and the cache weights."""
    values = {name: grid_values(grid[name]) for name in adapter.config.solvable if name in grid}
    weights = values.pop("cache_weight", [adapter.config.cache_weight])
    return values, weights


def _no_counts(
    seeds: int, values: Mapping[str, list[float]], weights: list[float], device: torch.device
) -> Int[Tensor, "seeds inner weights"]:
    return torch.zeros(seeds, math.prod(map(len, values.values())), len(weights), dtype=torch.int64, device=device)


def _count(
    counts: Int[Tensor, "seeds inner weights"],
    base: Float[Tensor, "#seeds batch classes"],
    grid: Iterable[Float[Tensor, "seeds batch classes"]],
    labels: Int[Tensor, " batch"],
    weights: list[float],
) -> None:
    for point, votes in enumerate(grid):
        counts[:, point] += correct_counts(base, votes, labels, torch.tensor(weights, device=votes.device))


def _points(
    counts: Int[Tensor, "seeds inner weights"], values: Mapping[str, list[float]], weights: list[float], rows: int
) -> Points:
    settings = np.array([(*point, weight) for point in product(*values.values()) for weight in weights])
    accuracy = counts.flatten(1).cpu().numpy() / max(1, rows)  # without images 0 everywhere, and `rows` says so
    return Points((*values, "cache_weight"), settings, accuracy, rows)
