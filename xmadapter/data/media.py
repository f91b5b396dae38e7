"""Where an image lies, its bytes, and its pixels: media URI → bytes → RGB, under caps.

A media URI is a percent-encoded file path, on a disk or behind `s3://` or `gs://`. Behind it stands `#column=NAME&row=NUMBER`
for an image in a Parquet file, `#offset=BYTES&size=BYTES` for an image inside an archive, `#frame=NUMBER&of=NUMBER` for a
frame of a video, or `#idx=NUMBER` for an image in an IDX file. A bad image is no error of the program: it raises `BadImage`,
which callers turn into a skipped row.
"""

import io
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode

import numpy as np
from PIL import Image, UnidentifiedImageError

from xmadapter.data.arrow_stream import read_stream_cell
from xmadapter.data.cells import read_cell
from xmadapter.data.files import MAX_BYTES, MAX_PIXELS, BadImage, BadImageReason, one_line, open_regular, require_size
from xmadapter.data.idx_file import read_idx_image
from xmadapter.data.objects import AnyPath, ObjectPath, list_objects, local_copy
from xmadapter.data.video import frame_file, read_frame
from xmadapter.storage import is_remote, read_range

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "BadImage",
    "BadImageReason",
    "ByteRange",
    "FrameOf",
    "IdxRow",
    "MediaLocation",
    "decode_image",
    "media_uri",
    "parse_media_uri",
    "read_media",
]

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"II*\x00", b"MM\x00*")
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ByteRange(NamedTuple):
    """`size` bytes of a file, from `offset` on."""

    offset: int
    size: int


class FrameOf(NamedTuple):
    """The centre of segment `frame` (counted from 0) when a video is cut into `of` equal segments."""

    frame: int
    of: int


class IdxRow(NamedTuple):
    """Image number `idx`, counted from 0, of an IDX file."""

    idx: int


class MediaLocation(NamedTuple):
    """A parsed media URI; `column` and `row` are set together, for a row (counted from 0) of a Parquet file or Arrow stream.

    What ends in `.arrow` is such a stream.
    """

    path: AnyPath
    column: str | None = None
    row: int | None = None
    part: ByteRange | FrameOf | IdxRow | None = None


def media_uri(
    path: str | os.PathLike[str],
    *,
    column: str | None = None,
    row: int | None = None,
    part: ByteRange | FrameOf | IdxRow | None = None,
) -> str:
    """Write a location as ASCII text; any path that the system allows comes back from `parse_media_uri`.

    Raises:
        ValueError: Only one of `column` and `row` is given, or a part besides.

    Example:
        >>> media_uri("pets/a #1.parquet", column="image", row=41)
        'pets/a%20%231.parquet#column=image&row=41'
    """
    if (column is None) != (row is None):
        raise ValueError(f"column and row go together, got column={column!r} and row={row!r}")
    if part is not None and column is not None:
        raise ValueError(f"a Parquet row has no part, got column={column!r} and {part}")
    # A colon is kept where it ends the scheme of a bucket, and quoted in a file's name.
    place = quote(os.fsencode(path), safe="/:" if is_remote(os.fspath(path)) else "/")
    if part is not None:
        return f"{place}#{'&'.join(f'{name}={number}' for name, number in part._asdict().items())}"
    return place if column is None else f"{place}#{urlencode({'column': column, 'row': row})}"


def parse_media_uri(uri: str) -> MediaLocation:
    """Read what `media_uri` wrote.

    Raises:
        ValueError: What stands behind `#` is none of the forms above.
    """
    place, separator, fragment = uri.partition("#")
    name = os.fsdecode(unquote_to_bytes(place))
    path = ObjectPath(name) if is_remote(place) else Path(name)
    if not separator:
        return MediaLocation(path)
    match dict(parse_qsl(fragment, keep_blank_values=True)):
        case {"column": column, "row": row, **rest} if not rest and _is_number(row):
            return MediaLocation(path, column, int(row))
        case {"offset": offset, "size": size, **rest} if not rest and _is_number(offset) and _is_number(size):
            return MediaLocation(path, part=ByteRange(int(offset), int(size)))
        case {"frame": frame, "of": of, **rest} if not rest and _is_number(frame) and _is_number(of):
            return MediaLocation(path, part=FrameOf(int(frame), int(of)))
        case {"idx": idx, **rest} if not rest and _is_number(idx):
            return MediaLocation(path, part=IdxRow(int(idx)))
    forms = "column=NAME&row=NUMBER, offset=BYTES&size=BYTES, frame=NUMBER&of=NUMBER or idx=NUMBER"
    raise ValueError(f"{uri!r}: behind # stands {forms}")


def _is_number(text: str) -> bool:
    # 18 digits, so that it fits what the system calls take.
    return text.isascii() and text.isdigit() and len(text) <= 18


def read_media(uri: str) -> bytes:
    """Read the encoded bytes of one image, at most `MAX_BYTES`.

    For Parquet the file stays open and its last row group stays in memory, so reading rows in their order costs one pass;
    call that from one thread per process. A frame of a video comes as an uncompressed BMP. From a bucket an image, a byte range
    or a frame that is a file is one request; a file of rows or a video is fetched whole, once.

    Raises:
        BadImage: With reason missing, empty, not_regular, too_large, truncated or corrupt; not_image for a Parquet column
            without bytes.
        ValueError: The URI is malformed.
    """
    path, column, row, part = parse_media_uri(uri)
    if column is not None and row is not None:
        read = read_stream_cell if path.suffix == ".arrow" else read_cell
        return read(_copy(path), column, row)
    match part:
        case IdxRow(idx):
            return read_idx_image(_copy(path), idx)
        case FrameOf(frame, of):
            video = _video(path)
            if isinstance(video, Path) and not video.is_dir():
                return read_frame(video, frame, of)
            return _read_whole(frame_file(video, frame, of))
        case ByteRange():
            return _read_range(path, part)
        case None:
            return _read_whole(path)


def _read_whole(path: AnyPath) -> bytes:
    # One byte more than allowed, as a file may change after it was measured.
    if isinstance(path, ObjectPath):
        data = _request(path, 0, MAX_BYTES + 1)
    else:
        with open_regular(path) as file:
            require_size(os.fstat(file.fileno()).st_size)
            data = file.read(MAX_BYTES + 1)
    require_size(len(data))
    return data


def _read_range(path: AnyPath, part: ByteRange) -> bytes:
    require_size(part.size)
    if isinstance(path, ObjectPath):
        data = _request(path, part.offset, part.size)
    else:
        with open_regular(path) as file:
            data = os.pread(file.fileno(), part.size, part.offset)
    if len(data) < part.size:
        raise BadImage(
            "truncated", f"{len(data)} of {part.size} bytes at offset {part.offset}; the file became shorter"
        )
    return data


def _request(path: ObjectPath, offset: int, size: int) -> bytes:
    """Read from a bucket; a service that does not answer is no fault of the image, and rises."""
    try:
        return read_range(path.uri, offset, size)
    except FileNotFoundError as error:
        raise BadImage("missing", "no such object") from error


# Each look at the version of an object, or at the names in a folder, is a request: once per process is enough.
_copy = lru_cache(maxsize=16)(local_copy)


@lru_cache(maxsize=16)
def _video(path: AnyPath) -> AnyPath:
    """Find a video on the disk, or fetch it; behind a name that is no object, frames may lie."""
    try:
        return local_copy(path)
    except BadImage:
        folder = list_objects(ObjectPath(os.fspath(path)))
        if not folder.is_dir():
            raise
        return folder


def decode_image(data: bytes) -> Image.Image:
    """Decode an image to 8-bit RGB by one conversion, whatever it was.

    JPEG, PNG, WebP, BMP, GIF and TIFF are taken. Of an animation the first frame counts. The EXIF orientation is applied; one
    that cannot be read means upright. 16-bit grey keeps its high byte. Transparency is laid on white. Palettes, grey, 1-bit and
    CMYK follow Pillow's plain conversion; colour profiles are ignored. 32-bit pixels have no agreed range and are refused.

    Returns:
        Pixels only: nothing of the file's metadata stays.

    Raises:
        BadImage: With reason empty, too_large, not_image, truncated or corrupt. The size is judged from the header, before
            anything is decoded.
    """
    require_size(len(data))
    with _load(data) as image:
        turn = _TURNS.get(_orientation(image))
        pixels = _to_rgb(image)
    upright = pixels if turn is None else pixels.transpose(turn)
    upright.info.clear()
    return upright


def _load(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        _check_pixels(*image.size)
        image.load()
    except (BadImage, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage("too_large", f"over {MAX_PIXELS} pixels") from error
    except UnidentifiedImageError as error:
        if data.startswith(_SIGNATURES):
            raise BadImage("corrupt", "begins like an image, but its header cannot be read") from error
        raise BadImage("not_image", f"none of {', '.join(_FORMATS)}") from error
    except Exception as error:  # Pillow's decoders answer bad bytes with any of a dozen types
        reason = "truncated" if "truncated" in str(error).lower() or isinstance(error, EOFError) else "corrupt"
        raise BadImage(reason, one_line(error)) from error
    return image


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImage("too_large", f"{width} by {height} pixels; at most {MAX_PIXELS} are decoded")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # the pixels are sound; metadata alone costs no image
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise BadImage(
            "not_image", f"32-bit pixels (mode {image.mode}) have no agreed range; save it with 8 or 16 bits"
        )
    if image.mode.startswith("I;16"):
        # Pillow would clip at 255, which turns most 16-bit images white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    try:
        if not image.has_transparency_data:
            return image.convert("RGB")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("RGB")
    except ValueError as error:
        raise BadImage("not_image", f"pixels of mode {image.mode} cannot become RGB") from error
