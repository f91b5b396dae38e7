"""Time of a search over sharpness and cache weight: the loop over points of the original code, and `solve`.

The loop does at every point what gaopengcuhk/Tip-Adapter's `search_hp` does: affinities, exponential, one-hot product, zero-shot
logits, sum, accuracy. It is timed at some weights of one sharpness, where the tables must be identical, and its fastest point
counts for all: times are the best of several, since a busy neighbour slows whatever it meets.

Run: `python -m benchmarks.search_vs_loop`. Prints both times and their ratio (1,500 queries, 1,600 keys of 512 dimensions, 100
classes, 20 by 40 points, two threads).
"""

import time

import numpy as np
import torch
import torch.nn.functional as F

from xmadapter.adapters import Memory, TipAdapter
from xmadapter.config import SolveRange, TipConfig
from xmadapter.episodes import EpisodeBatch
from xmadapter.training import grid_values, solve

CLASSES, SHOTS, QUERIES, DIM, THREADS, REPEATS = 100, 16, 1500, 512, 2, 7
LOGIT_SCALE = 100.0
GRID = {
    "sharpness": SolveRange(low=0.5, high=50, points=20, log=True),
    "cache_weight": SolveRange(low=0.05, high=50, points=40, log=True),
}
SLICE = 20
"""Weights of one sharpness at which the loop is run."""


def make_episodes() -> tuple[EpisodeBatch, torch.Tensor]:
    """Clustered features: hard enough that points differ, and a text for each class."""
    generator = torch.Generator().manual_seed(0)
    centres = F.normalize(torch.randn(CLASSES, DIM, generator=generator), dim=-1)

    def around(labels: torch.Tensor, noise: float) -> torch.Tensor:
        return F.normalize(
            centres[labels] + noise * torch.randn(len(labels), DIM, generator=generator) / DIM**0.5, dim=-1
        )

    support = torch.arange(CLASSES).repeat_interleave(SHOTS)
    queries = torch.arange(QUERIES) % CLASSES
    views = around(support, 5)[None, :, None]
    episodes = EpisodeBatch(
        SHOTS, (1,), views, torch.ones(views.shape[:-1]), support, around(queries, 5)[None], queries
    )
    return episodes, around(torch.arange(CLASSES), 2)


def accuracy_at(episodes: EpisodeBatch, text: torch.Tensor, *, sharpness: float, weight: float) -> float:
    """One point of the naive search, everything recomputed."""
    image, keys = episodes.validation[0], episodes.keys[0]
    values = F.one_hot(episodes.labels, CLASSES).float()
    affinity = image @ keys.T
    cache_logits = ((-1) * (sharpness - sharpness * affinity)).exp() @ values
    clip_logits = LOGIT_SCALE * image @ text.T
    predicted = (clip_logits + cache_logits * weight).argmax(dim=-1)
    return (predicted == episodes.validation_labels).double().mean().item()


def main() -> None:
    torch.set_num_threads(THREADS)
    episodes, text = make_episodes()
    adapter = TipAdapter(TipConfig(), Memory(text, episodes.keys, episodes.labels, LOGIT_SCALE))
    sharpness, weights = (
        grid_values(GRID["sharpness"])[10],
        grid_values(GRID["cache_weight"])[:: GRID["cache_weight"].points // SLICE],
    )

    accuracy_at(episodes, text, sharpness=sharpness, weight=1.0)
    slice_accuracy, durations = [], []
    for weight in weights:
        started = time.perf_counter()
        slice_accuracy.append(accuracy_at(episodes, text, sharpness=sharpness, weight=weight))
        durations.append(time.perf_counter() - started)
    loop_s = min(durations) * GRID["sharpness"].points * GRID["cache_weight"].points

    durations = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        points = solve(adapter, episodes, GRID)
        durations.append(time.perf_counter() - started)
    solve_s = min(durations)

    at = [int(np.flatnonzero((points.values == (sharpness, weight)).all(axis=1))[0]) for weight in weights]
    identical = points.accuracy[0, at].tolist() == slice_accuracy
    print(
        f"points:             {len(points.values)}, accuracy {points.accuracy.min():.3f} to {points.accuracy.max():.3f}"
    )
    print(f"loop over points:   {loop_s:8.2f} s (fastest of {len(weights)} points, times {len(points.values)})")
    print(f"solve:              {solve_s:8.3f} s (best of {REPEATS})")
    print(f"ratio:              {loop_s / solve_s:8.1f}")
    print(f"tables identical:   {identical}")
    if not identical:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
