"""Who answers for images that no fit has seen: an adapter for others' images, or for its own support, image by image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xmadapter.adapters import FeatureAdapter, SolvableAdapter
from xmadapter.config import SolveRange
from xmadapter.episodes import EpisodeBatch
from xmadapter.training.solve import Points, solve, solve_held_out

__all__ = ["Answers", "LeftOut", "Validated"]


class Answers(Protocol):
    """What trials ask."""

    @property
    def adapter(self) -> FeatureAdapter:
        """Who answers."""
        ...

    @property
    def labels(self) -> Int[Tensor, " images"]:
        """What would be right, the same for all seeds."""
        ...

    def logits(self) -> Float[Tensor, "seeds images classes"]:
        """Answer, as the adapter is settled."""
        ...

    def points(self, grid: Mapping[str, SolveRange]) -> Points:
        """Answer at every point of a grid; for solvable adapters."""
        ...


@dataclass(frozen=True)
class Validated:
    """An adapter asked about the validation images of its episodes."""

    adapter: FeatureAdapter
    episodes: EpisodeBatch

    @property
    def labels(self) -> Int[Tensor, " images"]:
        """Classes of the validation images."""
        return self.episodes.validation_labels

    @torch.no_grad()
    def logits(self) -> Float[Tensor, "seeds images classes"]:
        """Classify the validation images."""
        return self.adapter(self.episodes.validation)

    def points(self, grid: Mapping[str, SolveRange]) -> Points:
        """Classify them at every point."""
        assert isinstance(self.adapter, SolvableAdapter)
        return solve(self.adapter, self.episodes, grid)


@dataclass(frozen=True)
class LeftOut:
    """An adapter asked about each of its support images, as if it had been fitted without that one."""

    adapter: SolvableAdapter
    episodes: EpisodeBatch

    @property
    def labels(self) -> Int[Tensor, " images"]:
        """Classes of the support images."""
        return self.episodes.labels

    @torch.no_grad()
    def logits(self) -> Float[Tensor, "seeds images classes"]:
        """Classify each support image without it."""
        return self.adapter.held_out_logits()

    def points(self, grid: Mapping[str, SolveRange]) -> Points:
        """Classify each without it, at every point."""
        return solve_held_out(self.adapter, self.episodes, grid)
