"""FeatureAdapter: the contract of every head over frozen features."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xmadapter.config import SolvableConfig

__all__ = ["FeatureAdapter", "Memory", "SolvableAdapter", "zero_shot_logits"]


Config = TypeVar("Config", bound=SolvableConfig)


@dataclass(frozen=True)
class Memory:
    """What an adapter is built from.

    Args:
        text: Class text features, L2-normalised.
        keys: Support image features, L2-normalised.
        labels: Class of each key, the same for all seeds.
        logit_scale: Multiplier of similarities.
        views: Support images in all their views, L2-normalised; None where an adapter is restored, as its state holds what
            was computed from them.
        prompts: Text features of every class under every prompt, L2-normalised; None as for `views`.
        seeds: One per episode, in the order of the leading axis; random weights are drawn from them.
    """

    text: Float[Tensor, "classes dim"]
    keys: Float[Tensor, "seeds support dim"]
    labels: Int[Tensor, " support"]
    logit_scale: float
    views: Float[Tensor, "seeds support views dim"] | None = None
    prompts: Float[Tensor, "classes prompts dim"] | None = None
    seeds: tuple[int, ...] = ()


_SHARED = ("text", "labels", "logit_scale")
"""Buffers that all seeds share; every other tensor of an adapter carries a leading seeds axis."""


class FeatureAdapter(nn.Module, ABC):
    """Map image features to logits, for several seeds side by side.

    Every parameter carries a leading `seeds` axis and no operation mixes seeds, so the gradient of a sum over seeds trains each
    one as if it were alone.

    Args:
        memory: Text classifier and support set; kept as buffers, so the state is complete.
    """

    text: Tensor
    keys: Tensor
    labels: Tensor
    logit_scale: Tensor

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.register_buffer("text", memory.text)
        self.register_buffer("logit_scale", torch.tensor(memory.logit_scale, dtype=torch.float32))

    @abstractmethod
    def forward(self, image: Float[Tensor, "#seeds batch dim"]) -> Float[Tensor, "seeds batch classes"]:
        """Classify L2-normalised image features; logits, not probabilities."""

    def loss(
        self,
        image: Float[Tensor, "seeds batch dim"],
        labels: Int[Tensor, "seeds batch"],
        rows: Int[Tensor, "seeds batch"],
    ) -> Float[Tensor, " seeds"]:
        """Score a training batch: mean cross-entropy of each seed.

        Args:
            image: Views of support images.
            labels: Their classes.
            rows: Which support rows they are views of.
        """
        del rows
        return F.cross_entropy(self(image).movedim(-1, 1), labels, reduction="none").mean(dim=-1)

    @property
    def trained_parameters(self) -> int:
        """Trainable numbers of one seed."""
        return sum(parameter[0].numel() for parameter in self.parameters())

    @property
    def stored_bytes(self) -> int:
        """Size of everything one seed needs to predict."""
        return sum(
            (tensor if name.rpartition(".")[2] in _SHARED else tensor[0]).numel() * tensor.element_size()
            for name, tensor in self.state_dict().items()
        )


class SolvableAdapter(FeatureAdapter, Generic[Config]):
    """An adapter of the form base + cache_weight · votes, whose continuous parameters need no training."""

    config: Config

    def forward(self, image: Float[Tensor, "#seeds batch dim"]) -> Float[Tensor, "seeds batch classes"]:
        """Classify: base + cache_weight · votes, at the config's parameters."""
        return self.base_logits(image) + self.config.cache_weight * next(iter(self.vote_grid(image, {})))

    def settle(self, parameters: Mapping[str, float]) -> None:
        """Replace parameters of the config by those a search found."""
        self.config = type(self.config).model_validate({**self.config.model_dump(), **parameters})

    def base_logits(self, image: Float[Tensor, "#seeds batch dim"]) -> Float[Tensor, "#seeds batch classes"]:
        """Classify without votes: what `cache_weight` does not multiply."""
        return zero_shot_logits(image, self.text, logit_scale=self.logit_scale)

    @property
    def held_out_images(self) -> Float[Tensor, "seeds support dim"] | None:
        """Support images that `held_out_grid` answers for; None where leaving one out needs another fit."""
        return None

    def held_out_grid(self, grid: Mapping[str, Sequence[float]]) -> Iterator[Float[Tensor, "seeds support classes"]]:
        """Yield, as `vote_grid`, the votes for each support image of the adapter that was fitted without it."""
        raise NotImplementedError(f"{type(self).__name__} leaves no image out in closed form")

    @abstractmethod
    def vote_grid(
        self, image: Float[Tensor, "#seeds batch dim"], grid: Mapping[str, Sequence[float]]
    ) -> Iterator[Float[Tensor, "seeds batch classes"]]:
        """Yield the votes at every point of a grid, the last name varying fastest.

        What points have in common is computed once: that is where the time of a search goes.

        Args:
            image: Queries, L2-normalised.
            grid: Values per parameter; a name that is absent stays as configured.
        """


def zero_shot_logits(
    image: Float[Tensor, "#seeds batch dim"], text: Float[Tensor, "classes dim"], *, logit_scale: Tensor | float
) -> Float[Tensor, "#seeds batch classes"]:
    """Classify by similarity to the class texts (CLIP): logit_scale · cosine."""
    return logit_scale * (image @ text.mT)
