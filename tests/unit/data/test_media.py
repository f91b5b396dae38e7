"""Media URIs, and reading files that may be anything."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmadapter.data import MAX_BYTES, BadImage, media_uri, parse_media_uri, read_media

PATHS = st.binary(min_size=1, max_size=80).filter(lambda name: b"\0" not in name).map(os.fsdecode)
NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: not {0, ord("/")} & set(name) and name not in (b".", b"..")
)


@given(PATHS)
def test_any_path_comes_back_from_its_uri(path: str) -> None:
    uri = media_uri(path)
    assert uri.isascii()
    assert parse_media_uri(uri) == (Path(path), None, None)


@given(PATHS, st.text(min_size=1), st.integers(0, 10**9))
def test_any_parquet_row_comes_back_from_its_uri(path: str, column: str, row: int) -> None:
    column = column.encode("utf-8", "replace").decode()
    assert parse_media_uri(media_uri(path, column=column, row=row)) == (Path(path), column, row)


@given(NAMES)
def test_any_file_is_read_by_its_uri(tmp_path_factory: pytest.TempPathFactory, name: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / os.fsdecode(name)
    path.write_bytes(b"content")
    assert read_media(media_uri(path)) == b"content"
    path.unlink()


def test_a_uri_reads_like_its_path() -> None:
    assert media_uri("pets/a #1.parquet", column="image", row=41) == "pets/a%20%231.parquet#column=image&row=41"
    assert media_uri("pets/cat.jpg") == "pets/cat.jpg"


@pytest.mark.parametrize(
    "uri", ["a#", "a#row=1", "a#column=x", "a#column=x&row=-1", "a#column=x&row=1&b=2", "a#column=x&row=²"]
)
def test_a_malformed_fragment_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="column=NAME&row=NUMBER"):
        parse_media_uri(uri)


def test_a_column_without_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="go together"):
        media_uri("a.parquet", column="image")


def reason_to_read(path: Path) -> str:
    with pytest.raises(BadImage) as caught:
        read_media(media_uri(path))
    return caught.value.reason


@pytest.mark.timeout(5)
def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert reason_to_read(tmp_path / "a.jpg") == "not_regular"


def test_a_socket_is_not_regular(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "a.jpg"))
        assert reason_to_read(tmp_path / "a.jpg") == "not_regular"


def test_a_folder_is_not_regular(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    assert reason_to_read(tmp_path / "a.jpg") == "not_regular"


def test_links_to_nowhere_and_to_themselves_are_missing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "b.jpg")
    assert {reason_to_read(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg", "a" * 300)} == {"missing"}


def test_a_file_without_bytes_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert reason_to_read(tmp_path / "a.jpg") == "empty"


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert reason_to_read(tmp_path / "a.jpg") == "too_large"
