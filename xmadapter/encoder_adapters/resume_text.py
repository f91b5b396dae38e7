"""Start a text tower at block L, be it open_clip's own or a BERT-like one of transformers."""

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xmadapter.errors import ConfigError

__all__ = ["check_text", "first_to_last", "text_features", "text_tokens"]


def check_text(model: nn.Module) -> None:
    """Refuse a model whose text tower cannot be started at a block.

    Raises:
        ConfigError: Says why.
    """
    text = _tower(model)
    if _is_bert_like(text):
        return
    if getattr(text, "token_embedding", None) is None or getattr(text, "cls_emb", None) is not None:
        raise ConfigError(
            "the text tower is neither open_clip's own nor BERT-like, or appends a class token; train from token ids"
        )
    if getattr(text, "attn_mask", None) is None or _pool_type(model) not in ("argmax", "eos"):
        raise ConfigError(
            "the text tower attends to padding, or is not pooled at the text's end, so that padding counts; train from token ids"
        )


@torch.no_grad()
def text_tokens(
    model: nn.Module, ids: Int[Tensor, "batch context"], *, block: int
) -> tuple[Float[Tensor, "batch tokens channels"], Int[Tensor, " batch"]]:
    """Compute the state that enters a block of the text tower, and how many tokens each text has.

    Args:
        model: Frozen, without adapters below the block.
        ids: Of any length up to the context, padded at their right; those of open_clip's own tower with the end of text in each
            row.
        block: From 0; that is behind the embedding.

    Returns:
        Tokens up to the end of the longest text, and lengths that count the end in. What stands behind a text's end is of no
        consequence and need not be kept.

    Raises:
        ConfigError: A BERT-like tower's texts have padding elsewhere than behind their ends.
    """
    text = _tower(model)
    if _is_bert_like(text):
        return _bert_tokens(text, ids, block=block)
    ends = ids.argmax(dim=-1) if _pool_type(model) == "argmax" else (ids == _eos(model)).int().argmax(dim=-1)
    ids = ids[:, : int(ends.max()) + 1]
    dtype = text.transformer.get_cast_dtype()
    state = text.token_embedding(ids).to(dtype) + text.positional_embedding[: ids.shape[1]].to(dtype)
    return first_to_last(text.transformer, 0, block)(state, attn_mask=_causal(text, state)), ends + 1


def text_features(
    model: nn.Module, tokens: Float[Tensor, "batch tokens channels"], lengths: Int[Tensor, " batch"], *, block: int
) -> Float[Tensor, "batch dim"]:
    """Go on from the state that enters a block to the features of the texts, pooled and projected as the tower does it.

    Args:
        model: As for `text_tokens`, adapters from this block on included.
        tokens: In the encoder's own precision, padded with anything finite behind a text's end.
        lengths: Tokens of each text, its end counted in.
        block: Where the tokens were taken.
    """
    text = _tower(model)
    if _is_bert_like(text):
        return _bert_features(text, tokens, lengths, block=block)
    state = text.ln_final(first_to_last(text.transformer, block, None)(tokens, attn_mask=_causal(text, tokens)))
    pooled = state[torch.arange(len(state), device=state.device), lengths - 1]
    projection = text.text_projection
    if isinstance(projection, nn.Linear):
        return projection(pooled)
    return pooled if projection is None else pooled @ projection


def first_to_last(transformer: Any, first: int, last: int | None) -> Any:
    """Copy a transformer of open_clip that has some of its blocks; the blocks are the same, with their hooks."""
    return _with(transformer, {"resblocks": transformer.resblocks[first:last]})


class _Given(nn.Module):
    """In the place of embeddings: what they would compute is given."""

    def forward(self, *, inputs_embeds: Tensor, **_: object) -> Tensor:
        return inputs_embeds


def _bert_tokens(text: Any, ids: Int[Tensor, "batch context"], *, block: int) -> tuple[Tensor, Tensor]:
    known = ids != text.config.pad_token_id
    lengths = known.sum(dim=1)
    if not torch.equal(known, _up_to(lengths, ids.shape[1])):
        raise ConfigError(
            "a text has padding before its end, and only padding behind it can be left out; let the tokenizer pad on the "
            "right, or train from token ids"
        )
    longest = int(lengths.max())
    part = _with(text.transformer, {"encoder": _layers(text, 0, block), "pooler": None})
    state = part(input_ids=ids[:, :longest], attention_mask=known[:, :longest].long()).last_hidden_state
    return state, lengths


def _bert_features(text: Any, tokens: Tensor, lengths: Tensor, *, block: int) -> Float[Tensor, "batch dim"]:
    # The model itself makes of the mask what its kind of attention takes.
    mask = _up_to(lengths, tokens.shape[1]).long()
    part = _with(text.transformer, {"embeddings": _Given(), "encoder": _layers(text, block, None)})
    return text.proj(text.pooler(part(inputs_embeds=tokens, attention_mask=mask), mask))


def _layers(text: Any, first: int, last: int | None) -> Any:
    encoder = text.transformer.encoder
    return _with(encoder, {"layer": encoder.layer[first:last]})


def _with(module: Any, parts: Mapping[str, nn.Module | None]) -> Any:
    """Copy a module with some of its parts replaced; the others are the same, with their hooks."""
    changed = copy.copy(module)
    changed._modules = module._modules | dict(parts)  # the copy shared this dictionary
    return changed


def _up_to(lengths: Int[Tensor, " batch"], tokens: int) -> Bool[Tensor, "batch tokens"]:
    return torch.arange(tokens, device=lengths.device) < lengths[:, None]


def _causal(text: Any, state: Float[Tensor, "batch tokens channels"]) -> Float[Tensor, "tokens tokens"]:
    return text.attn_mask[: state.shape[1], : state.shape[1]]


def _tower(model: nn.Module) -> Any:
    # A CLIP holds its text tower in its root, all others in `text`.
    return getattr(model, "text", model)


def _is_bert_like(text: Any) -> bool:
    transformer = getattr(text, "transformer", None)
    layers = getattr(getattr(transformer, "encoder", None), "layer", None)
    return hasattr(text, "pooler") and hasattr(transformer, "embeddings") and isinstance(layers, nn.ModuleList)


def _pool_type(model: nn.Module) -> str:
    # A CLIP has taken its text tower apart and renamed these.
    return str(getattr(model, "text_pool_type", None) or getattr(getattr(model, "text", None), "pool_type", None))


def _eos(model: nn.Module) -> int:
    return cast("Any", model).text.eos_id if hasattr(model, "text") else cast("Any", model).text_eos_id
