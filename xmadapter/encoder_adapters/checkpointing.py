"""Gradient checkpointing: activations are computed twice instead of kept."""

from typing import Any, cast

from torch import nn

from xmadapter.errors import ConfigError

__all__ = ["checkpoint_gradients", "check_checkpointing"]


def checkpoint_gradients(model: nn.Module) -> None:
    """Let the towers keep their blocks' inputs only, and compute the rest again on the way back.

    A transformers tower does so in training mode alone, so that a frozen one goes on as before.

    Raises:
        ConfigError: The model has blocks whose checkpointing is broken in open_clip.
    """
    cast("Any", model).set_grad_checkpointing(True)  # every open_clip model has it
    try:
        check_checkpointing(model)
    except ConfigError:
        cast("Any", model).set_grad_checkpointing(False)
        raise


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
