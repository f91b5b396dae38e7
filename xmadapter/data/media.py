"""Where an image lies, its bytes, and its pixels: media URI → bytes → RGB, under caps.

A media URI is a percent-encoded file path, with `#column=NAME&row=NUMBER` behind it for an image in a Parquet file. A bad image
is no error of the program: it raises `BadImage`, which callers turn into a skipped row.
"""

import io
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode

import numpy as np
from PIL import Image, UnidentifiedImageError

from xmadapter.data.cells import read_cell
from xmadapter.data.files import MAX_BYTES, BadImage, BadImageReason, one_line, open_regular, require_size

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "BadImage",
    "BadImageReason",
    "MediaLocation",
    "decode_image",
    "media_uri",
    "parse_media_uri",
    "read_media",
]

MAX_PIXELS = 50_000_000
"""Width times height of one image. Pillow's own check lets 100 megapixels pass."""

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


class MediaLocation(NamedTuple):
    """A parsed media URI; `column` and `row` are set together, for a row (counted from 0) of a Parquet file."""

    path: Path
    column: str | None = None
    row: int | None = None


def media_uri(path: str | Path, *, column: str | None = None, row: int | None = None) -> str:
    """Write a location as ASCII text; any path that the system allows comes back from `parse_media_uri`.

    Raises:
        ValueError: Only one of `column` and `row` is given.

    Example:
        >>> media_uri("pets/a #1.parquet", column="image", row=41)
        'pets/a%20%231.parquet#column=image&row=41'
    """
    if (column is None) != (row is None):
        raise ValueError(f"column and row go together, got column={column!r} and row={row!r}")
    place = quote(os.fsencode(path))
    return place if column is None else f"{place}#{urlencode({'column': column, 'row': row})}"


def parse_media_uri(uri: str) -> MediaLocation:
    """Read what `media_uri` wrote.

    Raises:
        ValueError: What stands behind `#` is not one column and one row.
    """
    place, separator, fragment = uri.partition("#")
    path = Path(os.fsdecode(unquote_to_bytes(place)))
    if not separator:
        return MediaLocation(path)
    fields = dict(parse_qsl(fragment, keep_blank_values=True))
    if fields.keys() != {"column", "row"} or not (fields["row"].isascii() and fields["row"].isdigit()):
        raise ValueError(f"{uri!r}: behind # stands column=NAME&row=NUMBER")
    return MediaLocation(path, fields["column"], int(fields["row"]))


def read_media(uri: str) -> bytes:
    """Read the encoded bytes of one image, at most `MAX_BYTES`.

    For Parquet the file stays open and its last row group stays in memory, so reading rows in their order costs one pass;
    call that from one thread per process.

    Raises:
        BadImage: With reason missing, empty, not_regular, too_large or corrupt; not_image for a Parquet column without bytes.
        ValueError: The URI is malformed.
    """
    path, column, row = parse_media_uri(uri)
    if column is not None and row is not None:
        return read_cell(path, column, row)
    with open_regular(path) as file:
        require_size(os.fstat(file.fileno()).st_size)
        # One byte more than allowed, as a file may change after it was measured.
        data = file.read(MAX_BYTES + 1)
    require_size(len(data))
    return data


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
