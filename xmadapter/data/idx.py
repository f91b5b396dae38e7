"""Read MNIST-like data sets: four IDX files of images and labels, as the Debian package dataset-fashion-mnist ships them."""

import hashlib
import json
from importlib.resources import files

import numpy as np

from xmadapter.config.data import IdxData
from xmadapter.data.files import BadImage
from xmadapter.data.idx_file import read_idx_array
from xmadapter.data.media import IdxRow, media_uri
from xmadapter.data.names import printable
from xmadapter.data.objects import AnyPath, any_path, local_copy
from xmadapter.data.paths import is_text, require_folder
from xmadapter.data.prompts import clean_class_name
from xmadapter.data.samples import Sample, SampleIndex, Split, build_index, require_usable
from xmadapter.data.splitting import Candidate, assign_splits
from xmadapter.errors import ConfigError, DataError, some

__all__ = ["read_idx"]

_STEMS: tuple[tuple[Split, str], ...] = (("train", "train"), ("test", "t10k"))


def read_idx(config: IdxData) -> SampleIndex:
    """Read ROOT/{train,t10k}-{images-idx3,labels-idx1}-ubyte, each plain or with `.gz`.

    The `t10k` images are the test split. A fifth of the training images of each class becomes validation, by the hash of
    their pixels; copies stay together, and a copy in train and test is refused. An id is `train/00041` or `test/00041` for
    the 42nd image of a file. Classes are numbered as in the label files.

    Raises:
        ConfigError: The folder or a file is absent, or the number of class names is not that of the labels.
        DataError: A file is damaged, images and labels differ in number, or a split shares an image with another.
    """
    root = require_folder(any_path(config.root))
    names = _class_names(config)
    found: list[tuple[str, Split, str, int, str]] = []
    for split, stem in _STEMS:
        path, images, labels = _pair(root, stem)
        _check_labels(labels, names, printable(root))
        for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            digest = hashlib.sha256(image.tobytes()).hexdigest()
            found.append((f"{split}/{number:05d}", split, media_uri(path, part=IdxRow(number)), label, digest))
    splits = assign_splits(
        [Candidate(name, names[label], split, digest) for name, split, _, label, digest in found],
        source=printable(root),
    )
    samples = [Sample(name, splits[digest], media, label) for name, _, media, label, digest in found]
    return require_usable(build_index(samples, names), source=printable(root))


def _class_names(config: IdxData) -> list[str]:
    listed = config.class_names
    if isinstance(listed, str):
        listed = json.loads((files("xmadapter") / "data" / "templates" / f"{listed}.json").read_bytes())
    names = [clean_class_name(name) for name in listed]
    wrong = [repr(name) for name in names if not is_text(name) or names.count(name) > 1]
    if wrong:
        raise ConfigError(f"class_names: {some(sorted(set(wrong)))} is no name of its own; correct `class_names`")
    return names


def _pair(root: AnyPath, stem: str) -> tuple[AnyPath, np.ndarray, np.ndarray]:
    path, images = _array(root, f"{stem}-images-idx3-ubyte", axes=3)
    labels_path, labels = _array(root, f"{stem}-labels-idx1-ubyte", axes=1)
    if len(images) != len(labels):
        raise DataError(
            f"{printable(path)}: {len(images)} images, {labels_path.name} has {len(labels)} labels; copy both again"
        )
    return path, images, labels


def _array(root: AnyPath, name: str, *, axes: int) -> tuple[AnyPath, np.ndarray]:
    path = next((path for path in (root / f"{name}.gz", root / name) if path.exists()), root / name)
    try:
        array = read_idx_array(local_copy(path))
    except BadImage as bad:
        if bad.reason == "missing":
            raise ConfigError(f"{printable(path)}: no such file, nor with .gz; correct `root`") from bad
        raise DataError(f"{printable(path)}: {bad.detail}; the file is cut short or damaged, copy it again") from bad
    if array.ndim != axes:
        raise DataError(f"{printable(path)}: an array of {array.ndim} axes instead of {axes}; copy it again")
    return path, array


def _check_labels(labels: np.ndarray, names: list[str], source: str) -> None:
    if labels.max() >= len(names):
        raise ConfigError(f"{source}: label {labels.max()} has no name, {len(names)} are given; correct `class_names`")
