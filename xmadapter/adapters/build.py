"""From a config to an adapter: one match over the union of kinds."""

from collections.abc import Mapping

import torch
from torch import Tensor

from xmadapter.adapters.base import FeatureAdapter, Memory
from xmadapter.adapters.linear_probe import LinearProbe
from xmadapter.adapters.tip import TipAdapter
from xmadapter.adapters.xmadapter import XMAdapter
from xmadapter.adapters.zero_shot import ZeroShot
from xmadapter.config import (
    AdapterConfig,
    LinearProbeConfig,
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
    """Build the adapter of a config over the support of some episodes, before any training."""
    memory = Memory(torch.tensor(text.class_features), episodes.keys, episodes.labels, logit_scale)
    return _construct(config, memory)


def restore_adapter(config: AdapterConfig, state: Mapping[str, Tensor], *, seeds: int = 1) -> FeatureAdapter:
    """Build an adapter from a saved state.

    Raises:
        RuntimeError: The state does not fit the config.
    """
    if "text" not in state or "logit_scale" not in state:
        raise RuntimeError("the state has no text classifier")
    text = state["text"]
    keys = state.get("keys", text.new_zeros(seeds, 1, text.shape[-1]))
    labels = state.get("labels", torch.zeros(keys.shape[1], dtype=torch.int64))
    adapter = _construct(config, Memory(text, keys, labels, float(state["logit_scale"])))
    adapter.load_state_dict(dict(state))
    return adapter


def _construct(config: AdapterConfig, memory: Memory) -> FeatureAdapter:
    match config:
        case ZeroShotConfig():
            return ZeroShot(memory)
        case LinearProbeConfig():
            return LinearProbe(memory)
        case TipConfig() | TipFConfig():
            return TipAdapter(config, memory)
        case XMAdapterConfig():
            return XMAdapter(config, memory)
