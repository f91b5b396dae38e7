"""Makers of small images and image folders."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from xmadapter.seeding import derive_seed


def picture(name: str, *, size: int = 8) -> Image.Image:
    """An RGB image whose pixels follow from its name alone."""
    pixels = np.random.default_rng(derive_seed(name)).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def fill(root: Path, names: list[str]) -> Path:
    """Write one image per relative path, each with its own content; the name may hold undecodable bytes as surrogates."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(os.fsencode(name).hex())))
    return root


def class_files(*folders: str, count: int) -> list[str]:
    return [f"{folder}/{number}.png" for folder in folders for number in range(count)]
