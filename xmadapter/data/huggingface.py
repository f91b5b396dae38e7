"""Read a folder that the datasets library of Hugging Face saved, with Arrow alone."""

from collections.abc import Iterator

import pyarrow as pa
from pydantic import JsonValue

from xmadapter.config.data import HuggingFaceData
from xmadapter.data.arrow_stream import open_stream, read_columns
from xmadapter.data.columns import check_class_names, filled, is_text_type
from xmadapter.data.files import BadImage
from xmadapter.data.media import media_uri
from xmadapter.data.names import is_below, printable
from xmadapter.data.objects import AnyPath, any_path, local_copy
from xmadapter.data.paths import is_text, read_list, require_folder
from xmadapter.data.prompts import clean_class_name
from xmadapter.data.samples import SPLIT_NAMES, Sample, SampleIndex, Split, build_index, require_usable
from xmadapter.data.splitting import Open, settle_splits
from xmadapter.errors import ConfigError, DataError, IntegrityError, some
from xmadapter.strict import parse_json

__all__ = ["read_huggingface"]


def read_huggingface(config: HuggingFaceData) -> SampleIndex:
    """Read what `save_to_disk` wrote: ROOT/{dataset_dict.json, SPLIT/state.json, SPLIT/*.arrow}, or one split without parts.

    Neither the datasets library nor anything it would run is needed: labels are read by pyarrow, a file with an extension type
    is refused, and images are the bytes in the rows; a path beside them is never followed. An id is `SPLIT/row-000000041`.

    Labels are a ClassLabel, whose names are words for prompts in the order of its numbers, or text. With train, validation and
    test no image is opened. Where validation or all splits are missing, images are read once and dealt by the hash of their
    content, as `read_image_folder` does it.

    Raises:
        ConfigError: The folder does not exist or was not saved by `save_to_disk`.
        DataError: A file is damaged, a column or name is missing, or there is too little to work with.
    """
    root = require_folder(any_path(config.root))
    folders = list(_split_folders(root))
    names = _class_names(folders, config, root)
    rows = [row for folder, split in folders for row in _rows(folder, split, root, config, names)]
    if names is None:
        raw = check_class_names(
            pa.chunked_array([[row.class_key for row in rows]], pa.string()), config.label, source=printable(root)
        )
    else:
        raw = names
    spelt = _spelt(raw, printable(root))
    label_of = {name: label for label, name in enumerate(raw)}
    settled = settle_splits(rows, source=printable(root))
    samples = [
        Sample(row.sample_id, split, row.media, label_of[row.class_key], sha256=sha256)
        for row, (split, sha256) in zip(rows, settled, strict=True)
    ]
    return require_usable(build_index(samples, spelt), source=printable(root))


def _split_folders(root: AnyPath) -> Iterator[tuple[AnyPath, Split | None]]:
    if (root / "state.json").exists():
        yield root, None
        return
    if not (root / "dataset_dict.json").exists():
        raise ConfigError(
            f"{printable(root)}: neither dataset_dict.json nor state.json is there; name a folder of save_to_disk, correct `root`"
        )
    listed = _object(root / "dataset_dict.json").get("splits")
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise DataError(
            f"{printable(root / 'dataset_dict.json')}: `splits` must be a list of names; save the data set again"
        )
    names = [str(name) for name in listed]
    unknown = [repr(name) for name in names if name not in SPLIT_NAMES]
    splits = [SPLIT_NAMES[name] for name in names if name in SPLIT_NAMES]
    if unknown or len(set(splits)) < len(splits):
        known = ", ".join(sorted(SPLIT_NAMES))
        raise DataError(f"{printable(root)}: split names {some(names)}; known are {known}, each once; save those alone")
    if "train" not in splits or (len(splits) > 1 and "test" not in splits):
        raise DataError(
            f"{printable(root)}: splits {some(names)}; save train and test, or train alone to have it split"
        )
    for name in names:
        yield root / name, SPLIT_NAMES[name] if len(names) > 1 else None


def _class_names(
    folders: list[tuple[AnyPath, Split | None]], config: HuggingFaceData, root: AnyPath
) -> list[str] | None:
    """Take the names of a ClassLabel, the same in every split; None where labels are text."""
    found: dict[str, list[str] | None] = {}
    for folder, _ in folders:
        features = _object(folder / "dataset_info.json").get("features")
        feature = features.get(config.label) if isinstance(features, dict) else None
        names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise DataError(
                f"{printable(folder / 'dataset_info.json')}: names of {config.label!r} must be text; save it again"
            )
        found[folder.name] = None if names is None else [str(name) for name in names]
    (first, names), *others = found.items()
    for other, theirs in others:
        if theirs != names:
            both = f"{first} has {some(names or ['text'])}, {other} has {some(theirs or ['text'])}"
            raise DataError(
                f"{printable(root)}: the splits name classes of {config.label!r} differently: {both}; cast them to one"
            )
    return names


def _rows(
    folder: AnyPath, split: Split | None, root: AnyPath, config: HuggingFaceData, names: list[str] | None
) -> Iterator[Open]:
    prefix = "" if folder == root else f"{printable(folder.name)}/"
    count = 0
    for path in _data_files(folder):
        labels = _labels(path, config, names)
        for row, label in enumerate(labels):
            yield Open(f"{prefix}row-{count:09d}", label, split, media_uri(path, column=config.image, row=row))
            count += 1


def _data_files(folder: AnyPath) -> list[AnyPath]:
    path = folder / "state.json"
    state = _object(path)
    listed = state.get("_data_files")
    names = [entry.get("filename") for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    if not names or state.get("_indices_data_files"):
        raise DataError(f"{printable(path)}: lists no plain data files; save the data set again with `flatten_indices`")
    for name in names:
        if not isinstance(name, str) or not is_below(name) or "/" in name or not name.endswith(".arrow"):
            raise DataError(
                f"{printable(path)}: {printable(str(name))!r} is no .arrow file beside it; save the data set again"
            )
    if len(set(names)) < len(names):
        raise DataError(f"{printable(path)}: lists a file twice; save the data set again")
    return [folder / str(name) for name in names]


def _labels(path: AnyPath, config: HuggingFaceData, names: list[str] | None) -> list[str]:
    source = printable(path)
    try:
        file = local_copy(path)
        _check_columns(open_stream(file).schema, config, names, source)
        table = read_columns(file, [config.label])
    except BadImage as bad:
        raise DataError(f"{source}: {bad.reason}: {bad.detail}; copy or save the data set again") from bad
    if names is None:
        return filled(table, config.label, source=source).to_pylist()
    numbers: list[int | None] = table[config.label].to_pylist()
    for row, number in enumerate(numbers):
        if number is None or not 0 <= number < len(names):
            raise DataError(
                f"{source}: row {row} has the label {number}, classes are 0 to {len(names) - 1}; drop unlabelled rows"
            )
    return [names[number] for number in numbers if number is not None]


def _check_columns(schema: pa.Schema, config: HuggingFaceData, names: list[str] | None, source: str) -> None:
    for role, column in (("image", config.image), ("label", config.label)):
        if schema.names.count(column) != 1:
            raise DataError(
                f"{source}: no {role} column {column!r}; its columns are {some(schema.names, limit=20)}; set `{role}`"
            )
    kind, images = schema.field(config.label).type, schema.field(config.image).type
    if not (is_text_type(kind) if names is None else pa.types.is_integer(kind)):
        raise DataError(f"{source}: label column {config.label!r} holds {kind}; it must be a ClassLabel or text")
    if pa.types.is_struct(images) and images.get_field_index("bytes") >= 0:
        images = images.field("bytes").type
    if not (pa.types.is_binary(images) or pa.types.is_large_binary(images)):
        raise DataError(f"{source}: image column {config.image!r} holds {images}; it must be an Image, or bytes")


def _spelt(raw: list[str], source: str) -> list[str]:
    names = [clean_class_name(name) for name in raw]
    for name, original in zip(names, raw, strict=True):
        if not is_text(name):
            raise DataError(f"{source}: class {printable(original)!r} is no text for a prompt; rename it")
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise DataError(f"{source}: several classes read as {some(twins)}; give each its own name")
    return names


def _object(path: AnyPath) -> dict[str, JsonValue]:
    try:
        value = parse_json(read_list(path, setting="root"))
    except IntegrityError as error:
        raise DataError(f"{printable(path)}: {error}; the file is damaged, save the data set again") from error
    if not isinstance(value, dict):
        raise DataError(f"{printable(path)}: must be an object; save the data set again")
    return value
