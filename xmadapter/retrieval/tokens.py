"""Tokens of a split at block L, computed once on each machine and mapped by every trial there."""

import hashlib
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float

from xmadapter.encoder_adapters import TokenFile, write_tokens
from xmadapter.encoder_adapters.token_file import TokenBatch
from xmadapter.errors import IntegrityError
from xmadapter.fingerprint import fingerprint
from xmadapter.storage import cache_folder, make_folder

__all__ = ["WORTH_A_FILE", "cached_tokens", "content_of"]

WORTH_A_FILE = 64
"""Rows. Fewer are a query or a probe, which comes once."""


def cached_tokens(
    tower: str, encoder: str, content: str, *, block: int, batches: Callable[[], Iterable[TokenBatch]]
) -> TokenFile:
    """Open the tokens of a split, after computing them where this machine has none; processes that do so at once write the same.

    They lie in `$XMADAPTER_CACHE/tokens`, else `~/.cache/xmadapter/tokens`; deleting them is safe.

    Args:
        tower: `image` or `text`.
        encoder: Its fingerprint.
        content: Of the split, as `content_of`.
        block: That the tokens enter.
        batches: Computes them.
    """
    key = fingerprint([tower, encoder, content, block])
    path = make_folder(cache_folder("tokens")) / f"{key}.arrow"
    try:
        return TokenFile(path)
    except (FileNotFoundError, IntegrityError):
        write_tokens(path, batches(), block=block, fingerprint=key)
        return TokenFile(path)


def content_of(features: Float[np.ndarray, "rows dim"]) -> str:
    """Hash stored features, which change with whatever they were made from."""
    return hashlib.sha256(np.ascontiguousarray(features).tobytes()).hexdigest()
