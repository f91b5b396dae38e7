"""Adapters that keep the support: Tip-Adapter, -F, APE-T, XMAdapter."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from xmadapter.config.base import Frozen
from xmadapter.config.space import Choice, FitConfig, Range, SolveRange, SpaceEntry

__all__ = ["APETConfig", "TipConfig", "TipFConfig", "XMAdapterConfig"]

_CACHE_WEIGHT = SolveRange(low=0.1, high=300, points=50, log=True)
_SHARPNESS = SolveRange(low=0.3, high=30, points=20, log=True)
_TRAINED_SPACE: Mapping[str, SpaceEntry] = {
    "fit.learning_rate": Range(low=3e-4, high=1e-2, log=True),
    "sharpness": Range(low=1, high=20, log=True),
    "cache_weight": Range(low=1, high=50, log=True),
}
_TRAINED_FIT = FitConfig(epochs=100, learning_rate=1e-3)
"""100 epochs as Tip-Adapter-F takes for EuroSAT: with few classes an epoch is a single step."""


class TipConfig(Frozen):
    """Tip-Adapter (Zhang et al., 2022): few-shot images vote by similarity, without training."""

    kind: Literal["tip"] = "tip"
    cache_weight: float = Field(
        default=1.0, ge=0, description="Share of the votes beside zero-shot; the paper's alpha."
    )
    sharpness: float = Field(default=5.5, gt=0, description="Kernel sharpness; the paper's beta.")
    title: ClassVar[str] = "Tip-Adapter"
    solvable: ClassVar[tuple[str, ...]] = ("sharpness", "cache_weight")
    default_solve: ClassVar[Mapping[str, SolveRange]] = {"cache_weight": _CACHE_WEIGHT, "sharpness": _SHARPNESS}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = {}
    default_trials: ClassVar[int] = 1


class TipFConfig(Frozen):
    """Tip-Adapter-F: the cached keys become weights."""

    kind: Literal["tip-f"] = "tip-f"
    cache_weight: float = Field(default=5.0, ge=0, description="As in Tip-Adapter; this value during training.")
    sharpness: float = Field(default=3.0, gt=0, description="As in Tip-Adapter; this value during training.")
    fit: FitConfig = _TRAINED_FIT
    title: ClassVar[str] = "Tip-Adapter-F"
    solvable: ClassVar[tuple[str, ...]] = ("sharpness", "cache_weight")
    default_solve: ClassVar[Mapping[str, SolveRange]] = {"cache_weight": _CACHE_WEIGHT, "sharpness": _SHARPNESS}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = _TRAINED_SPACE
    default_trials: ClassVar[int] = 6


class APETConfig(Frozen):
    """APE-T (Zhu et al., 2023): APE, with a trained move of each class and a trained weight of each key."""

    kind: Literal["ape-t"] = "ape-t"
    cache_weight: float = Field(default=5.0, ge=0, description="As in APE; this value during training.")
    sharpness: float = Field(default=3.0, gt=0, description="As in APE; this value during training.")
    surprise_weight: float = Field(default=0.1, ge=0, description="As in APE; where the weights of the keys start.")
    channel_share: float = Field(default=0.7, gt=0, le=1, description="Share of the channels that are kept and moved.")
    variance_share: float = Field(
        default=0.3, ge=0, le=1, description="As in APE: weight of the texts' variance in the choice of channels."
    )
    fit: FitConfig = FitConfig(epochs=100, learning_rate=3e-3, weight_decay=0.1)
    title: ClassVar[str] = "APE-T"
    solvable: ClassVar[tuple[str, ...]] = ("sharpness", "cache_weight")
    default_solve: ClassVar[Mapping[str, SolveRange]] = {"cache_weight": _CACHE_WEIGHT, "sharpness": _SHARPNESS}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = {
        **_TRAINED_SPACE,
        "channel_share": Choice(choices=(0.5, 0.7, 0.9, 1.0)),
    }
    default_trials: ClassVar[int] = 6


class XMAdapterConfig(Frozen):
    """XMAdapter, our reconstruction: an image cache and a text cache, merged by a ratio.

    The paper (arXiv 2404.12588) states the two caches and an adaptive ratio; the formulas of the ratio, of the hard-sample
    weight and of the loss are ours. docs/methods.md says which is which.
    """

    kind: Literal["xmadapter"] = "xmadapter"
    cache_weight: float = Field(default=2.0, ge=0, description="Share of the votes beside zero-shot; alpha.")
    sharpness: float = Field(default=3.0, gt=0, description="Kernel sharpness of the image cache; beta.")
    text_sharpness: float = Field(default=5.5, gt=0, description="Kernel sharpness of the text cache; beta_t.")
    ratio: Literal["fixed", "learned", "dynamic"] = Field(
        default="learned", description="How image and text affinity are weighed."
    )
    image_share: float = Field(
        default=0.8, ge=0, le=1, description="Share of the image affinity, gamma; where training starts."
    )
    text_width: int = Field(
        default=128, ge=1, description="Width of the text cache, D; at most the width of the features."
    )
    train_keys: bool = Field(default=True, description="Whether the image keys are weights, as in Tip-Adapter-F.")
    train_text: bool = Field(
        default=True, description="Whether the class texts are weights, in place of the paper's trained prompt."
    )
    gap: Literal["affinity", "true-class", "divergence"] = Field(
        default="affinity", description="How the modalities' disagreement is measured."
    )
    hardness: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="How far disagreement raises a sample's weight, eta; 0 is plain cross-entropy.",
    )
    agreement: float = Field(default=0.0, ge=0, description="Weight of the symmetric KL between the modalities, mu.")
    leave_one_out: bool = Field(
        default=True, description="Whether a training query does without the key of its own image."
    )
    fit: FitConfig = _TRAINED_FIT
    title: ClassVar[str] = "XMAdapter (our reconstruction)"
    default_solve: ClassVar[Mapping[str, SolveRange]] = {"cache_weight": _CACHE_WEIGHT, "sharpness": _SHARPNESS}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = {
        **_TRAINED_SPACE,
        "image_share": Choice(choices=(0.5, 0.8, 0.95)),
    }
    default_trials: ClassVar[int] = 6

    @property
    def solvable(self) -> tuple[str, ...]:
        """What a trial can solve: the ratio only where training does not find it."""
        share = ("image_share",) if self.ratio == "fixed" else ()
        return ("sharpness", "text_sharpness", *share, "cache_weight")

    @model_validator(mode="after")
    def _finite_logit(self) -> "XMAdapterConfig":
        if self.ratio != "fixed" and not 0 < self.image_share < 1:
            raise ValueError(
                f"image_share {self.image_share} has no finite logit; use ratio: fixed, or a share inside (0, 1)"
            )
        return self
