"""Files and folders of a data set, on a disk or in a bucket, asked alike; what lies in a bucket is listed at once."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from xmadapter.data.files import BadImage, open_regular
from xmadapter.data.windows import open_windows
from xmadapter.storage import fetch, is_remote, join, list_tree, local_path, size_of

__all__ = ["AnyPath", "ObjectPath", "any_path", "list_objects", "local_copy", "open_any"]


@dataclass(frozen=True)
class ObjectPath:
    """An object, or a folder: what others begin with. It answers as a `Path` does.

    Args:
        uri: Where it is.
        children: Of every folder of the listing, by its URI: URIs of what lies directly in it. Empty where nothing was listed;
            then it is no folder, and each question whether it exists is a request.
    """

    uri: str
    children: Mapping[str, Collection[str]] = field(default_factory=dict, repr=False, compare=False)

    def __fspath__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(join(self.uri, name), self.children)

    @property
    def name(self) -> str:
        """What stands behind the last `/`."""
        return self.uri.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Extension of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "ObjectPath":
        """The folder it lies in."""
        return ObjectPath(self.uri.rpartition("/")[0], self.children)

    def iterdir(self) -> Iterator["ObjectPath"]:
        """Give what lies directly in a folder."""
        return (ObjectPath(uri, self.children) for uri in self.children.get(self.uri, ()))

    def exists(self) -> bool:
        """Say whether it is an object or a folder."""
        if self.children:
            return self.is_dir() or self.uri in self.children.get(self.parent.uri, ())
        return size_of(self.uri) is not None

    def is_dir(self) -> bool:
        """Say whether it is a folder."""
        return self.uri in self.children

    def is_symlink(self) -> bool:
        """Say no: a bucket has no links."""
        return False

    def relative_to(self, root: str | os.PathLike[str]) -> str:
        """Give its path below a folder that it lies in."""
        return self.uri.removeprefix(f"{os.fspath(root)}/")


AnyPath = Path | ObjectPath
"""A file or folder, on a disk or in a bucket."""


def any_path(uri: str) -> AnyPath:
    """Say where a URI leads, without looking: an absolute path, or what is in a bucket and not yet listed."""
    return ObjectPath(uri.rstrip("/")) if is_remote(uri) else local_path(uri).absolute()


def list_objects(folder: ObjectPath) -> ObjectPath:
    """List all objects below a folder, a thousand a request; with none it is no folder."""
    children: dict[str, dict[str, None]] = defaultdict(dict)
    for name in list_tree(folder.uri):
        place = folder.uri
        for part in name.split("/"):
            child = join(place, part)
            children[place][child] = None
            place = child
    return ObjectPath(folder.uri, dict(children))


def local_copy(path: AnyPath) -> Path:
    """Give a file on the disk: the path itself, or a copy of the object, fetched once.

    Raises:
        BadImage: With reason missing, where there is no such object; a path is not looked at.
    """
    if isinstance(path, Path):
        return path
    try:
        return fetch(path.uri)
    except FileNotFoundError as error:
        raise BadImage("missing", "no such object") from error


def open_any(path: AnyPath) -> BinaryIO:
    """Open a file to read here and there in it; an object is not fetched, see `open_windows`.

    Raises:
        BadImage: With reason missing or not_regular.
    """
    if isinstance(path, Path):
        return open_regular(path)
    try:
        return open_windows(path.uri)
    except FileNotFoundError as error:
        raise BadImage("missing", "no such object") from error
