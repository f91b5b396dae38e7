"""Heads over frozen features, several seeds side by side."""

from xmadapter.adapters.base import FeatureAdapter, Memory, SolvableAdapter, zero_shot_logits
from xmadapter.adapters.build import build_adapter, restore_adapter
from xmadapter.adapters.linear_probe import LinearProbe
from xmadapter.adapters.tip import TipAdapter, cache_votes, sharpened
from xmadapter.adapters.xmadapter import XMAdapter
from xmadapter.adapters.zero_shot import ZeroShot

__all__ = [
    "FeatureAdapter",
    "LinearProbe",
    "Memory",
    "SolvableAdapter",
    "TipAdapter",
    "XMAdapter",
    "ZeroShot",
    "build_adapter",
    "cache_votes",
    "restore_adapter",
    "sharpened",
    "zero_shot_logits",
]
