"""Read the index of a Parquet file that holds a row per image."""

import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xmadapter.config.encode import ParquetData
from xmadapter.data.cells import DAMAGE, MAX_GROUP_BYTES, group_bytes, open_parquet
from xmadapter.data.files import BadImage, one_line
from xmadapter.data.media import media_uri
from xmadapter.data.samples import SPLIT_NAMES, Sample, SampleIndex, build_index, require_usable
from xmadapter.errors import ConfigError, DataError, some
from xmadapter.storage import local_path

__all__ = ["read_parquet"]

_MAX_ROWS = 5_000_000


def read_parquet(config: ParquetData) -> SampleIndex:
    """Read labels and splits; image bytes stay where they are until `read_media` wants them.

    The row number is the sample's identity (`row-000000041` is the 42nd row), so a rewritten file keeps its ids as long as
    the rows keep their order. Classes are ordered by the bytes of their names.

    Args:
        config: File and column names. Labels are class names, used in prompts as they are; splits are train, validation
            (or val, valid) and test.

    Raises:
        ConfigError: The file does not exist.
        DataError: The file is damaged, lacks a column, has an empty cell or an unknown split, or has too little to work with.
    """
    path = local_path(config.path).absolute()
    source = repr(str(path))[1:-1]
    file = _open(path, source)
    try:
        _check_columns(file, config, source)
        table = file.read(columns=[config.label, config.split])
        table.validate(full=True)
    except DAMAGE as error:
        raise DataError(
            f"{source}: cannot read its rows ({one_line(error)}); the file is damaged, copy or make it again"
        ) from error
    finally:
        file.close(force=True)
    labels = _texts(table, config.label, source)
    splits = _texts(table, config.split, source)
    _check_splits(splits, config, source)
    names = _class_names(labels, config, source)
    label_of = {name: label for label, name in enumerate(names)}
    samples = [
        Sample(f"row-{row:09d}", SPLIT_NAMES[split], media_uri(path, column=config.image, row=row), label_of[label])
        for row, (split, label) in enumerate(zip(splits.to_pylist(), labels.to_pylist(), strict=True))
    ]
    return require_usable(build_index(samples, names), source=source)


def _open(path: Path, source: str) -> pq.ParquetFile:
    try:
        return open_parquet(path)
    except BadImage as bad:
        if bad.reason == "missing":
            raise ConfigError(f"{source}: no such file ({bad.detail}); correct `path`") from bad
        advice = (
            "name one Parquet file"
            if bad.reason == "not_regular"
            else "the file is cut short or damaged, copy or make it again"
        )
        raise DataError(f"{source}: not a readable Parquet file ({bad.detail}); {advice}") from bad


def _check_columns(file: pq.ParquetFile, config: ParquetData, source: str) -> None:
    """Look at names, types and sizes before any value is read."""
    schema = file.schema_arrow
    for role in ("image", "label", "split"):
        column = getattr(config, role)
        if schema.names.count(column) != 1:
            found = f"{schema.names.count(column)} times" if column in schema.names else "not there"
            raise DataError(
                f"{source}: {role} column {column!r} is {found}; its columns are {some(schema.names, limit=20)}; set `{role}`"
            )
        kind = schema.field(column).type
        if not (_is_bytes(kind) if role == "image" else _is_text(kind)):
            wanted = "encoded image bytes" if role == "image" else "text"
            raise DataError(f"{source}: {role} column {column!r} holds {kind}; it must hold {wanted}")
    if file.metadata.num_rows > _MAX_ROWS:
        raise DataError(f"{source}: {file.metadata.num_rows} rows; at most {_MAX_ROWS} are read, make a smaller file")
    _check_row_groups(file, source)


def _check_row_groups(file: pq.ParquetFile, source: str) -> None:
    for group in range(file.metadata.num_row_groups):
        size_bytes = group_bytes(file, group)
        if size_bytes > MAX_GROUP_BYTES:
            raise DataError(
                f"{source}: row group {group} holds {size_bytes} bytes; a worker reads a group at once and takes at most"
                f" {MAX_GROUP_BYTES}; write the file again with fewer rows a group"
            )


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_text(kind: pa.DataType) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(plain) or pa.types.is_large_string(plain)


def _texts(table: pa.Table, column: str, source: str) -> pa.ChunkedArray:
    texts = table[column].cast(pa.string())
    if texts.null_count:
        row = pc.index(texts.is_null(), True).as_py()
        raise DataError(
            f"{source}: column {column!r} is empty in {texts.null_count} rows, the first is row {row}; fill or remove them"
        )
    return texts


def _check_splits(splits: pa.ChunkedArray, config: ParquetData, source: str) -> None:
    unknown = sorted(set(splits.unique().to_pylist()) - SPLIT_NAMES.keys())
    if unknown:
        row = pc.index(splits, unknown[0]).as_py()
        named = some([repr(name) for name in unknown])
        known = ", ".join(sorted(SPLIT_NAMES))
        raise DataError(
            f"{source}: unknown split names in column {config.split!r}: {named}, the first in row {row}; known are {known}"
        )


def _class_names(labels: pa.ChunkedArray, config: ParquetData, source: str) -> list[str]:
    names = sorted(labels.unique().to_pylist(), key=str.encode)
    if any(not name.strip() for name in names):
        raise DataError(
            f"{source}: column {config.label!r} holds a blank class name; name the class, its name goes into prompts"
        )
    spellings = Counter(unicodedata.normalize("NFC", name) for name in names)
    twins = [repr(name) for name, count in spellings.items() if count > 1]
    if twins:
        raise DataError(
            f"{source}: class names that differ only in their Unicode form: {some(twins)}; write each in one form"
        )
    return names
