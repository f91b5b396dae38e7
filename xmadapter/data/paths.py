"""Folders and list files of a data set: order and names follow bytes, whatever the locale; lists lead nowhere outside."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Generic, NamedTuple, TypeVar, cast

from xmadapter.data.files import BadImage, open_regular
from xmadapter.data.media import media_uri
from xmadapter.data.names import as_bytes, is_below, printable
from xmadapter.data.objects import ObjectPath
from xmadapter.errors import ConfigError, DataError

__all__ = [
    "IMAGE_SUFFIXES",
    "Listed",
    "entries",
    "is_text",
    "locate",
    "read_list",
    "require_any_file",
    "require_folder",
    "require_once",
    "subfolders",
]

_MAX_LIST_BYTES = 1024**3
_Place = TypeVar("_Place", Path, ObjectPath)
_Where = TypeVar("_Where", bound=Path | ObjectPath)

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""How the name of an image ends, in lower case."""


def is_text(name: str) -> bool:
    """Say whether a name is visible text of one line, fit for a prompt."""
    plain = name.replace("%", "")
    return bool(name.strip()) and printable(plain) == plain


def require_folder(folder: _Place, *, setting: str = "root") -> _Place:
    """Return the folder if it is one.

    Raises:
        ConfigError: It does not exist or is no folder.
    """
    if not folder.is_dir():
        reason = "not a folder" if folder.exists() else "no such folder"
        raise ConfigError(f"{printable(folder)}: {reason}; correct `{setting}`")
    return folder


def entries(folder: _Place) -> list[_Place]:
    """List what does not begin with a dot, in the order of raw bytes.

    Raises:
        DataError: The folder cannot be listed.
    """
    try:
        return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=os.fsencode)
    except OSError as error:
        raise DataError(f"{printable(folder)}: cannot list it ({error.strerror}); check its permissions") from error


def subfolders(folder: _Place) -> list[_Place]:
    """List folders and links to folders, in the order of raw bytes."""
    return [path for path in entries(folder) if path.is_dir()]


class Listed(NamedTuple, Generic[_Where]):
    """An image that a list names: its id, where it lies, and the record that named it."""

    sample_id: str
    path: _Where
    where: str

    @property
    def media(self) -> str:
        """Media URI of the file."""
        return media_uri(os.fspath(self.path))


def read_list(path: Path, *, setting: str) -> bytes:
    """Read a list file whole, at most 1 GiB.

    Args:
        path: The file.
        setting: Key of the config that leads to it, for messages.

    Raises:
        ConfigError: It does not exist.
        DataError: It is no regular file, or larger.
    """
    try:
        with open_regular(path) as file:
            data = file.read(_MAX_LIST_BYTES + 1)
    except BadImage as bad:
        if bad.reason == "missing":
            raise ConfigError(f"{printable(path)}: no such file ({bad.detail}); correct `{setting}`") from bad
        raise DataError(f"{printable(path)}: {bad.detail}; name a plain file") from bad
    except OSError as error:
        raise DataError(
            f"{printable(path)}: cannot read it ({error.strerror}); nothing was written, run again"
        ) from error
    if len(data) > _MAX_LIST_BYTES:
        raise DataError(f"{printable(path)}: over {_MAX_LIST_BYTES} bytes; a list is shorter, name another file")
    return data


def locate(name: str, *, folder: _Where, source: str, where: str) -> Listed[_Where]:
    """Find the file that a list names by a path relative to `folder`.

    A list may come from a stranger: a path that is absolute or climbs out with `..` is refused.

    Raises:
        DataError: The path leads outside, or holds what no file name can hold.
    """
    relative = str(PurePosixPath(name))
    try:
        raw = as_bytes(relative)
    except UnicodeEncodeError:
        raw = b""
    if not raw or relative == "." or not is_below(name):
        raise DataError(f"{source}: {where}: {printable(name)!r} is no path below {printable(folder)}; correct it")
    return Listed(printable(relative), cast("_Where", folder / os.fsdecode(raw)), where)


def require_once(listed: Iterable[Listed[_Where]], *, source: str) -> None:
    """Check that no file is listed twice, also under two spellings of one path.

    Raises:
        DataError: One is; names both records.
    """
    first: dict[str, Listed[_Where]] = {}
    for one in listed:
        other = first.setdefault(one.sample_id, one)
        if other is not one:
            raise DataError(f"{source}: {other.where} and {one.where} both name {one.sample_id!r}; remove one")


def require_any_file(listed: Iterable[Listed[_Where]], *, folder: Path | ObjectPath) -> None:
    """Check that one listed file is there at least; single absent ones are skipped with a reason when they are decoded.

    Raises:
        ConfigError: None is there.
    """
    absent = 0
    for one in listed:
        if one.path.exists():
            return
        absent += 1
    raise ConfigError(f"{printable(folder)}: holds none of the {absent} listed images; correct `root`")
