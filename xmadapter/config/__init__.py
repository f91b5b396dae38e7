"""Configuration: pydantic values, one YAML grammar, no torch."""

from xmadapter.config.adapters import (
    AdapterConfig,
    OneStandardErrorConfig,
    SolvableConfig,
    TrainedConfig,
    with_parameters,
)
from xmadapter.config.base import Classes, ClusterConfig, Frozen, SelectionProtocol, TrackingConfig
from xmadapter.config.benchmark import BenchmarkCell, BenchmarkConfig, BenchmarkSet
from xmadapter.config.caches import APETConfig, TipConfig, TipFConfig, XMAdapterConfig
from xmadapter.config.closed_form import APEConfig, GDAConfig, LogisticConfig, ProKeRConfig, TIMOConfig
from xmadapter.config.data import DataConfig, ImageFolderData, KarpathyData, ParquetData, VideoData, WebDatasetData
from xmadapter.config.encode import EmbeddedSpec, EncodeConfig, EncoderSpec, ImageConfig, OpenClipSpec, TinySpec
from xmadapter.config.fused import FusedConfig, FusedPart, PartConfig
from xmadapter.config.linear import LinearProbeConfig, ZeroShotConfig
from xmadapter.config.load import load
from xmadapter.config.search import (
    CMAESConfig,
    GridConfig,
    NSGA2Config,
    PruningConfig,
    RandomConfig,
    SamplerConfig,
    SearchConfig,
    TPEConfig,
    WarmStartConfig,
    grid_points,
)
from xmadapter.config.space import Choice, FitConfig, Range, SolveRange, SpaceEntry
from xmadapter.config.sweep import EvaluateConfig, ExportConfig, MethodConfig, ReportConfig, SweepConfig
from xmadapter.config.trained import (
    ClapConfig,
    ClipAdapterConfig,
    LpPlusPlusConfig,
    MetaConfig,
    MultiModalConfig,
    TaskResConfig,
)

__all__ = [
    "APEConfig",
    "APETConfig",
    "AdapterConfig",
    "BenchmarkCell",
    "BenchmarkConfig",
    "BenchmarkSet",
    "CMAESConfig",
    "Choice",
    "ClapConfig",
    "ClipAdapterConfig",
    "Classes",
    "ClusterConfig",
    "DataConfig",
    "EmbeddedSpec",
    "EncodeConfig",
    "EncoderSpec",
    "EvaluateConfig",
    "ExportConfig",
    "FitConfig",
    "Frozen",
    "FusedConfig",
    "FusedPart",
    "GDAConfig",
    "GridConfig",
    "ImageConfig",
    "ImageFolderData",
    "KarpathyData",
    "LinearProbeConfig",
    "LpPlusPlusConfig",
    "LogisticConfig",
    "MetaConfig",
    "MethodConfig",
    "MultiModalConfig",
    "NSGA2Config",
    "OpenClipSpec",
    "ParquetData",
    "PartConfig",
    "ProKeRConfig",
    "PruningConfig",
    "RandomConfig",
    "Range",
    "ReportConfig",
    "SamplerConfig",
    "SearchConfig",
    "SelectionProtocol",
    "SolvableConfig",
    "SolveRange",
    "SpaceEntry",
    "OneStandardErrorConfig",
    "SweepConfig",
    "TIMOConfig",
    "TPEConfig",
    "TaskResConfig",
    "TinySpec",
    "TipConfig",
    "TipFConfig",
    "TrackingConfig",
    "TrainedConfig",
    "VideoData",
    "WarmStartConfig",
    "WebDatasetData",
    "XMAdapterConfig",
    "ZeroShotConfig",
    "grid_points",
    "load",
    "with_parameters",
]
