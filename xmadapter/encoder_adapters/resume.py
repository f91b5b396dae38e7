"""Start a tower at block L: what enters it is constant where adapters sit above, and is computed once."""

from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xmadapter.encoder_adapters.resume_text import check_text, first_to_last
from xmadapter.errors import ConfigError

__all__ = ["check_resumable", "image_features", "image_tokens"]


def check_resumable(model: nn.Module, tower: Literal["image", "text"]) -> None:
    """Refuse a model one of whose towers cannot be started at a block; the other one may still.

    An image tower has to be open_clip's own ViT. A text tower is open_clip's own if it attends backwards only and is pooled at
    the text's end, or a BERT-like one of transformers, whose padding is masked: either way what stands behind a text has no
    effect and need not be kept.

    Args:
        model: An open_clip model.
        tower: Which one is to be started at a block.

    Raises:
        ConfigError: Says why this tower cannot.
    """
    if tower == "text":
        check_text(model)
    elif not all(hasattr(getattr(model, "visual", None), name) for name in ("_embeds", "_pool", "transformer")):
        raise ConfigError("the image tower is not open_clip's own ViT and cannot start at a block; train from pixels")


@torch.no_grad()
def image_tokens(
    model: nn.Module, pixels: Float[Tensor, "batch 3 height width"], *, block: int
) -> Float[Tensor, "batch tokens channels"]:
    """Compute the state that enters a block of the image tower.

    Args:
        model: Frozen, without adapters below the block.
        pixels: Normalised.
        block: From 0; that is behind the embedding and its norm.
    """
    visual = cast("Any", model.visual)  # open_clip's modules are reached by attribute, as hooks reach them
    return first_to_last(visual.transformer, 0, block)(visual._embeds(pixels))


def image_features(
    model: nn.Module, tokens: Float[Tensor, "batch tokens channels"], *, block: int
) -> Float[Tensor, "batch dim"]:
    """Go on from the state that enters a block to the features: bit by bit those of the whole tower.

    Args:
        model: As for `image_tokens`, adapters from this block on included.
        tokens: In the encoder's own precision.
        block: Where the tokens were taken.
    """
    visual = cast("Any", model.visual)
    pooled, _ = visual._pool(first_to_last(visual.transformer, block, None)(tokens))
    return pooled if visual.proj is None else pooled @ visual.proj
