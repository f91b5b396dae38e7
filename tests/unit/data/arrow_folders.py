"""Folders as the datasets library of Hugging Face saves them, with small images in their rows."""

import json
import os
from pathlib import Path

import pyarrow as pa

from tests.unit.data.makers import encoded, picture
from xmadapter.config.data import HuggingFaceData

IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
NAMES = ("cat", "big_dog")


def rows(name: str, count: int) -> pa.Table:
    """Rows of two classes in turn, as the library lays them out."""
    images = [{"bytes": encoded(picture(f"{name}/{row}")), "path": None} for row in range(count)]
    return pa.table(
        {"image": pa.array(images, IMAGE), "label": pa.array([row % 2 for row in range(count)], pa.int64())}
    )


def write_stream(path: Path, table: pa.Table, *, batch: int = 1000) -> Path:
    with pa.OSFile(os.fsencode(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch)
    return path


def write_split(folder: Path, *tables: pa.Table, names: tuple[str, ...] | None = NAMES, batch: int = 1000) -> Path:
    """Write one split in a file per table."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [f"data-{number:05d}-of-{len(tables):05d}.arrow" for number in range(len(tables))]
    for name, table in zip(files, tables, strict=True):
        write_stream(folder / name, table, batch=batch)
    label = {"_type": "ClassLabel", "names": names} if names else {"dtype": "string", "_type": "Value"}
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in files]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {"image": {"_type": "Image"}, "label": label}}))
    return folder


def write(root: Path, **splits: int) -> HuggingFaceData:
    """Write splits of so many rows; by default all three."""
    counts = splits or {"train": 12, "validation": 4, "test": 6}
    for name, count in counts.items():
        write_split(root / name, rows(name, count))
    (root / "dataset_dict.json").write_text(json.dumps({"splits": list(counts)}))
    return HuggingFaceData(root=str(root))
