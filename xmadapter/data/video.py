"""Frames of a video file or of a folder of frames: the centres of equal segments, the same pixels on every machine."""

import io
import os
import re
import weakref
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from xmadapter.data.files import MAX_PIXELS, BadImage, FileVersion, file_version, one_line, open_regular
from xmadapter.data.names import printable
from xmadapter.data.objects import AnyPath
from xmadapter.errors import MissingExtra

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["centres", "frame_file", "read_frame", "read_frames"]

_MAX_PACKETS = 10_000_000
_FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
# Playlists are not among them: one can name files and addresses that FFmpeg would open.
_FORMATS = "mov,matroska,webm,avi,flv,mpeg,mpegts,asf,ogg"
# Their packets carry the time of presentation; others, such as AVI with B-frames, are counted from the beginning.
_EXACT = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})


def centres(count: int, n: int) -> list[int]:
    """Cut `count` frames into `n` equal segments and give the frame at the centre of each, counted from 0.

    With fewer frames than segments, frames repeat, each about equally often.

    Example:
        >>> centres(10, 4), centres(2, 4)
        ([1, 3, 6, 8], [0, 0, 1, 1])
    """
    return [(2 * segment + 1) * count // (2 * n) for segment in range(n)]


def read_frames(path: Path, n: int) -> list[np.ndarray]:
    """Decode the centres of `n` segments of a video file to RGB, uint8, height by width by 3.

    Raises:
        BadImage: As for `read_frame`.
        MissingExtra: PyAV is not installed.
    """
    video = _video(path)
    return [video.frame(number) for number in centres(video.count, n)]


def read_frame(path: Path, frame: int, of: int) -> bytes:
    """Decode one of the frames that `read_frames` gives and write it as BMP, which keeps every bit and costs no time.

    Frames are upright: a rotation that the file tells is applied; the shape of pixels and interlacing are not. The last file
    stays open, so frames in their order cost one pass over it at most. Called from one thread per process.

    Raises:
        BadImage: With reason missing, not_regular, empty (no frames), not_image (no video in the file), too_large, truncated
            or corrupt.
        MissingExtra: PyAV is not installed.
    """
    if not frame < of:
        raise BadImage("missing", f"no frame {frame} of {of}")
    video = _video(path)
    file = io.BytesIO()
    Image.fromarray(video.frame(centres(video.count, of)[frame])).save(file, "BMP")
    return file.getvalue()


def frame_file(folder: AnyPath, frame: int, of: int) -> AnyPath:
    """Choose one of `of` images from a folder of frames; numbers in names count as numbers, so 10.jpg follows 9.jpg.

    Raises:
        BadImage: With reason missing, or empty if no image is there.
    """
    try:
        names = [path.name for path in folder.iterdir() if path.suffix.lower() in _FRAME_SUFFIXES]
    except OSError as error:
        raise BadImage("missing", error.strerror or "cannot list it") from error
    frames = sorted((name for name in names if not name.startswith(".")), key=_natural)
    if not frames:
        raise BadImage("empty", "a folder without images of frames")
    if not frame < of:
        raise BadImage("missing", f"no frame {frame} of {of}")
    return folder / frames[centres(len(frames), of)[frame]]


def _natural(name: str) -> tuple[list[bytes | int], bytes]:
    raw = os.fsencode(name)
    parts = re.split(rb"(\d+)", raw)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], raw


def _video(path: Path) -> "_Video":
    version = file_version(path)
    if not version.size_bytes:
        raise BadImage("empty", "0 bytes")
    return _opened(version)


@lru_cache(maxsize=1)
def _opened(version: FileVersion) -> "_Video":
    return _Video(open_regular(version.path))


class _Video:
    """An open video that gives frames by their number; it goes on from where it is, or from a key frame if that is nearer.

    Args:
        file: The video; closed with this object.

    Raises:
        BadImage: It is no video, has no frames, or ends before they do.
    """

    def __init__(self, file: BinaryIO) -> None:
        weakref.finalize(self, file.close)
        self._file = file
        self._container, self._stream = _open(file)
        self._times, self._keys, self.count = _timeline(self._container, self._stream)
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._at, self._pixels = -1, np.zeros((0, 0, 3), np.uint8)
        self._restart(0)

    def frame(self, number: int) -> np.ndarray:
        if number != self._at:
            self._pixels = self._decode(number)
            self._at = number
        return self._pixels

    def _decode(self, number: int) -> np.ndarray:
        key = bisect_right(self._keys, number) - 1
        start = self._keys[key] if key >= 0 else 0
        if number < self._next or start > self._next:
            self._restart(start)
        try:
            picture = self._forward(number)
            if picture is None and start > 0:  # some files answer a seek with a later key frame
                self._restart(0)
                picture = self._forward(number)
        except _av().FFmpegError as error:
            raise BadImage("corrupt", _said(error)) from error
        if picture is None:
            raise BadImage("truncated", f"frame {number} of {self.count} cannot be decoded; the file ends before it")
        return _pixels(picture)

    def _forward(self, number: int) -> "av.VideoFrame | None":
        """Decode up to a frame; None if it is passed or the file ends."""
        for picture in self._frames:
            at = self._number(picture)
            self._next = at + 1
            if at >= number:
                return picture if at == number else None
        return None

    def _number(self, picture: "av.VideoFrame") -> int:
        if not self._times or picture.pts is None:
            return self._next
        return bisect_right(self._times, picture.pts) - 1

    def _restart(self, number: int) -> None:
        """Go to a key frame, or to the beginning."""
        self._at = -1
        self._next = number
        if number:
            self._container.seek(self._times[number], stream=self._stream)
        else:
            self._file.seek(0)
            self._container, self._stream = _open(self._file)
        self._frames = self._container.decode(self._stream)


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingExtra("videos need PyAV: pip install 'xmadapter[video]'") from error
    return av


def _open(file: BinaryIO) -> "tuple[InputContainer, VideoStream]":
    av = _av()
    limits = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
    try:
        container = av.open(file, container_options=limits, metadata_errors="replace")
        stream = container.streams.best("video")
    except (av.FFmpegError, ValueError) as error:
        raise BadImage("corrupt", f"no video, or cut short: {_said(error)}") from error
    if stream is None and container.streams.audio:
        raise BadImage("not_image", "no video in the file")
    if stream is None or stream.codec_context is None:
        raise BadImage("corrupt", "no stream that can be decoded")
    _check_pixels(stream.codec_context.width, stream.codec_context.height)
    stream.codec_context.thread_count = 1  # a worker per core decodes already
    return container, stream


def _timeline(container: "InputContainer", stream: "VideoStream") -> tuple[list[int], list[int], int]:
    """Read the times of all frames without decoding one.

    Returns:
        Ascending times of presentation; numbers of the frames at which decoding can begin; the number of frames. Where times
        cannot be relied upon, the first two are empty.
    """
    times, keys, packets = [], [], 0
    exact = container.format.name in _EXACT
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            packets += 1
            if packet.is_corrupt:
                raise BadImage("truncated", f"the data of packet {packets - 1} is not whole")
            if packets > _MAX_PACKETS:
                raise BadImage("too_large", f"over {_MAX_PACKETS} packets")
            if not packet.is_discard:
                times.append(packet.pts)
                keys += [packet.pts] if packet.is_keyframe else []
    except _av().FFmpegError as error:
        raise BadImage("truncated", _said(error)) from error
    if not times:
        raise BadImage("empty", "a video without frames")
    if packets < stream.frames and exact:
        raise BadImage("truncated", f"{packets} of {stream.frames} frames are there")
    if not exact or None in times or len(set(times)) < len(times):
        return [], [], len(times)
    ordered = sorted(times)
    return ordered, sorted(bisect_right(ordered, key) - 1 for key in keys), len(ordered)


def _said(error: Exception) -> str:
    """What FFmpeg says, without the number of the file descriptor that it takes for a name."""
    return printable(getattr(error, "strerror", None) or one_line(error))


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImage("too_large", f"{width} by {height} pixels; at most {MAX_PIXELS} are decoded")


def _pixels(picture: "av.VideoFrame") -> np.ndarray:
    """Convert to upright RGB, exactly: FFmpeg's quick conversion differs between processors in the last bit."""
    _check_pixels(picture.width, picture.height)
    if picture.is_corrupt:
        raise BadImage("corrupt", "a frame is damaged")
    flags = _av().video.reformatter.Interpolation
    exact = flags.BILINEAR | flags.ACCURATE_RND | flags.BITEXACT
    rgb = picture.to_ndarray(format="rgb24", interpolation=exact, threads=1)
    return np.ascontiguousarray(np.rot90(rgb, round(picture.rotation / 90)))
