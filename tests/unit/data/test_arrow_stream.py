"""Rows of Arrow streams: each found in its batch, and streams that are not what they should be."""

import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.arrow_folders import IMAGE, rows, write_split, write_stream
from tests.unit.data.makers import encoded, picture
from xmadapter.config.data import HuggingFaceData
from xmadapter.data import BadImage, media_uri, read_huggingface, read_media
from xmadapter.errors import DataError


class TestReadingRows:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return write_stream(tmp_path / "a #50%.arrow", rows("all", 12), batch=5)

    @pytest.mark.parametrize("row", [0, 4, 5, 11])
    def test_each_row_is_found_in_its_batch(self, path: Path, row: int) -> None:
        assert read_media(media_uri(path, column="image", row=row)) == encoded(picture(f"all/{row}"))

    @pytest.mark.parametrize(("column", "row"), [("image", 12), ("picture", 0)])
    def test_what_is_not_there_is_missing(self, path: Path, column: str, row: int) -> None:
        with pytest.raises(BadImage, match="missing: no row"):
            read_media(media_uri(path, column=column, row=row))

    def test_a_column_of_numbers_is_no_image(self, path: Path) -> None:
        with pytest.raises(BadImage, match="not_image"):
            read_media(media_uri(path, column="label", row=0))

    def test_cells_without_bytes_are_empty_and_a_path_is_not_followed(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret.png"
        secret.write_bytes(encoded(picture("secret")))
        cells = [None, {"bytes": None, "path": str(secret)}, {"bytes": b"", "path": str(secret)}]
        path = write_stream(tmp_path / "a.arrow", pa.table({"image": pa.array(cells, IMAGE)}))
        for row in range(3):
            with pytest.raises(BadImage, match="empty"):
                read_media(media_uri(path, column="image", row=row))

    def test_a_rewritten_file_is_read_again(self, path: Path) -> None:
        uri = media_uri(path, column="image", row=0)
        before = read_media(uri)
        path.unlink()
        write_stream(path, rows("other", 3))
        assert (before, read_media(uri)) == (encoded(picture("all/0")), encoded(picture("other/0")))

    @pytest.mark.timeout(5)
    def test_a_fifo_does_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.arrow")
        with pytest.raises(BadImage, match="not_regular"):
            read_media(media_uri(tmp_path / "a.arrow", column="image", row=0))

    def test_a_stream_that_ends_between_batches_is_truncated(self, path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(BadImage, match="truncated"):
            read_media(media_uri(path, column="image", row=0))

    def test_an_arrow_file_of_the_other_kind_is_refused(self, tmp_path: Path) -> None:
        table = rows("all", 3)
        with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        with pytest.raises(BadImage, match="no Arrow stream"):
            read_media(media_uri(tmp_path / "a.arrow", column="image", row=0))


@given(st.data())
def test_a_damaged_stream_is_refused_or_read_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.getbasetemp() / "damaged-stream"
    path = write_split(root, rows("all", 20), batch=6) / "data-00000-of-00001.arrow"
    damaged = bytearray(path.read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
        damaged[position] ^= data.draw(st.integers(1, 255))
    path.unlink()
    path.write_bytes(damaged[: data.draw(st.sampled_from([len(damaged), len(damaged) - 8, len(damaged) // 2, 9]))])
    said = []
    try:
        for uri in read_huggingface(HuggingFaceData(root=str(root))).table["media"].to_pylist():
            read_media(uri)
    except (DataError, BadImage) as refused:
        said.append(str(refused))
    assert not any("\n" in message for message in said)
