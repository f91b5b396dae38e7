"""Folders and list files of a data set: order and names follow bytes, whatever the locale; lists lead nowhere outside."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from xmadapter.data.files import BadImage, open_regular
from xmadapter.data.media import media_uri
from xmadapter.data.names import as_bytes, is_below, printable
from xmadapter.data.objects import AnyPath, ObjectPath, any_path, list_objects, local_copy
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
    "require_root",
    "scan",
    "subfolders",
]

_MAX_LIST_BYTES = 1024**3
_LOOKS = 20
"""How many files are looked for one by one; the first is nearly always there."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""How the name of an image ends, in lower case."""


def is_text(name: str) -> bool:
    """Say whether a name is visible text of one line, fit for a prompt."""
    plain = name.replace("%", "")
    return bool(name.strip()) and printable(plain) == plain


def require_folder(folder: AnyPath, *, setting: str = "root") -> AnyPath:
    """Return the folder if it is one, in a bucket with the names of all that lies below it.

    Raises:
        ConfigError: It does not exist or is no folder.
    """
    if isinstance(folder, ObjectPath) and not folder.children:
        folder = list_objects(folder)
    if not folder.is_dir():
        reason = "not a folder" if folder.exists() else "no such folder"
        raise ConfigError(f"{printable(folder)}: {reason}; correct `{setting}`")
    return folder


def require_root(root: str) -> AnyPath:
    """Return the folder to which a list's names are relative, if it is one.

    In a bucket it is not looked at: the list says what is there, and `require_any_file` finds out whether that is so.

    Raises:
        ConfigError: On a disk, it does not exist or is no folder.
    """
    folder = any_path(root)
    return require_folder(folder) if isinstance(folder, Path) else folder


def scan(folder: AnyPath) -> list[tuple[str, bool]]:
    """List names that do not begin with a dot, in any order, and whether each is a folder.

    As text, since a million of `Path` objects take a minute.

    Raises:
        OSError: A folder on a disk cannot be listed.
    """
    if isinstance(folder, ObjectPath):
        found = [(path.name, path.is_dir()) for path in folder.iterdir()]
    else:
        with os.scandir(folder) as listed:
            found = [(entry.name, entry.is_dir()) for entry in listed]
    return [(name, is_folder) for name, is_folder in found if not name.startswith(".")]


def entries(folder: AnyPath) -> list[AnyPath]:
    """List what does not begin with a dot, in the order of raw bytes.

    Raises:
        DataError: The folder cannot be listed.
    """
    try:
        return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=os.fsencode)
    except OSError as error:
        raise DataError(f"{printable(folder)}: cannot list it ({error.strerror}); check its permissions") from error


def subfolders(folder: AnyPath) -> list[AnyPath]:
    """List folders and links to folders, in the order of raw bytes."""
    return [path for path in entries(folder) if path.is_dir()]


class Listed(NamedTuple):
    """An image that a list names: its id, where it lies, and the record that named it."""

    sample_id: str
    path: AnyPath
    where: str

    @property
    def media(self) -> str:
        """Media URI of the file."""
        return media_uri(self.path)


def read_list(path: AnyPath, *, setting: str) -> bytes:
    """Read a list file whole, at most 1 GiB.

    Args:
        path: The file; an object is fetched.
        setting: Key of the config that leads to it, for messages.

    Raises:
        ConfigError: It does not exist.
        DataError: It is no regular file, or larger.
    """
    try:
        with open_regular(local_copy(path)) as file:
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


def locate(name: str, *, folder: AnyPath, source: str, where: str) -> Listed:
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
    # A name that no object can have would end an encoding later, where on a disk one image is missing.
    unfit = isinstance(folder, ObjectPath) and not is_text(relative)
    if not raw or relative == "." or unfit or not is_below(name):
        raise DataError(f"{source}: {where}: {printable(name)!r} is no path below {printable(folder)}; correct it")
    return Listed(printable(relative), folder / os.fsdecode(raw), where)


def require_once(listed: Iterable[Listed], *, source: str) -> None:
    """Check that no file is listed twice, also under two spellings of one path.

    Raises:
        DataError: One is; names both records.
    """
    first: dict[str, Listed] = {}
    for one in listed:
        other = first.setdefault(one.sample_id, one)
        if other is not one:
            raise DataError(f"{source}: {other.where} and {one.where} both name {one.sample_id!r}; remove one")


def require_any_file(listed: Iterable[Listed], *, folder: AnyPath) -> None:
    """Check that one listed file is there at least; single absent ones are skipped with a reason when they are decoded.

    Raises:
        ConfigError: None is there.
    """
    paths = [one.path for one in listed]
    if any(path.exists() for path in paths[:_LOOKS]):
        return
    if isinstance(folder, ObjectPath):
        # Each further look would be a request; by one, a listing tells of a thousand names.
        there = require_folder(folder)
        paths = [there / str(path.relative_to(folder)) for path in paths]
    if not any(path.exists() for path in paths):
        raise ConfigError(f"{printable(folder)}: holds none of the {len(paths)} listed images; correct `root`")
