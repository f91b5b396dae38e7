"""Read the index of a Parquet file that holds a row per image."""

import os

import pyarrow as pa
import pyarrow.parquet as pq

from xmadapter.config.data import ParquetData
from xmadapter.data.cells import DAMAGE, MAX_GROUP_BYTES, group_bytes
from xmadapter.data.columns import MAX_ROWS, check_class_names, check_splits, filled, is_text_type, open_table
from xmadapter.data.files import one_line
from xmadapter.data.media import media_uri
from xmadapter.data.objects import any_path
from xmadapter.data.samples import SPLIT_NAMES, Sample, SampleIndex, build_index, require_usable
from xmadapter.errors import DataError, some

__all__ = ["read_parquet"]


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
    path = any_path(config.path)
    source = repr(os.fspath(path))[1:-1]
    file = open_table(path, source=source)
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
    labels = filled(table, config.label, source=source)
    splits = filled(table, config.split, source=source)
    check_splits(splits, config.split, source=source)
    names = check_class_names(labels, config.label, source=source)
    label_of = {name: label for label, name in enumerate(names)}
    samples = [
        Sample(f"row-{row:09d}", SPLIT_NAMES[split], media_uri(path, column=config.image, row=row), label_of[label])
        for row, (split, label) in enumerate(zip(splits.to_pylist(), labels.to_pylist(), strict=True))
    ]
    return require_usable(build_index(samples, names), source=source)


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
        if not (_is_bytes(kind) if role == "image" else is_text_type(kind)):
            wanted = "encoded image bytes" if role == "image" else "text"
            raise DataError(f"{source}: {role} column {column!r} holds {kind}; it must hold {wanted}")
    if file.metadata.num_rows > MAX_ROWS:
        raise DataError(f"{source}: {file.metadata.num_rows} rows; at most {MAX_ROWS} are read, make a smaller file")
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
