"""fit: one gradient loop for every trained head, all seeds side by side."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from xmadapter.adapters import FeatureAdapter
from xmadapter.config import FitConfig
from xmadapter.episodes import EpisodeBatch
from xmadapter.seeding import derive_seed

__all__ = ["Diverged", "EpochMetrics", "fit"]


class Diverged(ArithmeticError):
    """Training reached a loss that is not finite."""


@dataclass(frozen=True)
class EpochMetrics:
    """What an epoch reports: its number from 1, and the loss of its last step, a mean over seeds."""

    epoch: int
    loss: float


def _ignore(_: EpochMetrics) -> None:
    pass


def fit(
    adapter: FeatureAdapter,
    episodes: EpisodeBatch,
    config: FitConfig,
    *,
    on_epoch: Callable[[EpochMetrics], None] = _ignore,
) -> None:
    """Train an adapter in place on random views of the support images, to the last epoch.

    AdamW with a cosine schedule per step (Tip-Adapter-F). The losses of the seeds are summed, and no operation mixes seeds, so
    each is trained as if it were alone. The last epoch is kept: choosing one on a few validation images is choosing noise.

    Args:
        adapter: Whose parameters carry a leading seeds axis.
        episodes: Support images, in views.
        config: Length and step size.
        on_epoch: Called after each epoch.

    Raises:
        Diverged: The loss is not finite; the adapter is of no use.
    """
    support = episodes.views
    generators = [torch.Generator().manual_seed(derive_seed("fit", seed)) for seed in episodes.seeds]
    steps = -(-support.shape[1] // config.batch_size)
    # eps as in Tip-Adapter's recipe: features are small, and the default of 1e-8 lets tiny gradients take full steps.
    optimiser = torch.optim.AdamW(
        adapter.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, eps=1e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.epochs * steps)
    loss = support.new_zeros(())
    seed_axis = torch.arange(len(generators), device=support.device)[:, None]
    for epoch in range(1, config.epochs + 1):
        # Drawn on the CPU wherever training runs, so that a seed draws the same.
        order = _draw(generators, support.shape[1], None).to(support.device)
        view = _draw(generators, support.shape[1], support.shape[2]).to(support.device)
        for rows, views in zip(order.split(config.batch_size, 1), view.split(config.batch_size, 1), strict=True):
            loss = adapter.loss(support[seed_axis, rows, views], episodes.labels[rows], rows)
            if not torch.isfinite(loss).all():
                raise Diverged(f"loss {loss.tolist()} at epoch {epoch}, learning rate {config.learning_rate:g}")
            optimiser.zero_grad()
            loss.sum().backward()
            optimiser.step()
            schedule.step()
        on_epoch(EpochMetrics(epoch, float(loss.detach().mean())))


def _draw(generators: list[torch.Generator], count: int, bound: int | None) -> Int[Tensor, "seeds support"]:
    """Draw per seed: a permutation of `count` rows, or `count` numbers below `bound`."""
    if bound is None:
        return torch.stack([torch.randperm(count, generator=one) for one in generators])
    return torch.stack([torch.randint(bound, (count,), generator=one) for one in generators])
