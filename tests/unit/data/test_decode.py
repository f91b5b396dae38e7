"""Decoding: one conversion for every kind of image, and a reason for what is none."""

import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.unit.data.makers import encoded, picture
from xmadapter.data import MAX_BYTES, BadImage, decode_image


def reason_to_decode(data: bytes) -> str:
    with pytest.raises(BadImage) as caught:
        decode_image(data)
    return caught.value.reason


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    "data", [b"some text", SVG, b"\0" * 500, encoded(picture("x"), "ICO"), encoded(picture("x"), "PPM")]
)
def test_other_formats_are_not_images(data: bytes) -> None:
    assert reason_to_decode(data) == "not_image"


def test_eps_is_refused_without_starting_ghostscript(tmp_path: Path) -> None:
    shim = tmp_path / "gs"
    shim.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    shim.chmod(0o755)
    code = f"from xmadapter.data import decode_image; decode_image({EPS!r})"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "not_image" in finished.stderr
    assert not (tmp_path / "started").exists()


KINDS = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"]


@pytest.mark.parametrize("kind", KINDS)
def test_half_an_image_is_refused(kind: str) -> None:
    data = encoded(picture("x", size=64), kind)
    assert reason_to_decode(data[: len(data) // 2]) in {"truncated", "corrupt"}


def test_a_cut_jpeg_is_called_truncated() -> None:
    data = encoded(picture("x", size=64), "JPEG")
    assert reason_to_decode(data[:-50]) == "truncated"


def test_a_head_alone_is_called_corrupt() -> None:
    assert reason_to_decode(encoded(picture("x"), "PNG")[:10]) == "corrupt"


@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8),
    st.data(),
)
def test_damaged_bytes_give_rgb_or_bad_image_and_nothing_else(
    kind: str, changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    damaged = bytearray(encoded(picture("x", size=24), kind))
    for position, value in changes:
        damaged[position % len(damaged)] = value
    cut = data.draw(st.integers(0, len(damaged)))
    try:
        outcome = decode_image(bytes(damaged[:cut])).mode
    except BadImage as bad:
        outcome = bad.detail
    assert outcome == "RGB" or outcome.count("\n") == 0


def png_header(width: int, height: int, *, bits: int = 1, body: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """Images of a few bytes that claim 51 megapixels up to gigapixels."""
    webp = b"VP8X" + struct.pack("<IB3x", 10, 0x02) + (19999).to_bytes(3, "little") + (19999).to_bytes(3, "little")
    webp += b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    jpeg = encoded(Image.new("L", (8, 8)), "JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5
    tiff = b"II*\x00" + struct.pack("<IH", 8, 4)
    for tag, value in ((256, 40_000), (257, 40_000), (262, 1), (273, 8)):
        tiff += struct.pack("<HHII", tag, 4, 1, value)
    return {
        "png-100-megapixels": png_header(10_000, 10_000, body=zlib.compress(bytes(12_510_000), 9)),
        "png-51-megapixels": png_header(10_200, 5_000, body=zlib.compress(b"")),
        "png-4-gigapixels": png_header(65_535, 65_535),
        "gif": b"GIF89a"
        + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0)
        + b"\x08\x00;",
        "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0),
        "jpeg": jpeg[:frame] + struct.pack(">HH", 65_500, 65_500) + jpeg[frame + 4 :],
        "tiff": tiff + bytes(4),
        "webp": b"RIFF" + struct.pack("<I", len(webp) + 4) + b"WEBP" + webp,
    }


WATCHED = """
import pickle, resource, sys, time, warnings
from xmadapter.data import BadImage, decode_image
warnings.simplefilter("ignore")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, data in pickle.load(sys.stdin.buffer).items():
    start = time.perf_counter()
    try:
        reason = decode_image(data).size
    except BadImage as bad:
        reason = bad.reason
    print(name, reason, time.perf_counter() - start < 1)
print("grew", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_image_bombs_are_refused_fast_and_without_memory() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", WATCHED], input=pickle.dumps(bombs()), capture_output=True, check=True
    )
    *lines, last = finished.stdout.decode().splitlines()
    results = {line.split()[0]: line.split()[1:] for line in lines}
    assert len(results) == 8
    assert {tuple(result) for result in results.values()} == {("too_large", "True")}
    assert int(last.split()[1]) < 300, "megabytes"


@pytest.mark.parametrize("name", ["png-51-megapixels", "png-100-megapixels", "png-4-gigapixels"])
def test_a_bomb_is_refused_also_where_warnings_are_errors(name: str) -> None:
    assert reason_to_decode(bombs()[name]) == "too_large"


def test_too_many_bytes_are_refused() -> None:
    assert reason_to_decode(bytes(MAX_BYTES + 1)) == "too_large"


def grey16(value: int) -> Image.Image:
    return Image.fromarray(np.full((2, 2), value, np.uint16))


def red_palette(*, transparent: bool) -> bytes:
    image = Image.new("P", (2, 2))
    image.putpalette([255, 0, 0])
    return encoded(image, transparency=0) if transparent else encoded(image)


WHITE, RED, GREY, BLACK = (255, 255, 255), (255, 0, 0), (128, 128, 128), (0, 0, 0)
CONVERSIONS = {
    "grey": (encoded(Image.new("L", (2, 2), 128)), GREY),
    "one bit": (encoded(Image.new("1", (2, 2), 1)), WHITE),
    "16 bit png": (encoded(grey16(0x80FF)), GREY),
    "16 bit tiff": (encoded(grey16(0x80FF), "TIFF"), GREY),
    "palette": (red_palette(transparent=False), RED),
    "palette, transparent": (red_palette(transparent=True), WHITE),
    "clear": (encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 0))), WHITE),
    "half clear": (encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 127))), GREY),
    "grey, clear": (encoded(Image.new("LA", (2, 2), (0, 0))), WHITE),
    "one colour clear": (encoded(Image.new("RGB", (2, 2), RED), transparency=RED), WHITE),
    "webp, clear": (encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), "WEBP", lossless=True), WHITE),
    "cmyk": (encoded(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF"), RED),
    "cmyk jpeg": (encoded(Image.new("CMYK", (2, 2), (0, 0, 0, 255)), "JPEG"), BLACK),
    "bmp": (encoded(Image.new("RGB", (2, 2), RED), "BMP"), RED),
}


@pytest.mark.parametrize(("data", "colour"), CONVERSIONS.values(), ids=CONVERSIONS)
def test_each_kind_of_pixel_has_one_conversion(data: bytes, colour: tuple[int, int, int]) -> None:
    image = decode_image(data)
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (2, 2), colour)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_pixels_are_refused(mode: str) -> None:
    assert reason_to_decode(encoded(Image.new(mode, (2, 2)), "TIFF")) == "not_image"


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation_counts(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLACK, WHITE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=10, **options)
    assert decode_image(data).getpixel((0, 0)) == RED


# EXIF 2.3, tag 274: at which side of the scene row 0 and column 0 of the stored pixels lie. From it follows
# where the corners (column 0, row 0) and (last column, row 0) must end.
CORNERS = {
    1: ("top left", "top right"),
    2: ("top right", "top left"),
    3: ("bottom right", "bottom left"),
    4: ("bottom left", "bottom right"),
    5: ("top left", "bottom left"),
    6: ("top right", "bottom right"),
    7: ("bottom right", "top right"),
    8: ("bottom left", "top left"),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", CORNERS)
def test_the_exif_orientation_is_applied_once(orientation: int, kind: str) -> None:
    stored = Image.new("RGB", (3, 2), WHITE)
    stored.putpixel((0, 0), RED)
    stored.putpixel((2, 0), BLACK)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(encoded(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})))
    right, bottom = image.width - 1, image.height - 1
    place = {"top left": (0, 0), "top right": (right, 0), "bottom left": (0, bottom), "bottom right": (right, bottom)}
    assert image.size == ((3, 2) if orientation < 5 else (2, 3))
    assert [image.getpixel(place[corner]) for corner in CORNERS[orientation]] == [RED, BLACK]
    assert not image.info
    assert image.getexif().get(0x0112) is None


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")  # Pillow says so on stderr and goes on
def test_an_unreadable_orientation_costs_no_image() -> None:
    data = encoded(Image.new("RGB", (3, 2), RED), "JPEG", exif=b"Exif\0\0MM\0*garbage")
    assert decode_image(data).size == (3, 2)


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
def test_odd_shapes_are_decoded(size: tuple[int, int]) -> None:
    assert decode_image(encoded(Image.new("RGB", size))).size == size


def test_decoding_keeps_lossless_pixels() -> None:
    assert decode_image(encoded(picture("x"))).tobytes() == picture("x").tobytes()


def test_a_bad_image_travels_between_processes() -> None:
    bad = pickle.loads(pickle.dumps(BadImage("corrupt", "why")))
    assert (bad.reason, bad.detail, str(bad)) == ("corrupt", "why", "corrupt: why")
