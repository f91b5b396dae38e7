"""`xmadapter check` on caption data."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.unit.data.makers import fill
from xmadapter.cli import cli
from xmadapter.errors import DataError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Six captioned images: three for training, one for validation, two for the test."""
    splits = ["train", "train", "restval", "val", "test", "test"]
    images = [
        {"imgid": number, "filename": f"{number}.png", "split": split, "sentences": [{"raw": "A."}, {"raw": "B."}]}
        for number, split in enumerate(splits)
    ]
    fill(tmp_path, [str(one["filename"]) for one in images])
    (tmp_path / "dataset.json").write_text(json.dumps({"images": images}))
    path = tmp_path / "encode.yaml"
    data = {"kind": "karpathy", "path": f"{tmp_path}/dataset.json", "root": str(tmp_path)}
    path.write_text(json.dumps({"data": data, "output": f"{tmp_path}/store"}))
    return path


def test_captions_are_counted_beside_images(config: Path) -> None:
    done = CliRunner().invoke(cli, ["check", str(config)], catch_exceptions=False)
    assert done.stdout.splitlines() == [
        "               train  validation        test",
        "images             3           1           2",
        "captions           6           2           4",
        "6 images, all readable; split hash and features follow from pipelines.encode",
    ]


def test_the_first_unreadable_image_is_named(config: Path) -> None:
    (config.parent / "2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2\.png cannot be read: not_image"):
        CliRunner().invoke(cli, ["check", str(config)], catch_exceptions=False)
