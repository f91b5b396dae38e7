"""Start a tower at block L: what enters it is constant where adapters sit above, and is computed once."""

import copy
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from xmadapter.errors import ConfigError

__all__ = ["check_resumable", "image_features", "image_tokens", "text_features", "text_tokens"]


def check_resumable(model: nn.Module) -> None:
    """Refuse a model whose towers cannot be started at a block.

    Those of open_clip's own make can, if the text attends backwards only and is pooled at its end: then nothing behind the end
    matters, and tokens are kept up to there.

    Raises:
        ConfigError: Says which tower, and why.
    """
    if not all(hasattr(getattr(model, "visual", None), name) for name in ("_embeds", "_pool", "transformer")):
        raise ConfigError("the image tower is not open_clip's own ViT and cannot start at a block; train from pixels")
    text = getattr(model, "text", model)
    if getattr(text, "token_embedding", None) is None or getattr(text, "cls_emb", None) is not None:
        raise ConfigError("the text tower is not open_clip's own, or appends a class token; train from token ids")
    if getattr(text, "attn_mask", None) is None or _pool_type(model) not in ("argmax", "eos"):
        raise ConfigError(
            "the text tower attends in both directions or is not pooled at the text's end, so that padding counts; train "
            "from token ids"
        )


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
    return _blocks(visual.transformer, 0, block)(visual._embeds(pixels))


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
    pooled, _ = visual._pool(_blocks(visual.transformer, block, None)(tokens))
    return pooled if visual.proj is None else pooled @ visual.proj


@torch.no_grad()
def text_tokens(
    model: nn.Module, ids: Int[Tensor, "batch context"], *, block: int
) -> tuple[Float[Tensor, "batch tokens channels"], Int[Tensor, " batch"]]:
    """Compute the state that enters a block of the text tower, and how many tokens each text has.

    Args:
        model: As for `image_tokens`.
        ids: Of any length up to the context; with the end of text in each row.
        block: From 0; that is behind the embedding.

    Returns:
        Tokens up to the end of the longest text, and lengths that count the end in. What stands behind a text's end is of no
        consequence and need not be kept.
    """
    text = cast("Any", getattr(model, "text", model))
    ends = ids.argmax(dim=-1) if _pool_type(model) == "argmax" else (ids == _eos(model)).int().argmax(dim=-1)
    ids = ids[:, : int(ends.max()) + 1]
    dtype = text.transformer.get_cast_dtype()
    state = text.token_embedding(ids).to(dtype) + text.positional_embedding[: ids.shape[1]].to(dtype)
    return _blocks(text.transformer, 0, block)(state, attn_mask=_mask(text, state)), ends + 1


def text_features(
    model: nn.Module, tokens: Float[Tensor, "batch tokens channels"], lengths: Int[Tensor, " batch"], *, block: int
) -> Float[Tensor, "batch dim"]:
    """Go on from the state that enters a block to the features of the texts.

    Args:
        model: As for `image_features`.
        tokens: Padded with anything finite behind a text's end.
        lengths: Tokens of each text, its end counted in.
        block: Where the tokens were taken.
    """
    text = cast("Any", getattr(model, "text", model))
    state = text.ln_final(_blocks(text.transformer, block, None)(tokens, attn_mask=_mask(text, tokens)))
    pooled = state[torch.arange(len(state), device=state.device), lengths - 1]
    projection = text.text_projection
    if isinstance(projection, nn.Linear):
        return projection(pooled)
    return pooled if projection is None else pooled @ projection


def _blocks(transformer: Any, first: int, last: int | None) -> Any:
    """Copy a transformer that has some of its blocks; the blocks are the same, with their hooks."""
    part = copy.copy(transformer)
    part._modules = {"resblocks": transformer.resblocks[first:last]}  # the copy shared this dictionary
    return part


def _mask(text: Any, state: Float[Tensor, "batch tokens channels"]) -> Float[Tensor, "tokens tokens"]:
    return text.attn_mask[: state.shape[1], : state.shape[1]]


def _pool_type(model: nn.Module) -> str:
    # A CLIP has taken its text tower apart and renamed these.
    return str(getattr(model, "text_pool_type", None) or getattr(getattr(model, "text", None), "pool_type", None))


def _eos(model: nn.Module) -> int:
    return cast("Any", model).text.eos_id if hasattr(model, "text") else cast("Any", model).text_eos_id
