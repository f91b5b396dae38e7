"""IDX files: the splits that Fashion-MNIST publishes, validation out of train, and one image at a time."""

import gzip
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.reader import ReaderContract
from tests.unit.data.idx_files import NAMES, images, packed, write
from xmadapter.config.data import IdxData
from xmadapter.data import (
    BadImage,
    IdxRow,
    SampleIndex,
    decode_image,
    idx_file,
    media_uri,
    read_idx,
    read_index,
    read_media,
)
from xmadapter.errors import ConfigError, DataError

SOURCE = Path("/usr/share/datasets/fashion-mnist")


def refusal(config: IdxData) -> str:
    with pytest.raises(DataError) as caught:
        read_idx(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestIdx(ReaderContract):
    @pytest.fixture
    def index(self, tmp_path: Path) -> SampleIndex:
        return read_index(write(tmp_path / "a"))

    @pytest.fixture
    def shuffled(self, tmp_path: Path) -> SampleIndex:
        # Its number is an image's identity, so the layout varies: not compressed.
        return read_index(write(tmp_path / "b", compressed=False))

    @pytest.fixture
    def read_missing(self, tmp_path: Path) -> Callable[[], SampleIndex]:
        return partial(read_idx, IdxData(root=str(tmp_path), class_names=NAMES))

    @pytest.fixture
    def read_truncated(self, tmp_path: Path) -> Callable[[], SampleIndex]:
        config = write(tmp_path)
        path = tmp_path / "t10k-images-idx3-ubyte.gz"
        path.write_bytes(path.read_bytes()[:-20])
        return partial(read_idx, config)


def test_test_stays_and_a_fifth_of_each_class_becomes_validation(tmp_path: Path) -> None:
    index = read_idx(write(tmp_path))
    assert index.counts() == {
        "train": {"zero": 8, "one": 8},
        "validation": {"zero": 2, "one": 2},
        "test": {"zero": 3, "one": 3},
    }
    rows = {row["sample_id"]: row for row in index.table.to_pylist()}
    assert {name for name, row in rows.items() if row["split"] == "test"} == {f"test/{row:05d}" for row in range(6)}
    assert [rows[f"train/{row:05d}"]["label"] for row in range(4)] == [1, 0, 1, 0]


def test_each_uri_gives_the_pixels_of_its_number(tmp_path: Path) -> None:
    index = read_idx(write(tmp_path))
    uris = dict(zip(index.table["sample_id"].to_pylist(), index.table["media"].to_pylist(), strict=True))
    for number, expected in enumerate(images("train", 20)):
        pixels = np.asarray(decode_image(read_media(uris[f"train/{number:05d}"])))
        assert np.array_equal(pixels, np.repeat(expected[..., None], 3, axis=2))


def test_the_file_is_inflated_once_for_all_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = read_idx(write(tmp_path))
    reads = []
    whole = idx_file.read_idx_array
    monkeypatch.setattr(idx_file, "read_idx_array", lambda path: reads.append(path) or whole(path))
    for uri in index.table["media"].to_pylist() * 2:
        read_media(uri)
    assert sorted(path.name[:5] for path in reads) == ["t10k-", "train"]


def test_a_rewritten_file_is_read_again(tmp_path: Path) -> None:
    write(tmp_path)
    uri = media_uri(tmp_path / "t10k-images-idx3-ubyte.gz", part=IdxRow(0))
    before = read_media(uri)
    write(tmp_path, t10k_images_idx3=images("other", 7))
    assert read_media(uri) != before


def test_copies_stay_in_one_split_and_never_lie_in_test(tmp_path: Path) -> None:
    train = images("train", 20)
    train[2] = train[4] = train[6]
    splits = read_idx(write(tmp_path, train_images_idx3=train)).table.to_pylist()
    assert (
        len({row["split"] for row in splits if row["sample_id"] in ("train/00002", "train/00004", "train/00006")}) == 1
    )
    test = images("test", 6)
    test[3] = train[7]
    assert "train/00007 = test/00003" in refusal(write(tmp_path, t10k_images_idx3=test))


def test_images_and_labels_that_differ_in_number_are_refused(tmp_path: Path) -> None:
    config = write(tmp_path, t10k_labels_idx1=np.zeros(5, np.uint8))
    assert "6 images, t10k-labels-idx1-ubyte.gz has 5 labels" in refusal(config)


def test_a_label_without_a_name_is_a_mistake_in_the_config(tmp_path: Path) -> None:
    config = write(tmp_path, t10k_labels_idx1=np.array([0, 1, 2, 0, 1, 2], np.uint8))
    with pytest.raises(ConfigError, match="label 2 has no name, 2 are given; correct `class_names`"):
        read_idx(config)


@pytest.mark.parametrize("names", [("a", "a"), ("a", " "), ("a", "b_c", "b c"), ("a", "\x1b")])
def test_names_that_are_blank_or_not_their_own_are_a_mistake(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="correct `class_names`"):
        read_idx(write(tmp_path).model_copy(update={"class_names": names}))


def test_a_name_without_a_label_leaves_a_class_without_images(tmp_path: Path) -> None:
    config = write(tmp_path).model_copy(update={"class_names": (*NAMES, "two")})
    assert "without a training image: 'two'" in refusal(config)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not_image"),
        (b"\0\0\x0d\1\0\0\0\1\0", "not_image"),
        (b"\0\0\x08\2\0\0\0\1\0\0\0\1\0", "not_image"),
        (b"\0\0\x08\3\0\0", "truncated"),
        (packed(np.zeros((2, 3, 4), np.uint8))[:-1], "truncated"),
        (packed(np.zeros((2, 3, 4), np.uint8)) + b"\0", "corrupt"),
        (packed(np.zeros((0, 3, 4), np.uint8)), "empty"),
        (b"\0\0\x08\3" + b"\xff" * 12, "too_large"),
        (packed(np.zeros(7, np.uint8)), "not_image"),
    ],
    ids=range(9),
)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_that_is_something_else_says_why(tmp_path: Path, data: bytes, reason: str, compressed: bool) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(data) if compressed else data)
    with pytest.raises(BadImage) as caught:
        read_media(media_uri(tmp_path / "a", part=IdxRow(0)))
    assert caught.value.reason == reason


def test_a_gzip_bomb_is_refused_by_the_header_inside(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(packed(np.zeros((2, 2, 2), np.uint8)) + bytes(50_000_000)))
    with pytest.raises(BadImage, match="more values than its header tells"):
        read_media(media_uri(tmp_path / "a.gz", part=IdxRow(0)))


@pytest.mark.timeout(5)
def test_what_is_not_there_is_missing_and_a_fifo_does_not_hang(tmp_path: Path) -> None:
    write(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    for name, number, reason in (
        ("t10k-images-idx3-ubyte.gz", 6, "missing"),
        ("x", 0, "missing"),
        ("fifo", 0, "not_regular"),
    ):
        with pytest.raises(BadImage) as caught:
            read_media(media_uri(tmp_path / name, part=IdxRow(number)))
        assert caught.value.reason == reason


@given(st.data())
def test_a_damaged_file_is_refused_or_read_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.gz"
    damaged = bytearray(gzip.compress(packed(images("train", 3)), mtime=0))
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
        damaged[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    said = []
    try:
        said.append(str(idx_file.read_idx_array(path).shape))
    except BadImage as bad:
        said.append(str(bad))
    assert len(said) == 1
    assert "\n" not in said[0]


def test_fashion_mnist_of_debian_reads_as_ten_balanced_classes() -> None:
    if not SOURCE.is_dir():
        pytest.skip("the Debian package dataset-fashion-mnist is not installed")
    counts = read_index(IdxData(root=str(SOURCE), class_names="fashion-mnist")).counts()
    assert {split: set(classes.values()) for split, classes in counts.items()} == {
        "train": {4800},
        "validation": {1200},
        "test": {1000},
    }
    assert list(counts["test"])[-1] == "ankle boot"
