"""From a config to an adapter: one match over the union of kinds."""

from collections.abc import Mapping

import torch
from torch import Tensor

from xmadapter.adapters.ape import APE, TrainedAPE
from xmadapter.adapters.base import FeatureAdapter, Memory
from xmadapter.adapters.clap import Clap
from xmadapter.adapters.clip_adapter import ClipAdapter
from xmadapter.adapters.fused import FusedAdapter
from xmadapter.adapters.gda import GDA
from xmadapter.adapters.linear_probe import LinearProbe
from xmadapter.adapters.logistic import LogisticRegression
from xmadapter.adapters.lp_plus_plus import LpPlusPlus
from xmadapter.adapters.meta import MetaAdapter
from xmadapter.adapters.multimodal import MultiModalAdapter
from xmadapter.adapters.proker import ProKeR
from xmadapter.adapters.task_residual import TaskResidual
from xmadapter.adapters.timo import TIMO
from xmadapter.adapters.tip import TipAdapter
from xmadapter.adapters.xmadapter import XMAdapter
from xmadapter.adapters.zero_shot import ZeroShot
from xmadapter.config import (
    AdapterConfig,
    APEConfig,
    APETConfig,
    ClapConfig,
    ClipAdapterConfig,
    FusedConfig,
    GDAConfig,
    LinearProbeConfig,
    LogisticConfig,
    LpPlusPlusConfig,
    MetaConfig,
    MultiModalConfig,
    ProKeRConfig,
    TaskResConfig,
    TIMOConfig,
    TipConfig,
    TipFConfig,
    XMAdapterConfig,
    ZeroShotConfig,
)
from xmadapter.episodes import EpisodeBatch
from xmadapter.features import TextBank

__all__ = ["build_adapter", "restore_adapter"]


def build_adapter(
    config: AdapterConfig, episodes: EpisodeBatch, text: TextBank, *, logit_scale: float
) -> FeatureAdapter:
    """Build the adapter of a config over the support of some episodes and on their device, before any training."""
    device = episodes.views.device
    memory = Memory(
        torch.tensor(text.class_features, device=device),
        episodes.keys,
        episodes.labels,
        logit_scale,
        views=episodes.views,
        prompts=torch.tensor(text.features, device=device),
        seeds=episodes.seeds,
    )
    parts = config.parts if isinstance(config, FusedConfig) else ()
    # Random weights are drawn on the CPU, so that a seed draws the same everywhere.
    return _construct(config, memory, [_construct(part.adapter, memory, []) for part in parts]).to(device)


def restore_adapter(config: AdapterConfig, state: Mapping[str, Tensor], *, seeds: int = 1) -> FeatureAdapter:
    """Build an adapter from a saved state.

    Raises:
        RuntimeError: The state does not fit the config.
    """
    if "text" not in state or "logit_scale" not in state:
        raise RuntimeError("the state has no text classifier")
    text = state["text"]
    # Only how many there are counts; the fused adapter keeps wider ones.
    keys = state.get("keys", text.new_zeros(seeds, 1, text.shape[-1]))[..., : text.shape[-1]]
    labels = state.get("labels", keys.new_zeros(keys.shape[1], dtype=torch.int64))
    blank = Memory(text, keys, labels, float(state["logit_scale"]), seeds=tuple(range(len(keys))))
    parts = []
    if isinstance(config, FusedConfig):
        for place, part in enumerate(config.parts):
            own = f"parts.{place}."
            inner = {name.removeprefix(own): tensor for name, tensor in state.items() if name.startswith(own)}
            parts.append(restore_adapter(part.adapter, inner, seeds=seeds))
    adapter = _construct(config, blank, parts)
    adapter.load_state_dict(dict(state))
    return adapter


def _construct(config: AdapterConfig, memory: Memory, parts: list[FeatureAdapter]) -> FeatureAdapter:  # noqa: C901 - one case a kind
    match config:
        case ZeroShotConfig():
            return ZeroShot(memory)
        case LinearProbeConfig():
            return LinearProbe(memory)
        case TipConfig() | TipFConfig():
            return TipAdapter(config, memory)
        case XMAdapterConfig():
            return XMAdapter(config, memory)
        case GDAConfig():
            return GDA(config, memory)
        case ProKeRConfig():
            return ProKeR(config, memory)
        case APEConfig():
            return APE(config, memory)
        case APETConfig():
            return TrainedAPE(config, memory)
        case TIMOConfig():
            return TIMO(config, memory)
        case LogisticConfig():
            return LogisticRegression(config, memory)
        case ClipAdapterConfig():
            return ClipAdapter(config, memory)
        case TaskResConfig():
            return TaskResidual(config, memory)
        case ClapConfig():
            return Clap(config, memory)
        case MetaConfig():
            return MetaAdapter(config, memory)
        case MultiModalConfig():
            return MultiModalAdapter(config, memory)
        case LpPlusPlusConfig():
            return LpPlusPlus(config, memory)
        case FusedConfig():
            return FusedAdapter(config, memory, parts)
