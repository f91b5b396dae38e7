"""Durable bytes on a file system; the one seam for injected I/O faults.

The commit order is always: temporary name, fsync, final name, fsync of the folder. A reader therefore sees a file whole or
not at all, and a full disk leaves no final name behind.
"""

import errno
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from xmadapter.errors import ResourceError

__all__ = [
    "append_durably",
    "local_path",
    "make_folder",
    "make_folder_whole",
    "mend_tail",
    "put_if_absent",
    "remove",
    "sweep_temporary",
    "write_durably",
]

_TEMPORARY = ".tmp-"
_DAY_S = 86_400
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


def local_path(uri: str) -> Path:
    """Turn a path or `file://` URI into a path, with `~` expanded.

    Raises:
        ResourceError: The URI has another scheme.
    """
    scheme, separator, rest = uri.partition("://")
    if separator and scheme != "file":
        raise ResourceError(f"{uri}: only local paths and file:// are supported; mount it or copy it to a local folder")
    return Path(rest if separator else uri).expanduser()


def make_folder(folder: Path) -> Path:
    """Create a folder and its parents; an existing one is fine."""
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_durably(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace `path` by what `write` puts into the file it is given, all or nothing."""
    with _explained(path), _temporary(path, write) as temporary:
        os.replace(temporary, path)  # noqa: PTH105  the seam that tests inject faults into
        _sync_folder(path.parent)


def put_if_absent(path: Path, data: bytes) -> bool:
    """Create `path` with `data` unless it exists; of several writers exactly one gets True.

    A hard link fails when the name is taken, where a rename would replace it and lose an update.
    """
    with _explained(path), _temporary(path, lambda file: file.write(data)) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        _sync_folder(path.parent)
        return True


def append_durably(path: Path, data: bytes) -> None:
    """Append to a file and fsync it, so that a finished call survives a killed process."""
    with _explained(path):
        new = not path.exists()
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if new:
            _sync_folder(path.parent)


def mend_tail(path: Path, is_whole: Callable[[bytes], bool]) -> None:
    """End a file of lines in a whole line: finish one that lacks only its newline, cut off one that a killed writer left torn."""
    if not path.is_file():
        return
    with _explained(path), path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if file.read(1) in (b"", b"\n"):
            return
        file.seek(0)
        end = file.read().rfind(b"\n") + 1
        file.seek(end)
        if is_whole(file.read()):
            file.write(b"\n")
        else:
            file.truncate(end)


def make_folder_whole(target: Path, files: Mapping[str, bytes]) -> None:
    """Create a folder with files: it appears under its name with all of them, or not at all."""
    make_folder(target.parent)
    with _explained(target):
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=target.parent))
        try:
            folder.chmod(0o755)
            for name, data in files.items():
                write_durably(folder / name, lambda file, data=data: file.write(data))
            os.replace(folder, target)  # noqa: PTH105  as above
            _sync_folder(target.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove(path: Path) -> None:
    """Delete a file; an absent one is fine."""
    path.unlink(missing_ok=True)


def sweep_temporary(folder: Path) -> int:
    """Delete what killed writers left under a temporary name; returns how many files.

    A file is an orphan when its writer ran on this host and is gone, or when it is a day old: others may be writing now.
    """
    orphans = [path for path in folder.glob(f"{_TEMPORARY}*") if _is_orphan(path)]
    for orphan in orphans:
        remove(orphan)
    return len(orphans)


def _is_orphan(path: Path) -> bool:
    host, _, rest = path.name.removeprefix(_TEMPORARY).rpartition("-")[0].rpartition("-")
    if host == socket.gethostname() and rest.isdigit():
        try:
            os.kill(int(rest), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
    try:
        return time.time() - path.stat().st_mtime > _DAY_S
    except FileNotFoundError:
        return False


@contextmanager
def _temporary(path: Path, write: Callable[[BinaryIO], object]) -> Iterator[Path]:
    temporary = path.parent / f"{_TEMPORARY}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(8)}"
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        remove(temporary)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal into a message that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            advice = "free some space and run the same command again"
        else:
            advice = "check the path and its permissions, or choose another output"
        raise ResourceError(
            f"cannot write {path}: {os.strerror(error.errno or errno.EIO)}; what was finished is kept; {advice}"
        ) from error
