"""Read ImageNet and its shifted test sets from folders named after WordNet ids, or after class numbers."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator

from xmadapter.data.coop_rules import CoopRules
from xmadapter.data.media import media_uri
from xmadapter.data.names import as_text, printable
from xmadapter.data.objects import AnyPath
from xmadapter.data.paths import IMAGE_SUFFIXES, is_text, read_list, require_folder, scan, subfolders
from xmadapter.data.prompts import clean_class_name
from xmadapter.data.samples import Sample, SampleIndex, Split, build_index, require_usable
from xmadapter.data.splitting import Candidate, deal
from xmadapter.errors import DataError, some

__all__ = ["read_imagenet", "read_imagenet_shift"]

_CARVED = 50
_CARVED_PERCENT = 20


def read_imagenet(root: AnyPath, rules: CoopRules) -> SampleIndex:
    """Read ImageNet-1k: ROOT/images/{train,val}/WNID/image and ROOT/classnames.txt.

    The `val` folder is the TEST split, as in every published few-shot number. Many papers also choose on it; here validation
    is carved out of train instead: 50 images of a class, or a fifth of it where there are fewer than 250.

    They are chosen by the hash of their id, not of their content as elsewhere: 1.28 million images would have to be read only
    to be dealt. So copies of an image inside train may lie in train and in validation; test shares nothing that ImageNet does
    not share itself.

    Args:
        root: Folder with `images` and `classnames.txt`.
        rules: Their names; and names for the two pairs of classes to which CLIP's list gives one name.

    Raises:
        ConfigError: A folder or the list of names is absent.
        DataError: A class has no name, two share one, or one has no training image.
    """
    names = _class_names(root, rules)
    images = root / rules.images
    paths = {split: _class_folders(images / split, below=images) for split in ("train", "val")}
    folders = sorted(set(paths["train"]) | set(paths["val"]))
    _require_names(folders, names, root / rules.listing)
    found = [
        (folder, sample_id, media, split)
        for split, classes in paths.items()
        for folder in folders
        for sample_id, media in classes.get(folder, [])
    ]
    carved = deal(
        (Candidate(name, folder, None, _hashed(name)) for folder, name, _, split in found if split == "train"),
        _carved_counts,
    )
    labels = {folder: label for label, folder in enumerate(folders)}
    samples = (
        Sample(name, carved[_hashed(name)] if split == "train" else "test", media, labels[folder])
        for folder, name, media, split in found
    )
    return require_usable(build_index(samples, [names[folder] for folder in folders]), source=printable(root))


def read_imagenet_shift(root: AnyPath, rules: CoopRules) -> SampleIndex:
    """Read a shifted test set of ImageNet: ROOT/IMAGES/WNID/image, or ROOT/IMAGES/NUMBER/image for V2.

    Every image is in the test split: such a set measures what was trained on ImageNet and cannot be trained on. Its class names
    are those of the classes it holds (200 of 1,000 for -A and -R), in ImageNet's order and spelling, so that they name the
    same classes there.

    Raises:
        ConfigError: The folder or the list of names is absent.
        DataError: There are no images, or a class has no name.
    """
    names = _class_names(root, rules)
    images = root / rules.images
    found = _class_folders(images, below=images)
    if rules.layout == "class-numbers":
        by_number = {str(number): folder for number, folder in enumerate(sorted(names))}
        _require_names(list(found), by_number, root / rules.listing)
        found = {by_number[number]: paths for number, paths in found.items()}
    folders = sorted(found)
    _require_names(folders, names, root / rules.listing)
    test: Split = "test"
    samples = (
        Sample(sample_id, test, media, label)
        for label, folder in enumerate(folders)
        for sample_id, media in found[folder]
    )
    return build_index(samples, [names[folder] for folder in folders])


def _class_names(root: AnyPath, rules: CoopRules) -> dict[str, str]:
    """Read lines of `WNID name`; two classes that share a name keep it only if no rule knows a better one."""
    path = root / rules.listing
    source = printable(path)
    names: dict[str, str] = {}
    for number, line in enumerate(read_list(path, setting="root").split(b"\n"), 1):
        folder, _, name = line.decode("utf-8", "surrogateescape").strip().partition(" ")
        if not folder:
            continue
        if not is_text(name) or folder in names:
            fault = "repeats a folder" if folder in names else "must be WNID, a space, and a name"
            raise DataError(f"{source}: line {number} {fault}; copy the published file again")
        names[folder] = clean_class_name(name)
    owners: dict[str, list[str]] = defaultdict(list)
    for folder, name in names.items():
        owners[name].append(folder)
    shared = [folder for folders in owners.values() if len(folders) > 1 for folder in folders]
    names |= {folder: rules.rename[folder] for folder in shared if folder in rules.rename}
    twins = {name for name in names.values() if list(names.values()).count(name) > 1} if shared else set()
    if twins:
        raise DataError(f"{source}: several classes are named {some(sorted(twins))}; give each its own name")
    return names


def _class_folders(folder: AnyPath, *, below: AnyPath) -> dict[str, list[tuple[str, str]]]:
    """Map class folders to ids and media URIs of their images, by name alone; nothing is opened."""
    found = {as_text(inner.name): list(_images(inner, below)) for inner in subfolders(require_folder(folder))}
    empty = [printable(name) for name, images in found.items() if not images]
    if empty or not found:
        what = f"classes without images: {some(empty)}" if empty else "no class folders"
        raise DataError(f"{printable(folder)}: {what}; copy the data set again")
    return found


def _require_names(folders: list[str], names: dict[str, str], path: AnyPath) -> None:
    nameless = [printable(folder) for folder in folders if folder not in names]
    if nameless:
        raise DataError(
            f"{printable(path)}: names no class of these folders: {some(nameless)}; add them or move them away"
        )


def _images(folder: AnyPath, below: AnyPath) -> Iterator[tuple[str, str]]:
    # Text instead of Path objects, which would take a minute for ImageNet.
    place, prefix = media_uri(folder), printable(folder.relative_to(below))
    for name, _ in scan(folder):
        if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122  as above
            yield f"{prefix}/{printable(as_text(name))}", f"{place}/{media_uri(name)}"


def _hashed(sample_id: str) -> str:
    return hashlib.sha256(sample_id.encode()).hexdigest()


def _carved_counts(n: int) -> tuple[int, int, int]:
    validation = min(_CARVED, max(int(n >= 2), n * _CARVED_PERCENT // 100))
    return n - validation, validation, 0
