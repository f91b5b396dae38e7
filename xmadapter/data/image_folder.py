"""Read a folder of images, on a disk or in a bucket: ROOT/SPLIT/CLASS/image, or ROOT/CLASS/image, then split by content."""

from typing import NamedTuple

from xmadapter.data.media import media_uri
from xmadapter.data.names import as_bytes, as_text, printable
from xmadapter.data.objects import AnyPath, any_path
from xmadapter.data.paths import IMAGE_SUFFIXES, entries, is_text, require_folder, subfolders
from xmadapter.data.prompts import clean_class_name
from xmadapter.data.samples import SPLIT_NAMES, Sample, SampleIndex, Split, build_index, require_usable
from xmadapter.data.splitting import Candidate, assign_splits, hash_contents
from xmadapter.errors import DataError, some

__all__ = ["read_image_folder"]


class _Found(NamedTuple):
    """An image file below its class folder; `split` is None in the flat layout."""

    path: AnyPath
    sample_id: str
    folder: str
    split: Split | None


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
    folder = require_folder(any_path(root))
    found = _find(folder)
    names = _class_names({image.folder for image in found}, folder)
    labels = {raw: label for label, raw in enumerate(names)}
    media = [media_uri(image.path) for image in found]
    contents = hash_contents(media, [image.sample_id for image in found])
    splits = assign_splits(
        [Candidate(*image[1:], content.digest) for image, content in zip(found, contents, strict=True)],
        source=printable(folder),
    )
    samples = [
        Sample(image.sample_id, splits[content.digest], uri, labels[image.folder], sha256=content.sha256)
        for image, uri, content in zip(found, media, contents, strict=True)
    ]
    return require_usable(build_index(samples, names.values()), source=printable(folder))


def _find(root: AnyPath) -> list[_Found]:
    folders = subfolders(root)
    if not folders:
        raise DataError(f"{printable(root)}: no class folders; expected ROOT/CLASS/image or ROOT/train/CLASS/image")
    if not _has_splits(folders):
        return [image for folder in folders for image in _images(folder, root, split=None)]
    _check_split_folders(folders, root)
    found: list[_Found] = []
    for folder in folders:
        classes = subfolders(folder)
        if not classes:
            raise DataError(f"{printable(folder)}: no class folders; expected {folder.name}/CLASS/image")
        found += [image for name in classes for image in _images(name, root, split=SPLIT_NAMES[folder.name])]
    return found


def _has_splits(folders: list[AnyPath]) -> bool:
    """Tell the layout; a folder `train` full of images can also be a class of vehicles."""
    names = {folder.name for folder in folders}
    train = next((folder for folder in folders if folder.name == "train"), None)
    if train is not None and (subfolders(train) or names <= SPLIT_NAMES.keys()):
        return True
    lookalikes = sorted(
        folder.name for folder in folders if folder.name != "train" and folder.name.casefold() in SPLIT_NAMES
    )
    if lookalikes:
        where = printable(folders[0].parent)
        raise DataError(
            f"{where}: has {some(lookalikes)} but no `train` with class folders; add train/CLASS, or rename those classes"
        )
    return False


def _check_split_folders(folders: list[AnyPath], root: AnyPath) -> None:
    unknown = [printable(folder.name) for folder in folders if folder.name not in SPLIT_NAMES]
    if unknown:
        known = ", ".join(sorted(SPLIT_NAMES))
        raise DataError(
            f"{printable(root)}: unknown split names beside train: {some(unknown)}; known are {known}; move the rest away"
        )
    splits = [SPLIT_NAMES[folder.name] for folder in folders]
    if splits.count("validation") > 1:
        raise DataError(f"{printable(root)}: several validation folders (val, valid, validation); keep one")
    if "test" not in splits:
        raise DataError(
            f"{printable(root)}: train but no test folder; add test/CLASS, or use ROOT/CLASS/image to have it split"
        )


def _images(folder: AnyPath, root: AnyPath, *, split: Split | None) -> list[_Found]:
    listed = entries(folder)
    # By name alone: a folder, FIFO or broken link called a.jpg becomes a skipped row, so that it is counted.
    paths = [path for path in listed if path.suffix.lower() in IMAGE_SUFFIXES]
    others = [path for path in listed if path.suffix.lower() not in IMAGE_SUFFIXES]
    nested = [printable(path.name) for path in others if path.is_dir() and not path.is_symlink()]
    if nested:
        raise DataError(
            f"{printable(folder)}: holds folders: {some(nested)}; images lie directly in their class folder"
        )
    if not paths:
        kinds = sorted({printable(path.suffix) or "no" for path in others})
        held = f"only files with {some(kinds)} extension" if kinds else "nothing"
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(
            f"{printable(folder)}: a class without images, it holds {held}; images end in {known}; add some or remove it"
        )
    return [_Found(path, printable(path.relative_to(root)), as_text(folder.name), split) for path in paths]


def _class_names(folders: set[str], root: AnyPath) -> dict[str, str]:
    """Map raw folder names, in the order of their bytes, to names for prompts."""
    names: dict[str, str] = {}
    for raw in sorted(folders, key=as_bytes):
        name = clean_class_name(raw)
        if not is_text(name):
            which = f"{printable(root)}: folder {printable(raw)!r}"
            raise DataError(f"{which} is no class name for a prompt; rename it to readable UTF-8 text")
        twin = next((other for other, taken in names.items() if taken == name), None)
        if twin is not None:
            both = f"{printable(twin)!r} and {printable(raw)!r}"
            raise DataError(f"{printable(root)}: folders {both} both read as class {name!r}; merge or rename one")
        names[raw] = name
    return names
