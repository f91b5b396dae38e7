"""Folders of the datasets library: its files by pyarrow alone, nothing revived, no path in them followed."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from tests.contracts.reader import ReaderContract
from tests.unit.data.arrow_folders import rows, write, write_split
from tests.unit.data.makers import encoded, picture
from xmadapter.config.data import HuggingFaceData
from xmadapter.data import BadImage, SampleIndex, media_uri, read_huggingface, read_index, read_media
from xmadapter.errors import ConfigError, DataError


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refusal(config: HuggingFaceData) -> str:
    with pytest.raises(DataError) as caught:
        read_huggingface(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestHuggingFace(ReaderContract):
    @pytest.fixture
    def index(self, tmp_path: Path) -> SampleIndex:
        return read_index(write(tmp_path / "a"))

    @pytest.fixture
    def shuffled(self, tmp_path: Path) -> SampleIndex:
        # Its row number is a row's identity, so the layout varies: files, batches, columns, the order of splits.
        config = write(tmp_path / "b", test=6, train=12, validation=4)
        table = rows("train", 12).select(["label", "image"])
        write_split(tmp_path / "b" / "train", table.slice(0, 5), table.slice(5), batch=2)
        return read_index(config)

    @pytest.fixture
    def read_missing(self, tmp_path: Path) -> Callable[[], SampleIndex]:
        return partial(read_huggingface, HuggingFaceData(root=str(tmp_path / "absent")))

    @pytest.fixture
    def read_truncated(self, tmp_path: Path) -> Callable[[], SampleIndex]:
        config = write(tmp_path)
        path = tmp_path / "test" / "data-00000-of-00001.arrow"
        path.write_bytes(path.read_bytes()[:-100])
        return partial(read_huggingface, config)


class TestOneSplit(TestHuggingFace):
    @pytest.fixture
    def index(self, tmp_path: Path) -> SampleIndex:
        write_split(tmp_path / "a", rows("all", 20))
        return read_index(HuggingFaceData(root=str(tmp_path / "a")))

    @pytest.fixture
    def shuffled(self, tmp_path: Path) -> SampleIndex:
        table = rows("all", 20)
        write_split(tmp_path / "b", table.slice(0, 7), table.slice(7), batch=3)
        return read_index(HuggingFaceData(root=str(tmp_path / "b")))


def test_rows_are_numbered_through_the_files_of_a_split(tmp_path: Path) -> None:
    config = write(tmp_path)
    table = rows("train", 12)
    write_split(tmp_path / "train", table.slice(0, 5), table.slice(5))
    media = {row["sample_id"]: row["media"] for row in read_huggingface(config).table.to_pylist()}
    assert media["train/row-000000007"] == media_uri(
        tmp_path / "train/data-00001-of-00002.arrow", column="image", row=2
    )
    assert read_media(media["train/row-000000007"]) == encoded(picture("train/7"))


def test_class_names_keep_their_order_and_become_words(tmp_path: Path) -> None:
    index = read_huggingface(write(tmp_path))
    assert index.class_names == ("cat", "big dog")
    assert index.table["label"].to_pylist()[:4] == [0, 1, 0, 1]


def test_labels_can_be_text(tmp_path: Path) -> None:
    table = rows("all", 20)
    texts = pa.array([["zebra", "ant"][row % 2] for row in range(20)])
    write_split(tmp_path, table.set_column(1, "label", texts), names=None)
    index = read_huggingface(HuggingFaceData(root=str(tmp_path)))
    assert index.class_names == ("ant", "zebra")
    assert index.table["label"].to_pylist()[:2] == [1, 0]


def test_validation_is_carved_out_of_train_where_it_is_absent(tmp_path: Path) -> None:
    counts = read_huggingface(write(tmp_path, train=20, test=4)).counts()
    assert [part["cat"] for part in counts.values()] == [8, 2, 2]


def test_one_image_in_train_and_test_is_refused_where_images_are_read(tmp_path: Path) -> None:
    config = write(tmp_path, train=20, test=4)
    write_split(tmp_path / "test", rows("train", 4))
    assert "test/row-000000000 = train/row-000000000" in refusal(config).replace(
        "train/row-000000000 = test/row-000000000", "test/row-000000000 = train/row-000000000"
    )


def test_other_columns_can_be_named_and_bytes_need_no_struct(tmp_path: Path) -> None:
    plain = pa.table({"png": [encoded(picture(str(row))) for row in range(20)], "kind": ["a", "b"] * 10})
    write_split(tmp_path, plain, names=None)
    index = read_huggingface(HuggingFaceData(root=str(tmp_path), image="png", label="kind"))
    assert read_media(index.table["media"][3].as_py()) == encoded(picture("3"))


@pytest.mark.parametrize("role", ["image", "label"])
def test_an_absent_column_is_refused_with_those_there_are(tmp_path: Path, role: str) -> None:
    config = write(tmp_path).model_copy(update={role: "x"})
    assert f"no {role} column 'x'; its columns are image, label; set `{role}`" in refusal(config)


@pytest.mark.parametrize("label", [-1, 2, None])
def test_a_label_without_a_class_is_refused_with_its_row(tmp_path: Path, label: int | None) -> None:
    config = write(tmp_path)
    table = rows("test", 6)
    write_split(tmp_path / "test", table.set_column(1, "label", pa.array([0, 1, 0, label, 0, 1], pa.int64())))
    assert f"row 3 has the label {label}, classes are 0 to 1" in refusal(config)


def test_splits_that_name_classes_differently_are_refused_with_both_sides(tmp_path: Path) -> None:
    config = write(tmp_path)
    write_split(tmp_path / "test", rows("test", 6), names=("big_dog", "cat", "emu"))
    assert "train has big_dog, cat, test has big_dog, cat, emu" in refusal(config)


@pytest.mark.parametrize(
    ("splits", "fault"),
    [
        (["train", "dev", "test"], "split names dev, test, train; known are"),
        (["train", "val", "validation", "test"], "each once"),
        (["train", "validation"], "save train and test, or train alone"),
        (["test"], "save train and test, or train alone"),
        ("train", "must be a list of names"),
        ([1], "must be a list of names"),
    ],
)
def test_splits_that_cannot_be_used_are_refused(tmp_path: Path, splits: object, fault: str) -> None:
    config = write(tmp_path)
    edit(tmp_path / "dataset_dict.json", splits=splits)
    assert fault in refusal(config)


@pytest.mark.parametrize("name", ["../secret.arrow", "/etc/passwd", "a/b.arrow", "data.parquet", "", 7, "a\0.arrow"])
def test_a_data_file_elsewhere_is_refused(tmp_path: Path, name: object) -> None:
    config = write(tmp_path)
    edit(tmp_path / "train" / "state.json", _data_files=[{"filename": name}])
    assert "is no .arrow file beside it" in refusal(config)


@pytest.mark.parametrize("files", [[], None, ["a.arrow"], {}])
def test_a_state_without_data_files_is_refused(tmp_path: Path, files: object) -> None:
    config = write(tmp_path)
    edit(tmp_path / "train" / "state.json", _data_files=files)
    assert "lists no plain data files" in refusal(config)


@pytest.mark.parametrize("file", ["dataset_dict.json", "train/state.json", "train/dataset_info.json"])
@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1, "a": 2}'])
def test_a_damaged_description_is_refused_by_name(tmp_path: Path, file: str, text: str) -> None:
    config = write(tmp_path)
    (tmp_path / file).write_text(text)
    assert file in refusal(config)


def test_a_folder_that_is_something_else_is_a_mistake_in_the_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither dataset_dict\.json nor state\.json"):
        read_huggingface(HuggingFaceData(root=str(tmp_path)))


class Revived(pa.ExtensionType):
    """Stands for a type that runs code when a stream is opened."""

    seen = False

    def __init__(self) -> None:
        super().__init__(pa.int64(), "tests.revived")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "Revived":
        cls.seen = True
        return cls()


def test_an_extension_type_is_refused_before_it_is_revived(tmp_path: Path) -> None:
    config = write(tmp_path)
    table = rows("train", 12)
    strange = pa.ExtensionArray.from_storage(Revived(), table["label"].combine_chunks())
    write_split(tmp_path / "train", table.append_column("x", strange))
    pa.register_extension_type(Revived())
    try:
        assert "extension type" in refusal(config)
        with pytest.raises(BadImage, match="extension type"):
            read_media(media_uri(tmp_path / "train/data-00000-of-00001.arrow", column="image", row=0))
    finally:
        pa.unregister_extension_type("tests.revived")
    assert not Revived.seen
