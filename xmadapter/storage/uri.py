"""Bytes at a URI, on a disk or in a bucket: a plain path, `file://`, `s3://bucket/key` or `gs://bucket/key`.

A name on a disk gets its folder when it is written. Failures are `ResourceError`, or `RetryLater` where the same call may
succeed later; what is absent is a `FileNotFoundError`, None or an empty list, as each function says.
"""

import hashlib
import os
import shutil
from pathlib import Path

from xmadapter.errors import ResourceError
from xmadapter.storage import disk, folders

__all__ = [
    "fetch",
    "free_bytes",
    "is_remote",
    "join",
    "list_names",
    "list_tree",
    "local_path",
    "modified_s",
    "move",
    "put_if_absent",
    "read_bytes",
    "read_range",
    "remove",
    "size_of",
    "sweep_temporary",
    "write_bytes",
]

_SCHEMES = ("s3://", "gs://")


def is_remote(uri: str | Path) -> bool:
    """Tell whether a URI lies in a bucket; a `Path` never does."""
    return isinstance(uri, str) and uri.startswith(_SCHEMES)


def local_path(uri: str | Path) -> Path:
    """Turn a path or `file://` URI into a path, with `~` expanded.

    Raises:
        ResourceError: The URI has another scheme.
    """
    scheme, separator, rest = str(uri).partition("://")
    if separator and scheme != "file":
        raise ResourceError(f"{uri}: only local paths and file:// are supported; mount it or copy it to a local folder")
    return Path(rest if separator else scheme).expanduser()


def join(root: str | Path, *parts: str) -> str:
    """Put names behind a root, which keeps its scheme.

    Example:
        >>> join("s3://bucket/pets/", "records", "000001.json")
        's3://bucket/pets/records/000001.json'
    """
    first = str(root) or "."
    return "/".join([first.rstrip("/"), *parts]) if parts else first


def read_bytes(uri: str | Path) -> bytes:
    """Read a file whole.

    Raises:
        FileNotFoundError: There is no such file.
    """
    return _buckets().read_bytes(str(uri)) if is_remote(uri) else disk.read_bytes(local_path(uri))


def read_range(uri: str | Path, offset: int, length: int) -> bytes:
    """Read at most `length` bytes from `offset` on, by one request; fewer at the end of the file, none behind it.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if is_remote(uri):
        return _buckets().read_range(str(uri), offset, length)
    return disk.read_range(local_path(uri), offset, length)


def size_of(uri: str | Path) -> int | None:
    """Size of a file in bytes; None when there is none, or a folder."""
    if is_remote(uri):
        found = _buckets().state_of(str(uri))
        return None if found is None else found.size_bytes
    state = disk.state_of(local_path(uri))
    return None if state is None else state.st_size


def free_bytes(uri: str | Path) -> int | None:
    """Bytes that may still be written to the disk of a folder; None in a bucket, which has no end."""
    return None if is_remote(uri) else shutil.disk_usage(local_path(uri)).free


def modified_s(uri: str | Path) -> float | None:
    """When a file was written, in seconds since 1970 by the clock of its disk or bucket; None when there is none."""
    if is_remote(uri):
        found = _buckets().state_of(str(uri))
        return None if found is None else found.modified_s
    state = disk.state_of(local_path(uri))
    return None if state is None else state.st_mtime


def list_names(folder_uri: str | Path) -> list[str]:
    """List the files directly in a folder, without temporary ones, sorted by their bytes; an absent folder has none."""
    return (
        _buckets().list_names(str(folder_uri)) if is_remote(folder_uri) else folders.list_names(local_path(folder_uri))
    )


def list_tree(folder_uri: str | Path) -> list[str]:
    """List every file below a folder by its path there, without temporary ones, sorted by bytes; an absent folder has none."""
    return _buckets().list_tree(str(folder_uri)) if is_remote(folder_uri) else folders.list_tree(local_path(folder_uri))


def write_bytes(uri: str | Path, data: bytes | memoryview) -> None:
    """Write a file, or replace it: all or nothing, and durably."""
    if is_remote(uri):
        _buckets().write_bytes(str(uri), data)
        return
    path = local_path(uri)
    folders.make_folder(path.parent)
    disk.write_bytes(path, data)


def put_if_absent(uri: str | Path, data: bytes | memoryview) -> bool:
    """Create a file unless it exists; of several writers exactly one gets True.

    Raises:
        ResourceError: The bucket's service cannot do this; says what can.
    """
    if is_remote(uri):
        return _buckets().put_if_absent(str(uri), data)
    path = local_path(uri)
    folders.make_folder(path.parent)
    return disk.put_if_absent(path, data)


def move(source: str | Path, target: str | Path) -> None:
    """Give a file another name on the same disk or in the same bucket; what stood there is replaced.

    In a bucket this is a copy and then a deletion: a fault between them leaves both names.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if is_remote(source):
        _buckets().move(str(source), str(target))
        return
    path = local_path(target)
    folders.make_folder(path.parent)
    disk.move(local_path(source), path)


def remove(uri: str | Path) -> None:
    """Delete a file; an absent one is fine."""
    if is_remote(uri):
        _buckets().remove(str(uri))
    else:
        disk.remove(local_path(uri))


def sweep_temporary(folder: str | Path) -> int:
    """Delete what killed writers left in a folder under a temporary name; returns how many. A bucket never has any."""
    return 0 if is_remote(folder) else folders.sweep_temporary(local_path(folder))


def fetch(uri: str | Path) -> Path:
    """Give a local file to map into memory: the file itself, or a copy of a remote one, made once.

    Copies lie in `$XMADAPTER_CACHE`, else `~/.cache/xmadapter`, under a hash of URI, size and version; deleting them is safe
    when nothing reads them.

    Raises:
        FileNotFoundError: There is no such file.
        ResourceError: The cache cannot be written.
    """
    if not is_remote(uri):
        return local_path(uri)
    buckets = _buckets()
    found = buckets.state_of(str(uri))
    if found is None:
        raise FileNotFoundError(str(uri))
    copy = cache_folder("objects") / hashlib.sha256(f"{uri}\0{found.size_bytes}\0{found.version}".encode()).hexdigest()
    state = disk.state_of(copy)
    if state is None or state.st_size != found.size_bytes:
        folders.make_folder(copy.parent)
        disk.write_durably(copy, lambda file: buckets.read_into(str(uri), found, file))
    return copy


def cache_folder(name: str) -> Path:
    """Name this machine's folder for one kind of thing that can be made again: in `$XMADAPTER_CACHE`, else `~/.cache/xmadapter`."""
    place = os.environ.get("XMADAPTER_CACHE")
    return (Path(place) if place else Path.home() / ".cache" / "xmadapter").expanduser().absolute() / name


def _buckets():  # noqa: ANN202  a module, whose functions are known by inference only
    # Imported late, so that files on a disk need neither the extra nor its time.
    from xmadapter.storage import buckets

    return buckets
