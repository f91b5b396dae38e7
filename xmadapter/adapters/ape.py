"""APE: Tip-Adapter on chosen channels, with support images weighted by their surprise, and -T, trained (Zhu et al., ICCV 2023)."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xmadapter.adapters.base import Memory, SolvableAdapter
from xmadapter.adapters.tip import cache_votes, sharpened
from xmadapter.config import APEConfig, APETConfig

__all__ = ["APE", "TrainedAPE", "channel_scores", "surprise"]


def channel_scores(
    keys: Float[Tensor, "seeds support dim"],
    labels: Int[Tensor, " support"],
    text: Float[Tensor, "classes dim"],
    *,
    variance_share: float,
) -> Float[Tensor, "seeds dim"]:
    """Score channels by how well they tell classes apart: low similarity between classes, high variance of the texts.

    Args:
        keys: Support image features, any number for each class.
        labels: Their classes.
        text: Class text features; each counts as one more row of its class.
        variance_share: Weight of the variance in [0, 1]; the rest weighs the similarity.
    """
    classes = len(text)
    sums = F.one_hot(labels, classes).to(keys).mT @ keys + text
    rows = torch.bincount(labels, minlength=classes) + 1
    # Products of all pairs less those within a class: no loop over pairs.
    between = sums.sum(dim=1).square() - sums.square().sum(dim=1)
    similarity = between / (rows.sum().square() - rows.square().sum()).clamp_min(1)
    variance = text.var(dim=0, correction=min(1, classes - 1))
    return variance_share * variance - (1 - variance_share) * similarity


def surprise(
    keys: Float[Tensor, "seeds support dim"], labels: Int[Tensor, " support"], text: Float[Tensor, "seeds classes dim"]
) -> Float[Tensor, "seeds support"]:
    """Measure in bits how little the texts say of a key's class: the divergence of its label from softmax(cosines)."""
    log_share = F.log_softmax(keys @ text.mT, dim=-1)
    return -log_share.gather(-1, labels.expand(len(keys), -1)[..., None]).squeeze(-1) / math.log(2)


class APE(SolvableAdapter[APEConfig]):
    """Zero-shot logits plus votes of the support on chosen channels.

    Args:
        config: Weight, sharpness, and which channels.
        memory: Keys, their classes, and the class texts.
    """

    channels: Tensor
    surprise: Tensor

    def __init__(self, config: APEConfig, memory: Memory) -> None:
        super().__init__(memory)
        self.config = config
        keys, channels, bits = _on_channels(config, memory)
        self.register_buffer("labels", memory.labels)
        self.register_buffer("keys", keys)
        self.register_buffer("channels", channels)
        self.register_buffer("surprise", bits)

    def vote_grid(
        self, image: Float[Tensor, "#seeds batch dim"], grid: Mapping[str, Sequence[float]]
    ) -> Iterator[Float[Tensor, "seeds batch classes"]]:
        """Yield the votes over sharpness and surprise_weight; the cosines are computed once."""
        cosine = _products(image, self.keys, self.channels)
        for sharpness in grid.get("sharpness", (self.config.sharpness,)):
            affinity = sharpened(cosine, sharpness)
            for weight in grid.get("surprise_weight", (self.config.surprise_weight,)):
                weighted = affinity * (weight * self.surprise).exp()[:, None]
                yield cache_votes(weighted, self.labels, classes=len(self.text))


class TrainedAPE(SolvableAdapter[APETConfig]):
    """APE-T: a residual per class on the chosen channels, added to its text and to all its keys, and a weight per key.

    Sums are not normalised again, as in the equation; at its start it is APE.

    Args:
        config: Weight, sharpness, which channels, and where the weights of the keys start.
        memory: Keys, their classes, and the class texts.
    """

    keys: Tensor
    channels: Tensor

    def __init__(self, config: APETConfig, memory: Memory) -> None:
        super().__init__(memory)
        self.config = config
        keys, channels, bits = _on_channels(config, memory)
        self.register_buffer("labels", memory.labels)
        self.register_buffer("keys", keys)
        self.register_buffer("channels", channels)
        self.residual = nn.Parameter(keys.new_zeros(len(keys), len(memory.text), _channel_count(config, memory)))
        self.entry_weight = nn.Parameter((config.surprise_weight * bits).exp())

    def base_logits(self, image: Float[Tensor, "#seeds batch dim"]) -> Float[Tensor, "seeds batch classes"]:
        """Classify by similarity to the moved class texts."""
        return self.logit_scale * (image @ (self.text + self._moves).mT)

    def vote_grid(
        self, image: Float[Tensor, "#seeds batch dim"], grid: Mapping[str, Sequence[float]]
    ) -> Iterator[Float[Tensor, "seeds batch classes"]]:
        """Yield the votes of the moved keys at every sharpness; the products are computed once."""
        # All keys of a class move alike, so what a move adds to the exponent leaves the sum over them as a factor:
        # no key is written anew, and no gradient is kept per key and channel.
        cosine = _products(image, self.keys, self.channels)
        moved = _products(image, self._moves, self.channels)
        for sharpness in grid.get("sharpness", (self.config.sharpness,)):
            weighted = sharpened(cosine, sharpness) * self.entry_weight[:, None]
            yield (sharpness * moved).exp() * cache_votes(weighted, self.labels, classes=len(self.text))

    @property
    def _moves(self) -> Float[Tensor, "seeds classes dim"]:
        """The residuals in their channels, zero in all others."""
        chosen = self.channels[:, None].bool().expand(-1, len(self.text), -1)
        return torch.zeros_like(self.text).expand(chosen.shape).masked_scatter(chosen, self.residual)


def _channel_count(config: APEConfig | APETConfig, memory: Memory) -> int:
    return max(1, round(config.channel_share * memory.text.shape[-1]))


def _on_channels(
    config: APEConfig | APETConfig, memory: Memory
) -> tuple[Float[Tensor, "seeds support dim"], Float[Tensor, "seeds dim"], Float[Tensor, "seeds support"]]:
    """Choose channels: the keys on them, normalised again, then 1 where a channel is chosen, then the surprise of each key."""
    keys, channels = memory.keys, torch.ones_like(memory.keys[:, 0])
    if memory.views is None:  # restored: the state holds all three
        return keys, channels, torch.zeros_like(keys[..., 0])
    scores = channel_scores(keys, memory.labels, memory.text, variance_share=config.variance_share)
    best = scores.topk(_channel_count(config, memory), dim=-1).indices
    channels = torch.zeros_like(channels).scatter(-1, best, 1.0)
    keys = F.normalize(keys * channels[:, None], dim=-1)
    return keys, channels, surprise(keys, memory.labels, F.normalize(memory.text * channels[:, None], dim=-1))


def _products(
    image: Float[Tensor, "#seeds batch dim"], rows: Float[Tensor, "seeds n dim"], channels: Float[Tensor, "seeds dim"]
) -> Float[Tensor, "seeds batch n"]:
    """Multiply queries, normalised on the channels, with rows that are zero outside them."""
    length = (image.square() @ channels[..., None]).sqrt().clamp_min(1e-12)
    return image @ rows.mT / length
