"""The four IDX files of a data set like MNIST, with small images."""

import gzip
import struct
from pathlib import Path

import numpy as np

from xmadapter.config.data import IdxData
from xmadapter.seeding import derive_seed

NAMES = ("zero", "one")


def images(name: str, count: int) -> np.ndarray:
    return np.random.default_rng(derive_seed(name)).integers(0, 256, (count, 5, 4), dtype=np.uint8)


def packed(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder: Path, *, compressed: bool = True, **changed: np.ndarray) -> IdxData:
    """Two classes with 10 training and 3 test images each; files can be replaced by their stem."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "train-images-idx3": images("train", 20),
        "train-labels-idx1": np.tile(np.array([1, 0], np.uint8), 10),
        "t10k-images-idx3": images("test", 6),
        "t10k-labels-idx1": np.tile(np.array([0, 1], np.uint8), 3),
    } | {name.replace("_", "-"): array for name, array in changed.items()}
    for name, array in arrays.items():
        data = packed(array)
        path = folder / f"{name}-ubyte{'.gz' * compressed}"
        path.write_bytes(gzip.compress(data, mtime=0) if compressed else data)
    return IdxData(root=str(folder), class_names=NAMES)
