"""`xmadapter check` counts the images of every reader by split and class, and names the first that cannot be read."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.unit.data import arrow_folders, idx_files, test_coop, test_csv, test_imagenet
from xmadapter.cli import cli
from xmadapter.config.base import Frozen
from xmadapter.errors import DataError

CASES: dict[str, Callable[[Path], tuple[Frozen, list[str]]]] = {
    "coop": lambda root: (
        test_coop.make(root, test_coop.pets_split()),
        ["abyssinian 3 3 3", "american bulldog 3 3 3", "18 images, all readable"],
    ),
    "aircraft": lambda root: (test_coop.write_aircraft(root / "a"), ["A330-200 2 2 2", "18 images, all readable"]),
    "imagenet": lambda root: (test_imagenet.make(root), ["tench 8 2 3", "52 images, all readable"]),
    "imagenet-a": lambda root: (
        test_imagenet.make(root, ["n01440764/1.png", "n01443537/1.png"], dataset="imagenet_a"),
        ["tench 0 0 1", "2 images, all readable"],
    ),
    "csv": lambda root: (test_csv.write(root, test_csv.lines()), ["cat 5 2 3", "dog 5 2 3", "20 images, all readable"]),
    "idx": lambda root: (idx_files.write(root), ["zero 8 2 3", "26 images, all readable"]),
    "huggingface": lambda root: (arrow_folders.write(root), ["cat 6 2 3", "22 images, all readable"]),
}


def check(data: Frozen, folder: Path) -> str:
    path = folder / "encode.yaml"
    path.write_text(f"data: {data.model_dump_json()}\noutput: x\n")
    result = CliRunner().invoke(cli, ["check", str(path)])
    if result.exception is not None:
        raise result.exception
    return " ".join(result.output.split())


@pytest.mark.parametrize("name", CASES)
def test_counts_stand_by_split_and_class(tmp_path: Path, name: str) -> None:
    data, expected = CASES[name](tmp_path)
    printed = check(data, tmp_path)
    assert printed.startswith("class train validation test")
    assert [line for line in expected if line not in printed] == []


def test_the_first_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    data, _ = CASES["csv"](tmp_path)
    (tmp_path / "cat/3.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"cat/3\.png cannot be read: not_image"):
        check(data, tmp_path)
