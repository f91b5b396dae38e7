"""Adapters inside a frozen encoder, what they are compared with, and how they are trained."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from xmadapter.config.base import Frozen
from xmadapter.config.linear import ZeroShotConfig
from xmadapter.config.pooling import MeanPooling, Pooling
from xmadapter.config.space import Range, SolveRange, SpaceEntry

__all__ = [
    "BiasTuningConfig",
    "ContrastiveConfig",
    "CrossModalConfig",
    "EncoderAdapterConfig",
    "FullTuningConfig",
    "HeadsConfig",
    "LoraConfig",
    "RetrievalConfig",
    "Towers",
    "UniAdapterConfig",
    "ZeroShotRetrievalConfig",
]

Towers = Literal["both", "text", "image"]
"""Which towers are adapted; one alone serves a model whose other tower cannot be hooked, a ResNet's for instance."""

_STEPS: Mapping[str, SpaceEntry] = {"fit.learning_rate": Range(low=1e-4, high=1e-2, log=True)}
_SMALL_STEPS: Mapping[str, SpaceEntry] = {"fit.learning_rate": Range(low=1e-6, high=1e-3, log=True)}

_FIRST_BLOCK = (
    "Adapt the blocks from this one on, counted from 0 in the deeper tower; towers are aligned at their last blocks. "
    "What lies below is constant, so that it can be computed once."
)
_POOLING = Field(default=MeanPooling(), description="How the frames of a video are pooled; of no effect on images.")


class ContrastiveConfig(Frozen):
    """Training on pairs: AdamW, warm-up, cosine to zero; batches are part of the method, as they are each other's negatives."""

    epochs: int = Field(default=5, ge=1, le=10_000)
    batch_size: int = Field(default=128, ge=2, description="Pairs per step.")
    learning_rate: float = Field(default=1e-4, gt=0, le=1)
    warm_up: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    weight_decay: float = Field(default=0.2, ge=0, le=10, description="Of matrices; never of biases and norms.")
    clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient.")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="Of the encoder's products on a GPU; adapters compute in fp32 either way."
    )
    checkpointing: bool = Field(
        default=False,
        description="Keep the inputs of blocks only and compute the rest again on the way back: less memory, a third more time. "
        "For towers of open_clip's own make.",
    )


class CrossModalConfig(Frozen):
    """Cross-Modal Adapter (Jiang et al., arXiv 2211.09623): a bottleneck after attention and MLP, its output partly shared."""

    kind: Literal["cross-modal"] = "cross-modal"
    width: int = Field(default=8, ge=1, description="Width of the bottleneck; the paper's r.")
    shared: int = Field(
        default=16,
        ge=0,
        description="Output channels whose weights serve image and text, the paper's d_s; 0 is the plain adapter.",
    )
    first_block: int = Field(default=0, ge=0, description=_FIRST_BLOCK)
    activation: Literal["quick-gelu", "gelu", "relu"] = Field(
        default="quick-gelu", description="As released: x·sigmoid(1.702 x)."
    )
    init: Literal["zero", "paper"] = Field(
        default="zero",
        description="What leads up starts at zero, so that the start is the frozen model; or at 0.01 times a normal draw.",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="After the activation, in training.")
    towers: Towers = "both"
    pooling: Pooling = _POOLING
    fit: ContrastiveConfig = ContrastiveConfig()
    title: ClassVar[str] = "Cross-Modal Adapter"
    solvable: ClassVar[tuple[str, ...]] = ()
    default_solve: ClassVar[Mapping[str, SolveRange]] = {}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = _STEPS
    default_trials: ClassVar[int] = 3

    @model_validator(mode="after")
    def _shared_by_two(self) -> Self:
        if self.shared and self.towers != "both":
            raise ValueError(f"shared={self.shared} needs both towers; with towers={self.towers} set shared to 0")
        return self


class UniAdapterConfig(Frozen):
    """UniAdapter (Lu et al., ICLR 2024): a bottleneck beside the MLP, one way down for all modalities, one way up for each."""

    kind: Literal["uniadapter"] = "uniadapter"
    width: int = Field(default=128, ge=1, description="Width of the bottleneck; published are 128 and 512.")
    scale: float = Field(default=0.1, gt=0, description="Factor of the output; the paper's s.")
    first_block: int = Field(default=0, ge=0, description=_FIRST_BLOCK)
    normalise: Literal["none", "before", "after"] = Field(
        default="before",
        description="Where the fusion path is normalised. As released after its way up; from a start at zero that multiplies "
        "the first gradients by 300, hence before it.",
    )
    init: Literal["zero"] = "zero"
    towers: Towers | Literal["all"] = Field(
        default="both", description="`all` adds the cross-attention of CoCa's decoder, which no retrieval loss reaches."
    )
    pooling: Pooling = _POOLING
    fit: ContrastiveConfig = ContrastiveConfig()
    title: ClassVar[str] = "UniAdapter"
    solvable: ClassVar[tuple[str, ...]] = ()
    default_solve: ClassVar[Mapping[str, SolveRange]] = {}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = _STEPS
    default_trials: ClassVar[int] = 3


class LoraConfig(Frozen):
    """LoRA (Hu et al., ICLR 2022) on the linear layers of the MLPs: an update of low rank, kept beside the weight."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=8.0, gt=0, description="The update is scaled by alpha / rank.")
    first_block: int = Field(default=0, ge=0, description=_FIRST_BLOCK)
    towers: Towers = "both"
    pooling: Pooling = _POOLING
    fit: ContrastiveConfig = ContrastiveConfig()
    title: ClassVar[str] = "LoRA"
    solvable: ClassVar[tuple[str, ...]] = ()
    default_solve: ClassVar[Mapping[str, SolveRange]] = {}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = _STEPS
    default_trials: ClassVar[int] = 3


class BiasTuningConfig(Frozen):
    """BitFit (Ben Zaken et al., ACL 2022): the biases of the towers are trained, nothing else."""

    kind: Literal["bias"] = "bias"
    towers: Towers = "both"
    pooling: Pooling = _POOLING
    fit: ContrastiveConfig = ContrastiveConfig()
    title: ClassVar[str] = "Bias tuning"
    solvable: ClassVar[tuple[str, ...]] = ()
    default_solve: ClassVar[Mapping[str, SolveRange]] = {}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = _STEPS
    default_trials: ClassVar[int] = 3


class FullTuningConfig(Frozen):
    """Full fine-tuning: every weight of the towers is trained; the scale of the logits is not."""

    kind: Literal["full"] = "full"
    towers: Towers = "both"
    pooling: Pooling = _POOLING
    fit: ContrastiveConfig = ContrastiveConfig()
    title: ClassVar[str] = "Full fine-tuning"
    solvable: ClassVar[tuple[str, ...]] = ()
    default_solve: ClassVar[Mapping[str, SolveRange]] = {}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = _SMALL_STEPS
    default_trials: ClassVar[int] = 3


EncoderAdapterConfig = Annotated[
    CrossModalConfig | UniAdapterConfig | LoraConfig | BiasTuningConfig | FullTuningConfig, Field(discriminator="kind")
]


class HeadsConfig(Frozen):
    """A square linear map on the features of each modality, from the identity."""

    kind: Literal["heads"] = "heads"
    over: EncoderAdapterConfig | None = Field(
        default=None,
        description="Adapters in the towers that are trained together with the heads, as `fit` here says; empty: features stay.",
    )
    pooling: Pooling = _POOLING
    fit: ContrastiveConfig = ContrastiveConfig(learning_rate=1e-3)
    title: ClassVar[str] = "Linear heads"
    solvable: ClassVar[tuple[str, ...]] = ()
    default_solve: ClassVar[Mapping[str, SolveRange]] = {}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = _STEPS
    default_trials: ClassVar[int] = 3

    @model_validator(mode="after")
    def _one_for_both(self) -> Self:
        for name in ("fit", "pooling"):
            if self.over is not None and getattr(self.over, name) != getattr(type(self.over)(), name):
                raise ValueError(
                    f"heads and what is under them are trained together: set `{name}` of the heads, not of `over`"
                )
        return self


class ZeroShotRetrievalConfig(ZeroShotConfig):
    """The encoder as it is: where every table of recalls starts."""

    pooling: Pooling = _POOLING


RetrievalConfig = Annotated[
    ZeroShotRetrievalConfig
    | HeadsConfig
    | CrossModalConfig
    | UniAdapterConfig
    | LoraConfig
    | BiasTuningConfig
    | FullTuningConfig,
    Field(discriminator="kind"),
]
"""What a sweep over captioned images compares."""
