"""One small configuration of every kind of adapter, for what holds of all of them."""

from xmadapter.config import (
    AdapterConfig,
    APEConfig,
    APETConfig,
    ClapConfig,
    ClipAdapterConfig,
    FitConfig,
    FusedConfig,
    FusedPart,
    GDAConfig,
    LinearProbeConfig,
    LogisticConfig,
    LpPlusPlusConfig,
    MetaConfig,
    MultiModalConfig,
    PartConfig,
    ProKeRConfig,
    TaskResConfig,
    TIMOConfig,
    TipConfig,
    TipFConfig,
    XMAdapterConfig,
    ZeroShotConfig,
)

FEW = FitConfig(epochs=3, learning_rate=0.01)
SINGLE: list[PartConfig] = [
    LinearProbeConfig(fit=FEW),
    TipConfig(),
    TipFConfig(fit=FEW),
    APETConfig(fit=FEW),
    XMAdapterConfig(fit=FEW, text_width=4),
    ClipAdapterConfig(fit=FEW),
    TaskResConfig(fit=FEW),
    ClapConfig(fit=FEW),
    MetaConfig(fit=FEW),
    MultiModalConfig(fit=FEW, width=8),
    LpPlusPlusConfig(epochs=20),
    GDAConfig(),
    ProKeRConfig(),
    APEConfig(),
    TIMOConfig(),
    LogisticConfig(),
]
EVERY: list[AdapterConfig] = [
    ZeroShotConfig(),
    *SINGLE,
    FusedConfig(),
    FusedConfig(fit=FEW),
    FusedConfig(parts=(FusedPart(adapter=TipFConfig(fit=FEW), weight=0.2),)),
]
