"""An object in a bucket as a file, read in windows: what is skipped is not transferred, and nothing lands on the disk."""

import errno
import io
import os
from typing import TYPE_CHECKING, BinaryIO, cast

from xmadapter.storage import read_range, size_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["WINDOW_BYTES", "open_windows"]

WINDOW_BYTES = 4 * 1024**2
"""Bytes of one request: about as long under way as a request waits for its answer.

So an archive of small images is read once, in few requests, and members larger than this are skipped. The index of ten shards
with 615 MB of images of 100 KB took 2.9 s, eight shards at a time, simulated with 20 ms a request and 80 MB/s; with 64 KiB,
which is a request for each header, 22 s. Fetching them would take as long, and the disk for all of them.
"""


def open_windows(uri: str, *, window_bytes: int = WINDOW_BYTES) -> BinaryIO:
    """Open an object to read here and there in it, best in ascending order.

    Args:
        uri: Where it lies.
        window_bytes: Size of one request.

    Raises:
        FileNotFoundError: There is no such object.
    """
    size_bytes = size_of(uri)
    if size_bytes is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri)
    return cast(BinaryIO, io.BufferedReader(_Object(uri, size_bytes), window_bytes))


class _Object(io.RawIOBase):
    """An object as `io.BufferedReader` wants to see it: each `readinto` is one request."""

    def __init__(self, uri: str, size_bytes: int) -> None:
        self._uri, self._size_bytes, self._at = uri, size_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size_bytes}[whence]
        if start + offset < 0:
            raise ValueError(f"no place {start + offset} before the beginning of {self._uri}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        window = memoryview(buffer).cast("B")
        length = min(len(window), self._size_bytes - self._at)
        if length <= 0:
            return 0
        data = read_range(self._uri, self._at, length)
        window[: len(data)] = data
        self._at += len(data)
        return len(data)
