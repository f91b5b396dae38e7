"""The fused adapter (ours): zero-shot plus a kernel ridge in two feature spaces, plus what other methods change about zero-shot.

    logits = s f (T + R)ᵀ + w (1 - H(v))^g v + Σ w_m (logits_m - s f Tᵀ),  v = s k(f, K) (k(K, K) + λI)⁻¹ (L - K Tᵀ)

H(v) is the entropy of softmax(v) over the largest it can be: a query like no support image, for which no class gets more votes than
another, is left to zero-shot. R is trained from zero, beside a ridge that leaves the image out. Every term has a value at which it
vanishes, and with all others neutral each method is a special case. The ridge is ProKeR's (Bendou et al., CVPR 2025) on other
features: half of each row is the feature as it is, half is the feature whitened by how augmentation moves it.
What differs between views of one image tells nothing of its class, so directions in which views spread count less. It is the
within-class whitening of speaker recognition (Hatch and Stolcke, 2006) with views of one image in place of a class: it needs no
label, so an image can be left out in closed form.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xmadapter.adapters.base import FeatureAdapter, Memory, SolvableAdapter
from xmadapter.adapters.ridge import Ridge, condensed, fit_ridge, zero_shot_residual
from xmadapter.adapters.tip import sharpened
from xmadapter.config import FusedConfig

__all__ = ["FusedAdapter", "gated", "view_whitening"]


def gated(votes: Float[Tensor, "seeds batch classes"], *, gate: float) -> Float[Tensor, "seeds batch classes"]:
    """Shrink the votes of a query by how undecided they are: (1 - H / log classes)^gate times them.

    Args:
        votes: In units of logits.
        gate: Exponent of the certainty; 0 changes nothing.
    """
    if not gate:
        return votes
    probabilities = votes.softmax(dim=-1)
    entropy = torch.special.entr(probabilities).sum(dim=-1, keepdim=True)
    return votes * (1 - entropy / math.log(votes.shape[-1])).clamp_min(0) ** gate


def view_whitening(
    views: Float[Tensor, "seeds support views dim"], *, shrinkage: float
) -> Float[Tensor, "seeds dim dim"]:
    """Find the map that makes the spread of views around their image the same in all directions.

    The inverse root of (1 - h) Σ + h tr(Σ) / dim · I, Σ the covariance of views around the mean view of their image, times the root
    of tr(Σ) / dim, so that a spread that is the same everywhere already changes nothing.

    Args:
        views: Support images.
        shrinkage: h in (0, 1]; 1 changes nothing.

    Returns:
        A symmetric matrix per seed; the identity where images have a single view.
    """
    spread = (views - views.mean(dim=2, keepdim=True)).flatten(1, 2).double()
    variances, axes = torch.linalg.eigh(spread.mT @ spread / spread.shape[1])
    mean = variances.mean(dim=-1, keepdim=True)
    shrunk = (1 - shrinkage) * variances.clamp_min(0) + shrinkage * mean
    scale = torch.where(mean > 0, (mean / shrunk.clamp_min(torch.finfo(shrunk.dtype).tiny)).sqrt(), 1.0)
    return ((axes * scale[:, None]) @ axes.mT).float()


class FusedAdapter(SolvableAdapter[FusedConfig]):
    """Zero-shot, a ridge, and parts.

    Args:
        config: Weights of the terms, kernel and ridge.
        memory: Keys, their classes, and their views.
        parts: One adapter for each of the config's parts, over the same memory.
    """

    keys: Tensor
    coefficients: Tensor
    centre: Tensor
    whitening: Tensor

    def __init__(self, config: FusedConfig, memory: Memory, parts: Sequence[FeatureAdapter] = ()) -> None:
        super().__init__(memory)
        self.config = config
        self.parts = nn.ModuleList(parts)
        views, dim = memory.views, memory.text.shape[-1]
        keys, labels = condensed(memory.keys, memory.labels)
        self.register_buffer("centre", keys.new_zeros(len(keys), 1, dim))
        if config.view_shrinkage is not None:
            self.register_buffer("whitening", torch.eye(dim).to(keys).repeat(len(keys), 1, 1))
        if config.fit is not None:
            self.residual = nn.Parameter(memory.text.new_zeros(len(keys), *memory.text.shape))
        self._queries: Tensor | None = None
        self._residual: Tensor | None = None
        self._ridges: dict[float, Ridge] = {}
        if views is not None:
            self.centre = keys.mean(dim=1, keepdim=True)
            if config.view_shrinkage is not None:
                self.whitening = view_whitening(views, shrinkage=config.view_shrinkage)
            self._residual = zero_shot_residual(keys, labels, memory.text)
            self._queries = views[:, :, 0] if len(labels) == len(memory.labels) else None
        self.register_buffer("keys", self._embedded(keys))  # in the space of the kernel
        self.register_buffer("coefficients", keys.new_zeros(*keys.shape[:2], len(memory.text)))
        self.coefficients = self._solved(config.sharpness, config.regularisation)

    @property
    def fused_parts(self) -> list[FeatureAdapter]:
        """The parts, as what they are."""
        return [part for part in self.parts if isinstance(part, FeatureAdapter)]

    def settle(self, parameters: Mapping[str, float]) -> None:
        """Replace parameters of the config, and compute the coefficients anew."""
        super().settle(parameters)
        self.coefficients = self._solved(self.config.sharpness, self.config.regularisation)
        self._ridges.clear()

    def base_logits(self, image: Float[Tensor, "#seeds batch dim"]) -> Float[Tensor, "#seeds batch classes"]:
        """Classify without the ridge: zero-shot, and what the parts and the trained residual change about it."""
        logits = zero_shot = super().base_logits(image)
        if self.config.fit is not None:
            logits = logits + self.logit_scale * (image @ self.residual.mT)
        for part, one in zip(self.fused_parts, self.config.parts, strict=True):
            logits = logits + one.weight * (part(image) - zero_shot)
        return logits

    def loss(
        self,
        image: Float[Tensor, "seeds batch dim"],
        labels: Int[Tensor, "seeds batch"],
        rows: Int[Tensor, "seeds batch"],
    ) -> Float[Tensor, " seeds"]:
        """Score a training batch: cross-entropy beside the ridge that was fitted without the image.

        Beside the one that was fitted with it there would be nothing left to learn. Where shots were averaged none can be left out.
        """
        if self._queries is None or self._residual is None:
            return super().loss(image, labels, rows)
        config = self.config
        affinity = sharpened(self._embedded(image) @ self.keys.mT, config.sharpness)
        held_out = self._ridge(config.sharpness, self._residual).held_out(affinity, config.regularisation, rows)
        votes = gated(self.logit_scale * held_out, gate=config.gate)
        logits = self.base_logits(image) + config.cache_weight * votes
        return F.cross_entropy(logits.movedim(-1, 1), labels, reduction="none").mean(dim=-1)

    def vote_grid(
        self, image: Float[Tensor, "#seeds batch dim"], grid: Mapping[str, Sequence[float]]
    ) -> Iterator[Float[Tensor, "seeds batch classes"]]:
        """Yield the corrections over sharpness and regularisation; each kernel is decomposed once, for all queries."""
        cosine = self._embedded(image) @ self.keys.mT
        for sharpness in grid.get("sharpness", (self.config.sharpness,)):
            affinity = sharpened(cosine, sharpness)
            for regularisation in grid.get("regularisation", (self.config.regularisation,)):
                coefficients = self._solved(sharpness, regularisation) if grid else self.coefficients
                yield gated(self.logit_scale * (affinity @ coefficients), gate=self.config.gate)

    @property
    def held_out_images(self) -> Float[Tensor, "seeds support dim"] | None:
        """The support in the view in which queries come, where it can be left out image by image: without anything trained."""
        trained = self.config.parts or self.config.fit is not None
        return None if trained else self._queries  # nor where shots were averaged

    def held_out_grid(self, grid: Mapping[str, Sequence[float]]) -> Iterator[Float[Tensor, "seeds support classes"]]:
        """Yield, as `vote_grid`, the correction of each support image by the ridge that was fitted without it."""
        if self._queries is None or self._residual is None:
            return
        cosine = self._embedded(self._queries) @ self.keys.mT
        for sharpness in grid.get("sharpness", (self.config.sharpness,)):
            affinity = sharpened(cosine, sharpness)
            for regularisation in grid.get("regularisation", (self.config.regularisation,)):
                votes = self._ridge(sharpness, self._residual).held_out(affinity, regularisation)
                yield gated(self.logit_scale * votes, gate=self.config.gate)

    def _solved(self, sharpness: float, regularisation: float) -> Float[Tensor, "seeds support classes"]:
        if self._residual is None:
            return self.coefficients
        return self._ridge(sharpness, self._residual).coefficients(regularisation)

    def _ridge(self, sharpness: float, residual: Float[Tensor, "seeds support classes"]) -> Ridge:
        if sharpness not in self._ridges:
            self._ridges[sharpness] = fit_ridge(self.keys, residual, sharpness=sharpness)
        return self._ridges[sharpness]

    def _embedded(self, image: Float[Tensor, "#seeds batch dim"]) -> Float[Tensor, "#seeds batch width"]:
        """Map features to the space of the kernel, rows of length 1."""
        if self.config.view_shrinkage is None:
            return image
        steady = F.normalize((image - self.centre) @ self.whitening, dim=-1)
        return torch.cat([image.expand_as(steady), steady], dim=-1) / 2**0.5
