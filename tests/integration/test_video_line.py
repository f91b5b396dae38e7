"""The line for videos: encode, finetune under both poolings, evaluate, export, search; on moving shapes, with a small random model."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmarks.make_moving_shapes import make_videos
from tests.integration.line import Desk, write_config
from tests.unit.encoders.zoo import FAMILIES, make_family

pytestmark = pytest.mark.timeout(300)

FIT = {"epochs": 2, "batch_size": 6, "learning_rate": 0.01}
TEXT = {"kind": "text", "temperature": 1.0}
METHODS: list[dict[str, Any]] = [
    {"adapter": {"kind": "zero-shot"}},
    {"adapter": {"kind": "zero-shot", "pooling": TEXT}, "name": "Zero-shot by text"},
    {"adapter": {"kind": "cross-modal", "first_block": 1, "fit": FIT, "pooling": dict(TEXT)}, "space": {}},
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, desk: Desk) -> Path:
    """Twenty videos, encoded, swept and tested."""
    place = tmp_path_factory.mktemp("videos")
    assert make_videos(place, 20) == {"train": 12, "val": 3, "test": 5}
    data = {
        "kind": "video",
        "root": str(place / "videos"),
        "lists": {"kind": "table", "path": str(place / "captions.json")},
        "frames": 4,
    }
    encoder = {"kind": "open_clip", "model": f"local-dir:{make_family(place / 'model', FAMILIES['CLIP ViT'])}"}
    encode = {"data": data, "encoder": encoder, "views": 0, "output": str(place / "features")}
    sweep = {
        "features": str(place / "features"),
        "output": str(place / "sweep"),
        "experiment": "videos",
        "methods": METHODS,
        "seeds": [1],
        "tracking": {"uri": f"sqlite:///{place / 'mlflow.db'}"},
    }
    for step in (
        ("pipelines.encode", "--config", write_config(place / "encode.yaml", encode)),
        ("pipelines.finetune", "--config", write_config(place / "finetune.yaml", sweep)),
        ("pipelines.evaluate", f"sweep={place / 'sweep'}"),
    ):
        done = desk(*step)
        assert done.status == 0, done.err
    return place


def test_every_video_is_ranked_under_either_pooling(place: Path):
    table = pq.read_table(place / "sweep" / "ranks.parquet")
    ranks: dict[str, list[int]] = {}
    for row in table.to_pylist():
        ranks.setdefault(row["method"], []).append(row["rank"])
    assert ranks.keys() == {"Zero-shot", "Zero-shot by text", "Cross-Modal Adapter"}
    assert {len(found) for found in ranks.values()} == {5 + 5}
    assert all(1 <= rank <= 5 for found in ranks.values() for rank in found)


def test_a_bundle_finds_videos_by_a_text(place: Path, desk: Desk):
    bundle = place / "bundle"
    done = desk("pipelines.export", f"sweep={place / 'sweep'}", f"output={bundle}", "method=Cross-Modal Adapter")
    assert done.status == 0, done.err
    found = desk("xmadapter", "search", bundle, "a red circle", "--top", "20")
    assert found.status == 0, found.err
    names = [Path(line.split("  ")[1]).name for line in found.out.splitlines()]
    assert sorted(names) == [f"{number:04d}.mp4" for number in range(20)]
