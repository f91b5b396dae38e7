"""Read CoOp's benchmarks by the splits that published numbers use: split_zhou_*.json, or the lists of FGVC-Aircraft."""

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import JsonValue

from xmadapter.config.data import CoopData
from xmadapter.data.coop_rules import CoopRules, coop_rules, spell_class_name
from xmadapter.data.imagenet import read_imagenet, read_imagenet_shift
from xmadapter.data.names import printable
from xmadapter.data.objects import AnyPath
from xmadapter.data.paths import Listed, is_text, locate, read_list, require_any_file, require_once, require_root
from xmadapter.data.samples import SPLIT_NAMES, Sample, SampleIndex, Split, build_index, require_usable
from xmadapter.errors import DataError, IntegrityError
from xmadapter.strict import parse_json

__all__ = ["read_coop"]

_SPLIT_KEYS = ("train", "val", "test")


class _Record(NamedTuple):
    """One image of a split."""

    listed: Listed
    split: Split
    label: int
    class_name: str


def read_coop(config: CoopData) -> SampleIndex:
    """Read a benchmark of CoOp from the folder that holds its images and its split.

    Ten data sets have a split file or, for FGVC-Aircraft, `images_variant_{train,val,test}.txt`; their splits are taken as
    published, without reading an image. An id is the path that the list gives. Classes keep the order of the published labels;
    their names follow the rules of `templates/coop.json`.

    ImageNet has no validation split: its `val` folder is the TEST split, and validation is carved out of train, see
    `read_imagenet`. ImageNet-V2, -Sketch, -A and -R have test images only, see `read_imagenet_shift`.

    Raises:
        ConfigError: The folder, its list or all of its images are absent.
        DataError: The list is malformed, names a file twice or outside the folder, or contradicts itself.
    """
    root = require_root(config.root)
    rules = coop_rules(config.dataset)
    match rules.layout:
        case "split-file":
            return _build(list(_split_file(root, rules)), rules, root, printable(root / rules.listing))
        case "variants":
            return _build(list(_variants(root, rules)), rules, root, printable(root))
        case "train-and-val":
            return read_imagenet(root, rules)
        case "class-folders" | "class-numbers":
            return read_imagenet_shift(root, rules)


def _build(records: list[_Record], rules: CoopRules, root: AnyPath, source: str) -> SampleIndex:
    listed = [record.listed for record in records]
    require_once(listed, source=source)
    require_any_file(listed, folder=root / rules.images)
    names = _class_names(records, rules, source)
    labels = {published: label for label, published in enumerate(sorted(names))}
    samples = [
        Sample(record.listed.sample_id, record.split, record.listed.media, labels[record.label]) for record in records
    ]
    return require_usable(build_index(samples, [names[label] for label in sorted(names)]), source=source)


def _split_file(root: AnyPath, rules: CoopRules) -> Iterator[_Record]:
    path = root / rules.listing
    for key, records in _split_lists(path):
        for number, record in enumerate(records):
            where = f"{key}[{number}]"
            match record:
                case [str() as name, int() as label, str() as class_name] if not isinstance(label, bool):
                    if class_name not in rules.drop:
                        listed = locate(name, folder=root / rules.images, source=printable(path), where=where)
                        yield _Record(listed, SPLIT_NAMES[key], label, class_name)
                case _:
                    raise DataError(
                        f"{printable(path)}: {where} must be [path, label, class name]; copy the published file again"
                    )


def _split_lists(path: AnyPath) -> Iterator[tuple[str, list[JsonValue]]]:
    data = read_list(path, setting="root")
    try:
        value = parse_json(data)
    except IntegrityError as error:
        raise DataError(f"{printable(path)}: {error}; the file is cut short or damaged, copy it again") from error
    if not isinstance(value, dict) or set(value) != set(_SPLIT_KEYS):
        raise DataError(f"{printable(path)}: must be an object with the keys train, val and test; name a split file")
    for key in _SPLIT_KEYS:
        records = value[key]
        if not isinstance(records, list):
            raise DataError(f"{printable(path)}: {key} must be a list of [path, label, class name]")
        yield key, records


def _variants(root: AnyPath, rules: CoopRules) -> Iterator[_Record]:
    names = [line for _, line in _lines(root / rules.listing)]
    labels = {name: label for label, name in enumerate(names)}
    for key in _SPLIT_KEYS:
        path = root / f"images_variant_{key}.txt"
        for number, line in _lines(path):
            image, _, class_name = line.partition(" ")
            where = f"{path.name} line {number}"
            if class_name not in labels:
                raise DataError(
                    f"{printable(root)}: {where}: {printable(class_name)!r} is no variant of {rules.listing}; copy both again"
                )
            listed = locate(f"{image}.jpg", folder=root / rules.images, source=printable(root), where=where)
            yield _Record(listed, SPLIT_NAMES[key], labels[class_name], class_name)


def _lines(path: AnyPath) -> Iterator[tuple[int, str]]:
    """Give the lines of a text file that hold something, with their numbers from 1."""
    try:
        text = read_list(path, setting="root").decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{printable(path)}: not UTF-8 text; copy the published file again") from error
    return ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _class_names(records: list[_Record], rules: CoopRules, source: str) -> dict[int, str]:
    """Map published labels to names for prompts; a label has one name, and a name one label."""
    first: dict[int, _Record] = {}
    for record in records:
        other = first.setdefault(record.label, record)
        if other.class_name != record.class_name:
            both = f"{printable(other.class_name)!r} in {other.listed.where} and {printable(record.class_name)!r}"
            raise DataError(f"{source}: label {record.label} is {both} in {record.listed.where}; copy the list again")
    names = {label: spell_class_name(record.class_name, rules) for label, record in first.items()}
    owners: dict[str, int] = {}
    for label, name in sorted(names.items()):
        if not is_text(name):
            raise DataError(f"{source}: label {label} is named {printable(name)!r}, which is no text for a prompt")
        if owners.setdefault(name, label) != label:
            raise DataError(f"{source}: labels {owners[name]} and {label} both read as class {name!r}; mend the list")
    return names
