"""Members of a tar archive by their place in it: nothing is extracted, and nothing but headers is read."""

import os
import tarfile
from collections.abc import Iterator
from typing import IO, BinaryIO, NamedTuple, cast

from xmadapter.data.names import is_below, printable
from xmadapter.errors import DataError

__all__ = ["Member", "tar_members"]

_MAX_MEMBERS = 5_000_000
_MAX_NAME_BYTES = 1024
_MAX_HEADER_BYTES = 1 << 20
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Member(NamedTuple):
    """A regular file in an archive; bytes of the name that are not UTF-8 are surrogates."""

    name: str
    offset: int
    size_bytes: int


class _Headers:
    """An archive as `tarfile` may see it: it reads headers only, so a large or endless read is a forged size."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header claims {size} bytes; at most {_MAX_HEADER_BYTES} are read")
        return self._file.read(size)


def tar_members(file: BinaryIO, *, source: str) -> Iterator[Member]:
    """List the regular files of an uncompressed archive in their order; folders and hidden files are left out.

    A leading `./` of a name is dropped. The end of the archive must be marked, so that a cut one is not taken for a short one.

    Args:
        file: The archive, seekable; whoever takes a member may read elsewhere before taking the next.
        source: Its name, for messages.

    Raises:
        DataError: The archive is compressed, cut short or damaged, or has too many members. A member is a link, a device or
            sparse, or its name is too long, absolute or leads elsewhere by `..`.
    """
    size_bytes, last = file.seek(0, os.SEEK_END), -1
    _refuse_compressed(file, source)
    try:
        archive = tarfile.open(  # noqa: SIM115  closing it does nothing: the file is the caller's
            fileobj=cast(IO[bytes], _Headers(file)), mode="r:", encoding="utf-8", errors="surrogateescape"
        )
        for _ in range(_MAX_MEMBERS):
            info = archive.next()
            if info is None:
                return _require_end(file, archive.offset, source)
            if info.offset <= last or info.size < 0:
                raise tarfile.ReadError("a header claims a negative size")
            last = info.offset
            if info.offset_data + info.size > size_bytes:
                raise tarfile.ReadError(f"{printable(info.name)!r} goes on behind the end of the file")
            # The list that tarfile keeps of them would hold a kilobyte for each.
            archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  not in the stubs
            if not info.isdir() and (name := _name(info, source)):
                yield Member(name, info.offset_data, info.size)
    except (tarfile.TarError, ValueError, RecursionError, OverflowError) as error:
        where = f"after the header at offset {last}" if last >= 0 else "at its beginning"
        raise DataError(
            f"{source}: not a whole tar archive, {where}: {printable(str(error))}; copy or write it again"
        ) from error
    raise DataError(f"{source}: over {_MAX_MEMBERS} members; write smaller shards")


def _refuse_compressed(file: BinaryIO, source: str) -> None:
    file.seek(0)
    start = file.read(8)
    file.seek(0)
    for signature, name in _COMPRESSED.items():
        if start.startswith(signature):
            raise DataError(
                f"{source}: compressed with {name}, so no image can be read by its place; decompress it, images gain nothing"
            )


def _require_end(file: BinaryIO, offset: int, source: str) -> None:
    """Refuse an archive that stops without the block of zeros; `tarfile` takes that, and a damaged header, for the end."""
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if block != bytes(tarfile.BLOCKSIZE):
        fault = "a damaged header" if len(block) == tarfile.BLOCKSIZE else "no mark of its end, it is cut short"
        raise DataError(f"{source}: {fault} at offset {offset}; copy or write it again")


def _name(info: tarfile.TarInfo, source: str) -> str:
    """Return the name of a regular file, or nothing for a hidden one."""
    name = info.name.removeprefix("./")
    if len(name.encode("utf-8", "surrogateescape")) > _MAX_NAME_BYTES:
        fault = f"has a name of over {_MAX_NAME_BYTES} bytes; rename it"
    elif not info.isreg() or info.issparse():
        fault = "is a link, device or sparse file; write the archive again with plain files (tar --hard-dereference)"
    elif not is_below(name):
        fault = "has an absolute name or one with ..; write the archive again with relative names"
    else:
        return "" if name.rpartition("/")[2].startswith(".") else name
    raise DataError(f"{source}: member {printable(name[:80])!r} at offset {info.offset} {fault}")
