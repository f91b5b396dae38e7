"""The fused adapter: a ridge that ignores what augmentation changes, and any other methods added to it."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from xmadapter.config.base import Frozen
from xmadapter.config.caches import APETConfig, TipConfig, TipFConfig, XMAdapterConfig
from xmadapter.config.closed_form import APEConfig, GDAConfig, LogisticConfig, ProKeRConfig, TIMOConfig
from xmadapter.config.linear import LinearProbeConfig
from xmadapter.config.space import FitConfig, SolveRange, SpaceEntry
from xmadapter.config.trained import (
    ClapConfig,
    ClipAdapterConfig,
    LpPlusPlusConfig,
    MetaConfig,
    MultiModalConfig,
    TaskResConfig,
)

__all__ = ["FusedConfig", "FusedPart", "PartConfig"]

PartConfig = (
    LinearProbeConfig
    | TipConfig
    | TipFConfig
    | GDAConfig
    | ProKeRConfig
    | APEConfig
    | APETConfig
    | TIMOConfig
    | LogisticConfig
    | XMAdapterConfig
    | ClipAdapterConfig
    | TaskResConfig
    | ClapConfig
    | MetaConfig
    | MultiModalConfig
    | LpPlusPlusConfig
)


class FusedPart(Frozen):
    """A method that is added: `weight` times what it changes about zero-shot."""

    adapter: PartConfig = Field(discriminator="kind")
    weight: float = Field(default=1.0, ge=0, description="0 leaves the part out.")


class FusedConfig(Frozen):
    """Fused adapter (ours): zero-shot, a kernel ridge in two feature spaces, and any parts; each term has a neutral value."""

    kind: Literal["fused"] = "fused"
    cache_weight: float = Field(default=1.0, ge=0, description="Share of the ridge's correction; 0 leaves it out.")
    sharpness: float = Field(default=1.0, gt=0, description="Kernel sharpness; beta.")
    regularisation: float = Field(default=0.3, gt=0, description="Ridge, lambda.")
    view_shrinkage: float | None = Field(
        default=0.2,
        gt=0,
        le=1,
        description="How far the covariance of augmented views is drawn to a multiple of the identity before a second copy of the "
        "features is whitened by it; null leaves the copy out.",
    )
    gate: float = Field(
        default=0.0,
        ge=0,
        description="How strongly the ridge's correction is shrunk where its votes are undecided; 0 is neutral.",
    )
    parts: tuple[FusedPart, ...] = ()
    fit: FitConfig | None = Field(
        default=None,
        description="Training of a linear residual, from zero: it starts at the closed form; null leaves it out.",
    )
    title: ClassVar[str] = "Fused adapter"
    solvable: ClassVar[tuple[str, ...]] = ("sharpness", "regularisation", "cache_weight")
    default_solve: ClassVar[Mapping[str, SolveRange]] = {
        "sharpness": SolveRange(low=0.25, high=4, points=5, log=True),
        "regularisation": SolveRange(low=0.01, high=10, points=7, log=True),
    }
    default_space: ClassVar[Mapping[str, SpaceEntry]] = {}
    default_trials: ClassVar[int] = 1
