"""Adapters whose few weights are trained on the shots: CLIP-Adapter, TaskRes, CLAP, Meta-Adapter, Multi-Modal Adapter, LP++."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from xmadapter.config.base import Frozen
from xmadapter.config.space import Choice, FitConfig, Range, SolveRange, SpaceEntry

__all__ = ["ClapConfig", "ClipAdapterConfig", "LpPlusPlusConfig", "MetaConfig", "MultiModalConfig", "TaskResConfig"]


class ClipAdapterConfig(Frozen):
    """CLIP-Adapter (Gao et al., IJCV 2024) on normalised features: a bottleneck moves the image feature."""

    kind: Literal["clip-adapter"] = "clip-adapter"
    ratio: float = Field(
        default=0.2, ge=0, le=1, description="Share of the bottleneck beside the feature; the paper's r."
    )
    reduction: int = Field(default=4, ge=1, description="Width of the features over that of the bottleneck.")
    fit: FitConfig = FitConfig(epochs=100, learning_rate=3e-3)
    title: ClassVar[str] = "CLIP-Adapter"
    solvable: ClassVar[tuple[str, ...]] = ()
    default_solve: ClassVar[Mapping[str, SolveRange]] = {}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = {
        "fit.learning_rate": Range(low=3e-4, high=1e-2, log=True),
        "ratio": Choice(choices=(0.2, 0.4, 0.6, 0.8)),
    }
    default_trials: ClassVar[int] = 6


class TaskResConfig(Frozen):
    """TaskRes (Yu et al., CVPR 2023): a residual is added to every class text."""

    kind: Literal["taskres"] = "taskres"
    residual_scale: float = Field(default=0.5, ge=0, description="Factor of the residual; the paper's alpha.")
    fit: FitConfig = FitConfig(epochs=100, learning_rate=5e-3, weight_decay=5e-4)
    title: ClassVar[str] = "TaskRes"
    solvable: ClassVar[tuple[str, ...]] = ()
    default_solve: ClassVar[Mapping[str, SolveRange]] = {}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = {
        "fit.learning_rate": Range(low=3e-4, high=2e-2, log=True),
        "residual_scale": Choice(choices=(0.25, 0.5, 1.0)),
    }
    default_trials: ClassVar[int] = 6


class ClapConfig(Frozen):
    """CLAP (Silva-Rodriguez et al., CVPR 2024): the linear probe, each class held to its text as far as the text is right.

    Nothing is searched: the penalties follow from the shots, so that the method needs no validation image.
    """

    kind: Literal["clap"] = "clap"
    penalty: float = Field(
        default=1.0, ge=0, description="Factor of all penalties: 1 as in the paper, 0 the linear probe."
    )
    fit: FitConfig = FitConfig(epochs=100, learning_rate=3e-3, weight_decay=0.0)
    title: ClassVar[str] = "CLAP"
    solvable: ClassVar[tuple[str, ...]] = ()
    default_solve: ClassVar[Mapping[str, SolveRange]] = {}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = {}
    default_trials: ClassVar[int] = 1


class MetaConfig(Frozen):
    """Meta-Adapter (Cheng et al., NeurIPS 2023): each class text takes up a gated share of its class's support."""

    kind: Literal["meta"] = "meta"
    fit: FitConfig = FitConfig(epochs=100, learning_rate=1e-2)
    title: ClassVar[str] = "Meta-Adapter"
    solvable: ClassVar[tuple[str, ...]] = ()
    default_solve: ClassVar[Mapping[str, SolveRange]] = {}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = {"fit.learning_rate": Range(low=1e-3, high=3e-2, log=True)}
    default_trials: ClassVar[int] = 6


class MultiModalConfig(Frozen):
    """Multi-Modal Adapter (Seputis et al., arXiv 2409.02958): texts and image attend to each other in a narrow space."""

    kind: Literal["multi-modal"] = "multi-modal"
    width: int = Field(default=128, ge=4, multiple_of=4, description="Width of the attention; four heads share it.")
    blend: float = Field(
        default=0.2, ge=0, le=1, description="Share of the adapted features beside the features themselves."
    )
    mask: Literal["bias1", "cross", "none"] = Field(
        default="bias1",
        description="Scores between text and image: raised by 1 (as released), the only ones, or like all others.",
    )
    fit: FitConfig = FitConfig(epochs=100, learning_rate=5e-3, weight_decay=1e-4)
    title: ClassVar[str] = "Multi-Modal Adapter"
    solvable: ClassVar[tuple[str, ...]] = ()
    default_solve: ClassVar[Mapping[str, SolveRange]] = {}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = {
        "fit.learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "blend": Choice(choices=(0.2, 0.5, 0.8)),
    }
    default_trials: ClassVar[int] = 6


class LpPlusPlusConfig(Frozen):
    """LP++ (Huang et al., CVPR 2024): a linear probe plus a trained weight per class text; step sizes follow from the features."""

    kind: Literal["lp++"] = "lp++"
    epochs: int = Field(default=300, ge=1, le=10_000)
    text_gradient: Literal["running-sum", "current"] = Field(
        default="running-sum",
        description="What text weights step by: the gradients of all epochs so far (as released), or of the last one.",
    )
    title: ClassVar[str] = "LP++"
    solvable: ClassVar[tuple[str, ...]] = ()
    default_solve: ClassVar[Mapping[str, SolveRange]] = {}
    default_space: ClassVar[Mapping[str, SpaceEntry]] = {}
    default_trials: ClassVar[int] = 1
