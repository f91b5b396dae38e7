"""Karpathy's caption files: COCO's four splits, several captions an image, and files that are not what they should be."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.contracts.reader import CaptionReaderContract
from tests.unit.data.karpathy_files import RECORDS, Record, record, write_coco
from xmadapter.config.data import KarpathyData
from xmadapter.data import BadImage, SampleIndex, read_index, read_karpathy, read_media
from xmadapter.errors import ConfigError, DataError


def read(folder: Path, *records: Record, **fields: object) -> SampleIndex:
    config = write_coco(folder, [*RECORDS, *records])
    return read_karpathy(KarpathyData.model_validate(config.model_dump() | fields))


class TestKarpathy(CaptionReaderContract):
    @pytest.fixture
    def index(self, tmp_path: Path) -> SampleIndex:
        return read_index(write_coco(tmp_path / "coco"))

    @pytest.fixture
    def shuffled(self, tmp_path: Path) -> SampleIndex:
        return read_index(write_coco(tmp_path / "elsewhere", RECORDS[::-1]))

    @pytest.fixture
    def read_missing(self, tmp_path: Path) -> Callable[[], SampleIndex]:
        return partial(read_karpathy, KarpathyData(path=str(tmp_path / "absent.json"), root=str(tmp_path)))

    @pytest.fixture
    def read_truncated(self, tmp_path: Path) -> Callable[[], SampleIndex]:
        config = write_coco(tmp_path / "cut")
        path = Path(config.path)
        path.write_bytes(path.read_bytes()[:-30])
        return partial(read_karpathy, config)


def test_restval_counts_as_train_and_val_as_validation(tmp_path: Path) -> None:
    index = read(tmp_path)
    assert index.caption_counts() == {"train": (3, 15), "validation": (1, 7), "test": (1, 5)}
    assert index.table["sample_id"].to_pylist()[-1] == "val2014/COCO_val2014_000000000003.jpg"


def test_restval_can_be_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, restval=False).caption_counts()["train"] == (2, 10)


def test_the_first_captions_of_each_image_can_be_kept(tmp_path: Path) -> None:
    index = read(tmp_path, captions_per_image=2)
    assert index.caption_counts() == {"train": (3, 6), "validation": (1, 2), "test": (1, 2)}
    assert index.select("test").table["captions"].to_pylist() == [["Picture 3, text 0.", "Picture 3, text 1."]]


def test_flickr_has_no_folders(tmp_path: Path) -> None:
    records = [record(number, split) for number, split in enumerate(("train", "val", "test"))]
    for one in records:
        del one["filepath"], one["cocoid"]
    index = read_karpathy(write_coco(tmp_path, records))
    assert index.table["sample_id"].to_pylist()[0] == "COCO_train2014_000000000000.jpg"


def test_captions_keep_their_letters_and_lose_their_line_ends(tmp_path: Path) -> None:
    raws = ["A  Dog!\n", "\u2028", "caf\u00e9 \N{DOG}"]
    index = read(tmp_path, record(9, "train", sentences=[{"raw": raw} for raw in raws]))
    assert ["A Dog!", "caf\u00e9 \N{DOG}"] in index.table["captions"].to_pylist()


def test_an_image_twice_is_refused_with_both_numbers(tmp_path: Path) -> None:
    again = record(9, "test", filepath="val2014/../val2014/.", filename="COCO_val2014_000000000003.jpg")
    with pytest.raises(DataError, match=r"leads|no path"):
        read(tmp_path, again)
    with pytest.raises(
        DataError,
        match=r"dataset\.json: image 3 and image 9 both name 'val2014/COCO_val2014_000000000003\.jpg'",
    ):
        read(tmp_path, again | {"filepath": "val2014/."})


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "a/../../b.jpg", "a\0b.jpg", ""])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    config = write_coco(tmp_path)
    bad = [*RECORDS, record(9, "train", filepath="", filename=name)]
    Path(config.path).write_text(json.dumps({"images": bad}))
    with pytest.raises(DataError, match=r"^[^\n\0]*dataset\.json: image 9: [^\n\0]*$"):
        read_karpathy(config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": "dev"}, ": image 9 has split 'dev'; known are restval, test, train, val, valid, validation"),
        ({"sentences": []}, ": image 9 .* has no caption"),
        ({"sentences": [{"raw": " "}]}, ": image 9 .* has no caption"),
        ({"sentences": [{"raw": 3}]}, r": images\.5\.sentences\.0\.raw: .*string"),
        ({"sentences": None}, r": images\.5\.sentences"),
        ({"filename": None}, r": images\.5\.filename"),
        ({"imgid": "x"}, r": images\.5\.imgid"),
    ],
)
def test_a_malformed_record_is_named(tmp_path: Path, change: Record, said: str) -> None:
    config = write_coco(tmp_path)
    Path(config.path).write_text(json.dumps({"images": [*RECORDS, record(9, "train") | change]}))
    with pytest.raises(DataError, match=rf"^[^\n]*dataset\.json{said}[^\n]*$"):
        read_karpathy(config)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"images": {}}', b"\xff", b"[" * 100_000, b'{"images": []}'])
def test_another_file_is_refused_in_one_line(tmp_path: Path, text: bytes) -> None:
    config = write_coco(tmp_path)
    Path(config.path).write_bytes(text)
    with pytest.raises(DataError, match=r"^[^\n]*dataset\.json: [^\n]*$"):
        read_karpathy(config)


def test_a_wrong_folder_of_images_names_the_setting(tmp_path: Path) -> None:
    config = write_coco(tmp_path / "coco")
    for root in (tmp_path / "absent", tmp_path):
        with pytest.raises(ConfigError, match="correct `root`"):
            read_karpathy(KarpathyData(path=config.path, root=str(root)))


def test_an_absent_image_stays_in_the_index(tmp_path: Path) -> None:
    (tmp_path / "val2014").mkdir()
    config = write_coco(tmp_path)
    (tmp_path / "val2014" / "COCO_val2014_000000000003.jpg").unlink()
    test = read_karpathy(config).select("test")
    with pytest.raises(BadImage, match="missing"):
        read_media(test.table["media"][0].as_py())
