"""Time of a search over sharpness and cache weight: the loop over points of the original code, and `solve`.

The loop does at every point what gaopengcuhk/Tip-Adapter's `search_hp` does: affinities, exponential, one-hot product, zero-shot
logits, sum, accuracy. It is timed at some weights of one sharpness, on some of the queries, where the tables must be identical, and its
fastest point counts for all: times are the best of several, since a busy neighbour slows whatever it meets.

Run: `python -m benchmarks.search_vs_loop`. Prints both times and their ratio (1,500 queries, 1,600 keys of 512 dimensions, 100
classes, 20 by 40 points, two threads). `--large` does so with 50,000 queries, 16,000 keys, 1,000 classes and 20 by 200 points, as of
ImageNet at 16 shots, and takes some minutes.
"""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from xmadapter.adapters import Memory, TipAdapter
from xmadapter.config import SolveRange, TipConfig
from xmadapter.episodes import EpisodeBatch
from xmadapter.training import grid_values, solve

SHOTS, DIM, THREADS, LOGIT_SCALE = 16, 512, 2, 100.0


class Sizes(NamedTuple):
    """One search; the loop runs on the first `loop_queries` at `loop_points` weights of one sharpness, `solve` `repeats` times."""

    classes: int
    queries: int
    weights: int
    loop_queries: int
    loop_points: int
    repeats: int

    @property
    def grid(self) -> dict[str, SolveRange]:
        """20 sharpness by so many cache weights."""
        return {
            "sharpness": SolveRange(low=0.5, high=50, points=20, log=True),
            "cache_weight": SolveRange(low=0.05, high=50, points=self.weights, log=True),
        }


SMALL = Sizes(classes=100, queries=1500, weights=40, loop_queries=1500, loop_points=20, repeats=7)
LARGE = Sizes(classes=1000, queries=50_000, weights=200, loop_queries=1000, loop_points=10, repeats=1)


def make_episodes(sizes: Sizes) -> tuple[EpisodeBatch, torch.Tensor]:
    """Clustered features: hard enough that points differ, and a text for each class."""
    generator = torch.Generator().manual_seed(0)
    centres = F.normalize(torch.randn(sizes.classes, DIM, generator=generator), dim=-1)

    def around(labels: torch.Tensor, noise: float) -> torch.Tensor:
        return F.normalize(
            centres[labels] + noise * torch.randn(len(labels), DIM, generator=generator) / DIM**0.5, dim=-1
        )

    support = torch.arange(sizes.classes).repeat_interleave(SHOTS)
    queries = torch.arange(sizes.queries) % sizes.classes
    views = around(support, 5)[None, :, None]
    episodes = EpisodeBatch(
        SHOTS, (1,), views, torch.ones(views.shape[:-1]), support, around(queries, 5)[None], queries
    )
    return episodes, around(torch.arange(sizes.classes), 2)


def accuracy_at(episodes: EpisodeBatch, text: torch.Tensor, *, sharpness: float, weight: float) -> float:
    """One point of the naive search, everything recomputed."""
    image, keys = episodes.validation[0], episodes.keys[0]
    values = F.one_hot(episodes.labels, len(text)).float()
    affinity = image @ keys.T
    cache_logits = ((-1) * (sharpness - sharpness * affinity)).exp() @ values
    clip_logits = LOGIT_SCALE * image @ text.T
    predicted = (clip_logits + cache_logits * weight).argmax(dim=-1)
    return (predicted == episodes.validation_labels).double().mean().item()


def fastest(actions: list[Callable[[], object]]) -> tuple[float, list[object]]:
    """Run all; the time of the fastest, in seconds, and what they returned."""
    durations, results = [], []
    for action in actions:
        started = time.perf_counter()
        results.append(action())
        durations.append(time.perf_counter() - started)
    return min(durations), results


def main(sizes: Sizes) -> None:
    torch.set_num_threads(THREADS)
    episodes, text = make_episodes(sizes)
    part = replace(
        episodes,
        validation=episodes.validation[:, : sizes.loop_queries],
        validation_labels=episodes.validation_labels[: sizes.loop_queries],
    )
    adapter = TipAdapter(TipConfig(), Memory(text, episodes.keys, episodes.labels, LOGIT_SCALE))
    solve_s, tables = fastest([lambda: solve(adapter, episodes, sizes.grid)] * sizes.repeats)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    sharpness = grid_values(sizes.grid["sharpness"])[10]
    weights = grid_values(sizes.grid["cache_weight"])[:: sizes.weights // sizes.loop_points]
    accuracy_at(part, text, sharpness=sharpness, weight=1.0)
    loop = [lambda weight=weight: accuracy_at(part, text, sharpness=sharpness, weight=weight) for weight in weights]
    point_s, slice_accuracy = fastest(loop)
    points = solve(adapter, part, sizes.grid)
    loop_s = point_s * len(points.values) * sizes.queries / sizes.loop_queries

    at = [int(np.flatnonzero((points.values == (sharpness, weight)).all(axis=1))[0]) for weight in weights]
    identical = points.accuracy[0, at].tolist() == slice_accuracy
    spread = f"{points.accuracy.min():.3f} to {points.accuracy.max():.3f}"
    print(f"queries x keys:     {sizes.queries:,} x {len(episodes.labels):,} of {DIM}, {sizes.classes:,} classes")
    print(f"points:             {len(points.values):,}, accuracy {spread}")
    print(
        f"loop over points:   {loop_s:10.2f} s (fastest of {len(weights)} points on {sizes.loop_queries:,} queries, extrapolated)"
    )
    print(
        f"solve:              {solve_s:10.3f} s (best of {len(tables)}), peak memory of the process {peak_mb:,.0f} MB"
    )
    print(f"ratio:              {loop_s / solve_s:10.1f}")
    print(f"tables identical:   {identical}")
    if not identical:
        raise SystemExit(1)


if __name__ == "__main__":
    main(LARGE if "--large" in sys.argv[1:] else SMALL)
