"""Read a list of image files with their classes: a CSV file, or a Parquet file with a column of paths."""

import csv
import io
from typing import NamedTuple

import pyarrow as pa

from xmadapter.config.data import CsvData
from xmadapter.data.cells import DAMAGE
from xmadapter.data.columns import (
    MAX_ROWS,
    Place,
    check_class_names,
    check_splits,
    filled,
    is_text_type,
    open_table,
    row_place,
)
from xmadapter.data.files import one_line
from xmadapter.data.names import printable
from xmadapter.data.objects import AnyPath, any_path
from xmadapter.data.paths import is_text, locate, read_list, require_any_file, require_once, require_root
from xmadapter.data.prompts import clean_class_name
from xmadapter.data.samples import SPLIT_NAMES, Sample, SampleIndex, Split, build_index, require_usable
from xmadapter.data.splitting import Open, settle_splits
from xmadapter.errors import DataError, some

__all__ = ["read_csv"]

_DEFAULT_SPLIT = "split"
_DEFAULT_CAPTION = "caption"


class _Rows(NamedTuple):
    """The columns of a list as text, and where each row stands."""

    table: pa.Table
    place: Place
    source: str


def read_csv(config: CsvData) -> SampleIndex:
    """Read a list with a row per image: its path, its class, and if they are there its split and a caption.

    An id is the path as listed, without `./` and doubled slashes; paths stay below `root`. Class names become words as folder
    names do, in the order of their bytes. Where all three splits are named, no image is opened. Without a column of splits, or
    without validation rows in it, images are read once and dealt by the hash of their content as `read_image_folder` does it,
    which keeps copies together; and copies in train and test are refused.

    A file that ends in `.parquet` is read as Parquet, anything else as CSV: UTF-8 with a header, commas, and double quotes
    around cells that need them. A listed file that is absent stays in the index: whoever decodes it skips it with a reason.

    List and images may lie in buckets, each where it likes.

    Raises:
        ConfigError: The list or `root` does not exist, or `root` holds none of the images.
        DataError: The list is malformed, names a file twice or outside `root`, or has too little to work with.
    """
    source, path = printable(config.path), any_path(config.path)
    root = path.parent if config.root is None else require_root(config.root)
    parquet = config.path.lower().endswith(".parquet")
    rows = _parquet_rows(path, source) if parquet else _csv_rows(path, source)
    paths = _column(rows, config.image, "image").to_pylist()
    listed = [locate(name, folder=root, source=rows.source, where=rows.place(row)) for row, name in enumerate(paths)]
    require_once(listed, source=rows.source)
    labels = _column(rows, config.label, "label")
    names = _class_names(check_class_names(labels, config.label, source=rows.source), config, rows.source)
    label_of = {raw: label for label, raw in enumerate(names)}
    images = [
        Open(one.sample_id, label, split, one.media)
        for one, label, split in zip(listed, labels.to_pylist(), _named_splits(rows, config), strict=True)
    ]
    settled = settle_splits(images, source=rows.source)
    samples = [
        Sample(image.sample_id, split, image.media, label_of[image.class_key], (caption,) if caption else (), sha256)
        for image, (split, sha256), caption in zip(images, settled, _captions(rows, config), strict=True)
    ]
    index = require_usable(build_index(samples, names.values()), source=rows.source)
    require_any_file(listed, folder=root)
    return index


def _csv_rows(path: AnyPath, source: str) -> _Rows:
    try:
        text = read_list(path, setting="path").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    cells: list[list[str]] = []
    lines: list[int] = []
    try:
        header = next(reader, [])
        for record in reader:
            if not record:
                continue
            if len(record) != len(header) or len(lines) == MAX_ROWS:
                fault = (
                    f"has {len(record)} cells, the header {len(header)}" if len(lines) < MAX_ROWS else "is one too many"
                )
                raise DataError(f"{source}: line {reader.line_num} {fault}; mend the list")
            cells.append(record)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(
            f"{source}: line {reader.line_num}: {error}; quote cells that hold commas, quotes or lines"
        ) from error
    columns = [pa.array(list(values), pa.string()) for values in zip(*cells, strict=True)] or [
        pa.array([], pa.string()) for _ in header
    ]
    return _Rows(pa.Table.from_arrays(columns, names=header), lambda row: f"line {lines[row]}", source)


def _parquet_rows(path: AnyPath, source: str) -> _Rows:
    file = open_table(path, source=source)
    try:
        schema = file.schema_arrow
        if file.metadata.num_rows > MAX_ROWS:
            raise DataError(
                f"{source}: {file.metadata.num_rows} rows; at most {MAX_ROWS} are read, make a smaller file"
            )
        names = [name for name in schema.names if schema.names.count(name) > 1 or is_text_type(schema.field(name).type)]
        table = file.read(columns=names)
        table.validate(full=True)
    except DAMAGE as error:
        raise DataError(
            f"{source}: cannot read its rows ({one_line(error)}); the file is damaged, copy or make it again"
        ) from error
    finally:
        file.close(force=True)
    return _Rows(table, row_place, source)


def _column(rows: _Rows, column: str, role: str) -> pa.ChunkedArray:
    _require_column(rows, column, role)
    return filled(rows.table, column, source=rows.source, place=rows.place)


def _require_column(rows: _Rows, column: str, role: str) -> None:
    count = rows.table.column_names.count(column)
    if count != 1:
        found = f"{count} times" if count else "not there"
        there = some(rows.table.column_names, limit=20)
        raise DataError(
            f"{rows.source}: {role} column {column!r} is {found}; its columns of text are {there}; set `{role}`"
        )


def _class_names(raw_names: list[str], config: CsvData, source: str) -> dict[str, str]:
    """Map classes as listed to names for prompts."""
    names: dict[str, str] = {}
    for raw in raw_names:
        name = clean_class_name(raw)
        if not is_text(name):
            raise DataError(
                f"{source}: {printable(raw)!r} in column {config.label!r} is no class name for a prompt; rename it"
            )
        twin = next((other for other, taken in names.items() if taken == name), None)
        if twin is not None:
            raise DataError(f"{source}: {twin!r} and {raw!r} both read as class {name!r}; write it in one way")
        names[raw] = name
    return names


def _named_splits(rows: _Rows, config: CsvData) -> list[Split] | list[None]:
    if config.split is None and _DEFAULT_SPLIT not in rows.table.column_names:
        return [None] * rows.table.num_rows
    column = config.split or _DEFAULT_SPLIT
    splits = _column(rows, column, "split")
    check_splits(splits, column, source=rows.source, place=rows.place)
    return [SPLIT_NAMES[name] for name in splits.to_pylist()]


def _captions(rows: _Rows, config: CsvData) -> list[str]:
    if config.caption is None and _DEFAULT_CAPTION not in rows.table.column_names:
        return [""] * rows.table.num_rows
    column = config.caption or _DEFAULT_CAPTION
    _require_column(rows, column, "caption")
    return [text or "" for text in rows.table[column].cast(pa.string()).to_pylist()]
