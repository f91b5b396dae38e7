"""Names in a bucket, asked as a reader asks a `Path`; all of them were listed at once."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Self

from xmadapter.storage import join, list_tree, size_of

__all__ = ["ObjectPath", "list_objects"]


@dataclass(frozen=True)
class ObjectPath:
    """An object, or a folder: what others begin with.

    Args:
        uri: Where it is.
        children: Of every folder of the listing, by its URI: URIs of what lies directly in it.
    """

    uri: str
    children: Mapping[str, list[str]] = field(repr=False, compare=False)

    def __fspath__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> Self:
        return replace(self, uri=join(self.uri, name))

    @property
    def name(self) -> str:
        """What stands behind the last `/`."""
        return self.uri.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Extension of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Self:
        """The folder it lies in."""
        return replace(self, uri=self.uri.rpartition("/")[0])

    def iterdir(self) -> Iterator[Self]:
        """Give what lies directly in a folder."""
        return (replace(self, uri=uri) for uri in self.children.get(self.uri, []))

    def exists(self) -> bool:
        """Say whether it is an object or a folder."""
        return self.is_dir() or size_of(self.uri) is not None

    def is_dir(self) -> bool:
        """Say whether it is a folder."""
        return self.uri in self.children

    def is_symlink(self) -> bool:
        """Say no: a bucket has no links."""
        return False

    def relative_to(self, root: Self) -> str:
        """Give its path below a folder that it lies in."""
        return self.uri.removeprefix(f"{root.uri}/")


def list_objects(uri: str) -> ObjectPath:
    """List all objects below a prefix; with none it is no folder."""
    root = uri.rstrip("/")
    children: dict[str, dict[str, None]] = defaultdict(dict)
    for name in list_tree(root):
        folder = root
        for part in name.split("/"):
            child = join(folder, part)
            children[folder][child] = None
            folder = child
    return ObjectPath(root, {folder: list(inside) for folder, inside in children.items()})
