"""From a YAML file and `a.b=value` overrides to one validated config."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from xmadapter.errors import ConfigError
from xmadapter.strict import parse_yaml, read_yaml

__all__ = ["load"]

_Config = TypeVar("_Config", bound=BaseModel)


def load(config_type: type[_Config], path: Path | None, overrides: Sequence[str] = ()) -> _Config:
    """Read a config file, apply overrides, validate.

    Args:
        config_type: What the result must be.
        path: YAML file; None starts from an empty mapping.
        overrides: `a.b=value`, the value read as YAML; later ones win.

    Raises:
        ConfigError: The file cannot be read, or the values are wrong; every fault with its path in one message.

    Example:
        >>> from xmadapter.config import EvaluateConfig
        >>> load(EvaluateConfig, None, ["sweep=runs/pets"]).sweep
        'runs/pets'
    """
    value = {} if path is None else read_yaml(path)
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, got {type(value).__name__}")
    for override in overrides:
        _apply(value, override)
    try:
        return config_type.model_validate(value)
    except ValidationError as error:
        faults = "; ".join(_describe(fault, config_type) for fault in _causes(error.errors()))
        raise ConfigError(f"{path or 'command line'}: {faults}") from error


def _causes(faults: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out that a list is too short where one of its items was refused: the item is the cause."""
    paths = [fault["loc"] for fault in faults]
    return [
        fault
        for fault in faults
        if fault["type"] != "too_short" or not any(path[: len(fault["loc"])] == fault["loc"] != path for path in paths)
    ]


def _apply(value: dict[str, JsonValue], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise ConfigError(f"{override!r} is not an override; write name=value, as in trials=8")
    inner = value
    *path, leaf = name.split(".")
    for key in path:
        child = inner.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"override {name}: {key} is not a mapping")
        inner = child
    inner[leaf] = parse_yaml(text)


def _describe(fault: ErrorDetails, config_type: type[BaseModel]) -> str:
    """Word one fault: the path, what came, and what was probably meant."""
    path = ".".join(str(part) for part in fault["loc"] if not str(part).startswith("function-"))
    match fault["type"]:
        case "extra_forbidden":
            name = str(fault["loc"][-1])
            return f"{path}: unknown key{_nearest(name, _fields_at(config_type, fault['loc'][:-1]))}"
        case "missing":
            return f"{path}: missing"
        case "union_tag_invalid":
            context = fault.get("ctx", {})
            tag, expected = str(context.get("tag")), str(context.get("expected_tags"))
            return f"{path}: no kind {tag!r}{_nearest(tag, [name.strip(chr(39)) for name in expected.split(', ')])}; there are {expected}"
        case "union_tag_not_found":
            return f"{path}: `kind` is missing"
        case _:
            message = fault["msg"].removeprefix("Value error, ")
            return f"{path}: {message}" if path else message


def _fields_at(annotation: object, path: tuple[int | str, ...]) -> list[str]:
    """List the fields of the models that stand at a path of an error: names, positions, and kinds of a union."""
    models = list(_models(annotation))
    if not path:
        return [name for model in models for name in model.model_fields]
    head, *rest = path
    inner = [model.model_fields[head].annotation for model in models if head in model.model_fields]
    tagged = [model for model in models if "kind" in model.model_fields and model.model_fields["kind"].default == head]
    following = inner or tagged or [annotation]
    return [name for one in following for name in _fields_at(one, tuple(rest))]


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
