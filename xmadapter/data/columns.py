"""Columns of a table of samples, from Parquet or CSV: checked before a value is used, with the record in every message."""

import unicodedata
from collections import Counter
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xmadapter.data.cells import open_parquet
from xmadapter.data.files import BadImage
from xmadapter.data.objects import AnyPath, local_copy
from xmadapter.data.samples import SPLIT_NAMES
from xmadapter.errors import ConfigError, DataError, some

__all__ = [
    "MAX_ROWS",
    "Place",
    "check_class_names",
    "check_splits",
    "filled",
    "is_text_type",
    "open_table",
    "row_place",
]

MAX_ROWS = 5_000_000
"""Rows of one table of samples."""

Place = Callable[[int], str]
"""Says where a row, counted from 0, stands in its file."""


def row_place(row: int) -> str:
    """Name a row of a Parquet file by its number."""
    return f"row {row}"


def open_table(path: AnyPath, *, source: str) -> pq.ParquetFile:
    """Open a Parquet file for its rows; an object is fetched.

    Raises:
        ConfigError: It does not exist.
        DataError: It is damaged, or no regular file.
    """
    try:
        return open_parquet(local_copy(path))
    except BadImage as bad:
        if bad.reason == "missing":
            raise ConfigError(f"{source}: no such file ({bad.detail}); correct `path`") from bad
        advice = (
            "name one Parquet file"
            if bad.reason == "not_regular"
            else "the file is cut short or damaged, copy or make it again"
        )
        raise DataError(f"{source}: not a readable Parquet file ({bad.detail}); {advice}") from bad


def is_text_type(kind: pa.DataType) -> bool:
    """Say whether a column holds text, plain or as a dictionary."""
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(plain) or pa.types.is_large_string(plain)


def filled(table: pa.Table, column: str, *, source: str, place: Place = row_place) -> pa.ChunkedArray:
    """Take a column as text without an empty cell.

    Raises:
        DataError: A cell has no value.
    """
    texts = table[column].cast(pa.string())
    if texts.null_count:
        first = place(pc.index(texts.is_null(), True).as_py())
        raise DataError(
            f"{source}: column {column!r} is empty in {texts.null_count} rows, the first is {first}; fill or remove them"
        )
    return texts


def check_splits(splits: pa.ChunkedArray, column: str, *, source: str, place: Place = row_place) -> None:
    """Check that every cell names a split.

    Raises:
        DataError: One does not.
    """
    unknown = sorted(set(splits.unique().to_pylist()) - SPLIT_NAMES.keys())
    if unknown:
        first = place(pc.index(splits, unknown[0]).as_py())
        named = some([repr(name) for name in unknown])
        known = ", ".join(sorted(SPLIT_NAMES))
        raise DataError(
            f"{source}: unknown split names in column {column!r}: {named}, the first in {first}; known are {known}"
        )


def check_class_names(labels: pa.ChunkedArray, column: str, *, source: str) -> list[str]:
    """Collect class names in the order of their bytes.

    Raises:
        DataError: One is blank, or two look alike.
    """
    names = sorted(labels.unique().to_pylist(), key=str.encode)
    if any(not name.strip() for name in names):
        raise DataError(
            f"{source}: column {column!r} holds a blank class name; name the class, its name goes into prompts"
        )
    spellings = Counter(unicodedata.normalize("NFC", name) for name in names)
    twins = [repr(name) for name, count in spellings.items() if count > 1]
    if twins:
        raise DataError(
            f"{source}: class names that differ only in their Unicode form: {some(twins)}; write each in one form"
        )
    return names
