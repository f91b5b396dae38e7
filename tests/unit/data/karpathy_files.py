"""COCO in miniature: a JSON file with Karpathy's splits, and the images it names."""

import json
from pathlib import Path

from tests.unit.data.makers import fill
from xmadapter.config.data import KarpathyData

Record = dict[str, object]


def record(number: int, split: str, *, captions: int = 5, **changes: object) -> Record:
    folder = "val2014" if split in ("val", "test", "restval") else "train2014"
    raws = [f"Picture {number}, text {sentence}." for sentence in range(captions)]
    return {
        "filepath": folder,
        "filename": f"COCO_{folder}_{number:012d}.jpg",
        "imgid": number,
        "cocoid": number + 100,
        "split": split,
        "sentids": list(range(captions)),
        "sentences": [{"tokens": raw.split(), "raw": raw, "imgid": number, "sentid": 0} for raw in raws],
    } | changes


RECORDS = [
    record(0, "train"),
    record(1, "restval"),
    record(2, "val", captions=7),
    record(3, "test"),
    record(4, "train"),
]


def write_coco(folder: Path, records: list[Record] = RECORDS) -> KarpathyData:
    """Write the JSON file and every image it names."""
    fill(
        folder,
        [f"{one['filepath']}/{one['filename']}" if "filepath" in one else f"{one['filename']}" for one in records],
    )
    (folder / "dataset.json").write_text(json.dumps({"dataset": "coco", "images": records}))
    return KarpathyData(path=str(folder / "dataset.json"), root=str(folder))
