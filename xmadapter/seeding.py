"""The only source of randomness: seeds derived from what they are for."""

import hashlib

__all__ = ["derive_seed"]


def derive_seed(*parts: int | str) -> int:
    """Derive a 63-bit seed from named parts, equal on every machine and Python version.

    Neither `hash` nor a global generator is used, so two purposes never share a stream and the order of calls
    does not matter.

    Example:
        >>> derive_seed(1, "views") == derive_seed(1, "views") != derive_seed(2, "views")
        True
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
