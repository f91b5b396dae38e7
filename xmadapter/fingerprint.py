"""Stable content hashes of JSON-like values and of files."""

import hashlib
import json
from pathlib import Path

from pydantic import JsonValue

__all__ = ["fingerprint", "sha256_file"]


def fingerprint(value: JsonValue) -> str:
    """Hash a JSON-like value; key order and platform do not matter.

    Returns:
        64 hexadecimal digits of the sha256 of the canonical JSON text.

    Raises:
        ValueError: `value` holds NaN or infinity, which have no canonical form.

    Example:
        >>> fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Hash a file without reading it into memory at once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
