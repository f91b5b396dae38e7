"""From a pattern to the files of a split."""

import glob
import os
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import cache

import bracex

from xmadapter.data.names import printable
from xmadapter.data.objects import AnyPath, ObjectPath, any_path
from xmadapter.data.samples import SPLITS, Split
from xmadapter.errors import ConfigError
from xmadapter.storage import is_remote, join, list_tree

__all__ = ["split_shards"]

_MAX_SHARDS = 100_000


def split_shards(patterns: Mapping[Split, str]) -> dict[Split, list[AnyPath]]:
    """Find the files of each split.

    A pattern is the name of a file, or holds `{000..127}`, `{a,b}`, `*`, `?` or `[0-9]`. What braces name must be there, what
    the others match may be.

    Raises:
        ConfigError: A pattern matches nothing, names a missing file or too many, or a file is in two splits.
    """
    found: dict[Split, list[AnyPath]] = {
        split: _expand(patterns[split], split) for split in SPLITS if split in patterns
    }
    seen: dict[object, tuple[AnyPath, Split]] = {}
    for split, paths in found.items():
        for path in paths:
            other, taken = seen.setdefault(_identity(path, split), (path, split))
            if taken != split:
                raise ConfigError(
                    f"{printable(path)}: in {split}, and in {taken} as {printable(other)}; correct `{split}`"
                )
    return found


def _expand(pattern: str, split: Split) -> list[AnyPath]:
    whole = any_path(pattern)
    if whole.exists():
        return [whole]
    try:
        names = bracex.expand(os.fspath(whole), limit=_MAX_SHARDS)
    except bracex.ExpansionLimitException as error:
        raise ConfigError(f"{pattern}: over {_MAX_SHARDS} files; correct `{split}`") from error
    listing = cache(list_tree)
    paths = {path for name in names for path in (_matches(name, listing) if glob.has_magic(name) else [name])}
    if not paths:
        raise ConfigError(f"{pattern}: no file matches; correct `{split}`")
    return [any_path(path) for path in sorted(paths, key=os.fsencode)]


def _matches(pattern: str, listing: Callable[[str], list[str]]) -> list[str]:
    """Find files, or objects as `glob.glob` finds files: signs match within a name, and a leading dot by a dot alone."""
    if not is_remote(pattern):
        return glob.glob(pattern)  # noqa: PTH207  `Path.glob` wants a relative pattern
    folder = re.split(r"[*?[]", pattern)[0].rpartition("/")[0]
    wanted = pattern.removeprefix(f"{folder}/").split("/")
    return [join(folder, name) for name in listing(folder) if _fits(name.split("/"), wanted)]


def _fits(parts: list[str], wanted: list[str]) -> bool:
    return len(parts) == len(wanted) and all(
        fnmatchcase(part, signs) and (signs.startswith(".") or not part.startswith("."))
        for part, signs in zip(parts, wanted, strict=True)
    )


def _identity(path: AnyPath, split: Split) -> object:
    """Tell a file by its place on the disk, whatever its name; an object is looked at when it is opened."""
    if isinstance(path, ObjectPath):
        return path.uri
    try:
        state = path.stat()
    except OSError as error:
        raise ConfigError(f"{printable(path)}: cannot open it ({error.strerror}); correct `{split}`") from error
    return state.st_dev, state.st_ino
