"""Read a folder of images: ROOT/SPLIT/CLASS/image, or ROOT/CLASS/image, which is then split by content."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from xmadapter.data.media import BadImage, media_uri, read_media
from xmadapter.data.prompts import clean_class_name
from xmadapter.data.samples import SPLIT_NAMES, SPLITS, Sample, SampleIndex, Split, build_index, require_usable
from xmadapter.errors import ConfigError, DataError, some
from xmadapter.storage import local_path

__all__ = ["read_image_folder"]

_EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_TRAIN_PERCENT = 50
_VALIDATION_PERCENT = 20
_READERS = 4
# What would break a line or steer a terminal, bytes that are not UTF-8 (as surrogates), and the escape sign itself.
_ESCAPED = re.compile("[%\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class _Found(NamedTuple):
    """An image file; `split` is None in the flat layout, `digest` identifies its content."""

    path: Path
    sample_id: str
    folder: str
    split: Split | None
    digest: str


def read_image_folder(root: str) -> SampleIndex:
    """Read classes and splits from folder names, and order from content alone.

    ROOT/{train, val|valid|validation, test}/CLASS/image is taken when `train` holds folders; without a validation folder, a
    fifth of the images of each class in train becomes validation. Otherwise the layout is ROOT/CLASS/image, and 50 % of each
    class become train, 20 % validation, 30 % test, as in CoOp. Images are dealt in the order of the sha256 of their bytes, so
    copies of one image land in one split, and neither names nor the order on disk matter. Every image is read once for that.

    Dot files, files without an image extension, and links to folders inside a class are left out. Classes are ordered by the
    bytes of their folder names; an id is the path below `root`, with `%`, control characters and bytes that are not UTF-8
    percent-encoded. An unreadable image stays in the index: whoever decodes it skips it with a reason.

    Raises:
        ConfigError: `root` does not exist or is no folder.
        DataError: No classes; a class without training images; two folders with one class name; splits missing, unknown or
            sharing an image.
    """
    folder = local_path(root).absolute()
    if not folder.is_dir():
        raise ConfigError(
            f"{_printable(folder)}: {'not a folder' if folder.exists() else 'no such folder'}; correct `root`"
        )
    found = _find(folder)
    names = _class_names({image.folder for image in found}, folder)
    splits = _splits(found, folder)
    labels = {raw: label for label, raw in enumerate(names)}
    samples = [
        Sample(image.sample_id, splits[image.digest], media_uri(image.path), labels[image.folder]) for image in found
    ]
    return require_usable(build_index(samples, names.values()), source=_printable(folder))


def _find(root: Path) -> list[_Found]:
    folders = _subfolders(root)
    if not folders:
        raise DataError(f"{_printable(root)}: no class folders; expected ROOT/CLASS/image or ROOT/train/CLASS/image")
    if not _has_splits(folders):
        return [image for folder in folders for image in _images(folder, root, split=None)]
    _check_split_folders(folders, root)
    found: list[_Found] = []
    for folder in folders:
        classes = _subfolders(folder)
        if not classes:
            raise DataError(f"{_printable(folder)}: no class folders; expected {folder.name}/CLASS/image")
        found += [image for name in classes for image in _images(name, root, split=SPLIT_NAMES[folder.name])]
    return found


def _has_splits(folders: list[Path]) -> bool:
    """Tell the layout; a folder `train` full of images can also be a class of vehicles."""
    names = {folder.name for folder in folders}
    train = next((folder for folder in folders if folder.name == "train"), None)
    if train is not None and (_subfolders(train) or names <= SPLIT_NAMES.keys()):
        return True
    lookalikes = sorted(
        folder.name for folder in folders if folder.name != "train" and folder.name.casefold() in SPLIT_NAMES
    )
    if lookalikes:
        where = _printable(folders[0].parent)
        raise DataError(
            f"{where}: has {some(lookalikes)} but no `train` with class folders; add train/CLASS, or rename those classes"
        )
    return False


def _check_split_folders(folders: list[Path], root: Path) -> None:
    unknown = [_printable(folder.name) for folder in folders if folder.name not in SPLIT_NAMES]
    if unknown:
        known = ", ".join(sorted(SPLIT_NAMES))
        raise DataError(
            f"{_printable(root)}: unknown split names beside train: {some(unknown)}; known are {known}; move the rest away"
        )
    splits = [SPLIT_NAMES[folder.name] for folder in folders]
    if splits.count("validation") > 1:
        raise DataError(f"{_printable(root)}: several validation folders (val, valid, validation); keep one")
    if "test" not in splits:
        raise DataError(
            f"{_printable(root)}: train but no test folder; add test/CLASS, or use ROOT/CLASS/image to have it split"
        )


def _entries(folder: Path) -> list[Path]:
    """List what does not begin with a dot, in the order of raw bytes."""
    try:
        return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=os.fsencode)
    except OSError as error:
        raise DataError(f"{_printable(folder)}: cannot list it ({error.strerror}); check its permissions") from error


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _images(folder: Path, root: Path, *, split: Split | None) -> list[_Found]:
    entries = _entries(folder)
    # By name alone: a folder, FIFO or broken link called a.jpg becomes a skipped row, so that it is counted.
    paths = [path for path in entries if path.suffix.lower() in _EXTENSIONS]
    others = [path for path in entries if path.suffix.lower() not in _EXTENSIONS]
    nested = [_printable(path.name) for path in others if path.is_dir() and not path.is_symlink()]
    if nested:
        raise DataError(
            f"{_printable(folder)}: holds folders: {some(nested)}; images lie directly in their class folder"
        )
    if not paths:
        kinds = sorted({_printable(path.suffix) or "no" for path in others})
        held = f"only files with {some(kinds)} extension" if kinds else "nothing"
        known = " ".join(sorted(_EXTENSIONS))
        raise DataError(
            f"{_printable(folder)}: a class without images, it holds {held}; images end in {known}; add some or remove it"
        )
    ids = [_printable(path.relative_to(root)) for path in paths]
    with ThreadPoolExecutor(_READERS) as pool:
        digests = list(pool.map(_digest, paths, ids))
    return [
        _Found(path, name, _text(folder.name), split, digest)
        for path, name, digest in zip(paths, ids, digests, strict=True)
    ]


def _digest(path: Path, sample_id: str) -> str:
    try:
        return hashlib.sha256(read_media(media_uri(path))).hexdigest()
    except BadImage:
        return hashlib.sha256(f"unreadable {sample_id}".encode()).hexdigest()
    except OSError as error:
        # Not a stand-in as above: a disk that fails now and reads later would deal the splits differently.
        raise DataError(f"{sample_id}: cannot read it ({error.strerror}); nothing was written, run again") from error


def _class_names(folders: set[str], root: Path) -> dict[str, str]:
    """Map raw folder names, in the order of their bytes, to names for prompts."""
    names: dict[str, str] = {}
    for raw in sorted(folders, key=_raw):
        name = clean_class_name(raw)
        if not name or _ESCAPED.search(name.replace("%", "")):
            which = f"{_printable(root)}: folder {_printable(raw)!r}"
            raise DataError(f"{which} is no class name for a prompt; rename it to readable UTF-8 text")
        twin = next((other for other, taken in names.items() if taken == name), None)
        if twin is not None:
            both = f"{_printable(twin)!r} and {_printable(raw)!r}"
            raise DataError(f"{_printable(root)}: folders {both} both read as class {name!r}; merge or rename one")
        names[raw] = name
    return names


def _splits(found: list[_Found], root: Path) -> dict[str, Split]:
    """Say to which split each content belongs."""
    named: dict[str, Split] = {image.digest: image.split for image in found if image.split}
    if not named:
        return _deal(found, _flat_counts)
    _check_overlap(found, root)
    if "validation" in named.values():
        return named
    return named | _deal([image for image in found if image.split == "train"], _carved_counts)


def _deal(found: list[_Found], counts_of: Callable[[int], tuple[int, int, int]]) -> dict[str, Split]:
    """Give each content a split, class by class; a content that two classes share keeps what the first gave it."""
    contents: dict[str, set[str]] = defaultdict(set)
    for image in found:
        contents[image.folder].add(image.digest)
    dealt: dict[str, Split] = {}
    for folder in sorted(contents, key=_raw):
        fresh = sorted(contents[folder] - dealt.keys())
        counts = zip(SPLITS, counts_of(len(fresh)), strict=True)
        dealt.update(zip(fresh, (split for split, count in counts for _ in range(count)), strict=True))
    return dealt


def _flat_counts(n: int) -> tuple[int, int, int]:
    """Cut n contents; with few, train comes first, then test, then validation."""
    train = max(min(n, 1), n * _TRAIN_PERCENT // 100)
    validation = max(int(n >= 3), n * _VALIDATION_PERCENT // 100)
    return train, validation, n - train - validation


def _carved_counts(n: int) -> tuple[int, int, int]:
    """Take validation out of n training contents, at least one if train keeps one."""
    validation = max(int(n >= 2), n * _VALIDATION_PERCENT // 100)
    return n - validation, validation, 0


def _check_overlap(found: list[_Found], root: Path) -> None:
    first: dict[str, _Found] = {}
    pairs = [
        f"{other.sample_id} = {image.sample_id}"
        for image in found
        if (other := first.setdefault(image.digest, image)).split != image.split
    ]
    if pairs:
        raise DataError(
            f"{_printable(root)}: the same image in two splits: {some(pairs)}; delete one of each pair, or use ROOT/CLASS/image,"
            " which keeps copies together"
        )


def _text(path: str | Path) -> str:
    """Read a path as UTF-8, whatever the locale; other bytes become surrogates."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _printable(path: str | Path) -> str:
    """Write a path reversibly, fit for one line of text and for UTF-8."""
    text = path if isinstance(path, str) else _text(path)
    return _ESCAPED.sub(lambda match: "".join(f"%{byte:02X}" for byte in _raw(match[0])), text)
