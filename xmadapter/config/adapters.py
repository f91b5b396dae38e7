"""The union of all kinds of adapters, which is the registry.

Each kind carries the search space its authors or our measurements recommend, so that naming a method is enough to sweep it.
"""

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import Field, JsonValue

from xmadapter.config.base import Frozen
from xmadapter.config.caches import APETConfig, TipConfig, TipFConfig, XMAdapterConfig
from xmadapter.config.closed_form import APEConfig, GDAConfig, LogisticConfig, ProKeRConfig, TIMOConfig
from xmadapter.config.fused import FusedConfig, PartConfig
from xmadapter.config.linear import LinearProbeConfig, ZeroShotConfig
from xmadapter.config.trained import ClapConfig, ClipAdapterConfig, MetaConfig, MultiModalConfig, TaskResConfig

__all__ = ["AdapterConfig", "OneStandardErrorConfig", "SolvableConfig", "TrainedConfig", "with_parameters"]

AdapterConfig = Annotated[ZeroShotConfig | PartConfig | FusedConfig, Field(discriminator="kind")]
TrainedConfig = (
    LinearProbeConfig
    | TipFConfig
    | APETConfig
    | XMAdapterConfig
    | ClipAdapterConfig
    | TaskResConfig
    | ClapConfig
    | MetaConfig
    | MultiModalConfig
)
SolvableConfig = (
    TipConfig
    | TipFConfig
    | XMAdapterConfig
    | GDAConfig
    | ProKeRConfig
    | APEConfig
    | APETConfig
    | TIMOConfig
    | LogisticConfig
    | FusedConfig
)
OneStandardErrorConfig = TipFConfig | APETConfig | XMAdapterConfig | FusedConfig
"""Kinds whose solvable values stand within one standard error of the best: they were trained with them, or their defaults serve."""

_Config = TypeVar("_Config", bound=Frozen)


def with_parameters(adapter: _Config, parameters: Mapping[str, JsonValue]) -> _Config:
    """Set fields of a config by dotted name, validated like a file.

    Raises:
        ValueError: A name is no field, or a value is outside the field's bounds.

    Example:
        >>> with_parameters(TipFConfig(), {"sharpness": 2.0, "fit.epochs": 5}).fit.epochs
        5
    """
    value = adapter.model_dump()
    if "kind" in parameters:
        raise ValueError("kind chooses the method; it is not one of its parameters")
    for name, parameter in parameters.items():
        inner = value
        *path, leaf = name.split(".")
        for key in path:
            if not isinstance(inner.get(key), dict):
                raise ValueError(f"{name} is not a field of {value['kind']}")
            inner = inner[key]
        inner[leaf] = parameter
    return type(adapter).model_validate(value)
