"""Strict YAML and JSON: what a stranger's file can hold without surprising anyone.

No tags, no aliases, no duplicate keys, no NaN or infinity, and caps on size and depth.
"""

import json
import math
from collections.abc import Hashable
from pathlib import Path

import yaml
from pydantic import JsonValue

from xmadapter.errors import ConfigError, IntegrityError

__all__ = ["MAX_BYTES", "parse_json", "parse_yaml", "read_yaml"]

MAX_BYTES = 1 << 20
_MAX_DEPTH = 20


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses aliases and duplicate keys; safe_load takes alias bombs and keeps the last of two keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        if getattr(self.peek_event(), "tag", None) is not None:
            raise yaml.YAMLError("a tag (!name) is not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, str):
                raise yaml.YAMLError(f"line {node.start_mark.line + 1}: keys are text, got {key!r}")
        doubles = sorted({key for key in keys if keys.count(key) > 1})
        if doubles:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: key {doubles[0]!r} appears twice")
        return super().construct_mapping(node, deep=deep)


def parse_yaml(text: str) -> JsonValue:
    """Parse one YAML document under the rules of this module.

    Raises:
        ConfigError: The text is not such a document; says the line where the parser stopped.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"over {MAX_BYTES} bytes")
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506  _Loader is a SafeLoader
    except RecursionError:
        raise ConfigError(f"nested deeper than {_MAX_DEPTH}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    return _checked(value)


def read_yaml(path: Path) -> JsonValue:
    """Read a YAML file; errors name the file.

    Raises:
        ConfigError: The file is absent, unreadable, not UTF-8, or breaks a rule of this module.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_json(text: str | bytes) -> JsonValue:
    """Parse JSON that this project wrote.

    Raises:
        IntegrityError: It is not valid JSON, repeats a key, or holds NaN or infinity.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite_float)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"not valid JSON: {error}") from error


def _unique(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key appears twice")
    return value


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return value


def _refuse_constant(name: str) -> JsonValue:
    raise ValueError(f"{name} is not allowed")


def _checked(value: JsonValue, depth: int = 0) -> JsonValue:
    if depth > _MAX_DEPTH:
        raise ConfigError(f"nested deeper than {_MAX_DEPTH}")
    match value:
        case dict():
            for item in value.values():
                _checked(item, depth + 1)
        case list():
            for item in value:
                _checked(item, depth + 1)
        case float() if not math.isfinite(value):
            raise ConfigError(f"{value} is not a finite number")
        case None | str() | bool() | int() | float():
            pass
        case _:
            raise ConfigError(f"{value!r} is not text, a number, a list or a mapping; quote it")
    return value
