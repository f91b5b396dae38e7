"""Gradient checkpointing: activations are computed twice instead of kept."""

import warnings
from typing import Any, cast

from torch import nn

from xmadapter.errors import ConfigError

__all__ = ["check_checkpointing", "checkpoint_gradients", "keep_activations"]


def checkpoint_gradients(model: nn.Module) -> None:
    """Let the towers keep their blocks' inputs only, and compute the rest again on the way back.

    A transformers tower does so in training mode alone, so that a frozen one goes on as before.

    Raises:
        ConfigError: The model has blocks whose checkpointing is broken in open_clip.
    """
    _set(model, True)
    try:
        check_checkpointing(model)
    except ConfigError:
        keep_activations(model)
        raise


def keep_activations(model: nn.Module) -> None:
    """Undo `checkpoint_gradients`."""
    _set(model, False)


def _set(model: nn.Module, value: bool) -> None:
    with warnings.catch_warnings():
        # open_clip calls transformers by a name that version 6 drops.
        warnings.filterwarnings("ignore", "`gradient_checkpointing_enable` is deprecated", FutureWarning)
        cast("Any", model).set_grad_checkpointing(value)  # every open_clip model has it


def check_checkpointing(model: nn.Module) -> None:
    """Refuse checkpointing over open_clip's custom blocks: it hands them four arguments, and they take two.

    Raises:
        ConfigError: The model is such a pair.
    """
    for module in model.modules():
        blocks = getattr(module, "resblocks", ())
        if getattr(module, "grad_checkpointing", False) and any(hasattr(block, "ln_attn") for block in blocks):
            raise ConfigError(
                "open_clip cannot checkpoint the gradients of blocks with query norms or scaled branches; train this "
                "model without gradient checkpointing, in smaller batches"
            )
