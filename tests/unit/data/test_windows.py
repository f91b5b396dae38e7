"""Objects read in windows: the bytes of the file, wherever one reads, and no request for what is skipped."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.tars import sample, samples, write_tar
from xmadapter.data.tar import tar_members
from xmadapter.data.windows import open_windows

CONTENT = bytes(range(256)) * 4
MOVES = st.tuples(st.sampled_from([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END]), st.integers(0, 1200), st.integers(0, 300))


@given(st.lists(MOVES, max_size=12), st.integers(1, 300))
def test_reading_here_and_there_gives_what_the_file_gives(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[int, int, int]], window_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "windows"
    path.write_bytes(CONTENT)
    with path.open("rb") as file, open_windows(str(path), window_bytes=window_bytes) as windows:
        for whence, offset, size in moves:
            offset = -min(offset, len(CONTENT)) if whence == os.SEEK_END else offset
            assert windows.seek(offset, whence) == file.seek(offset, whence)
            assert windows.read(size) == file.read(size)


@pytest.mark.parametrize("window_bytes", [1, 512, 700, 1 << 20])
def test_an_archive_has_the_same_members(tmp_path: Path, window_bytes: int) -> None:
    path = write_tar(tmp_path / "a.tar", [*samples("a", "b", "c"), ("n" * 120, bytes(5000)), *sample("d")])
    with path.open("rb") as file, open_windows(str(path), window_bytes=window_bytes) as windows:
        assert list(tar_members(windows, source="a.tar")) == list(tar_members(file, source="a.tar")) != []


def test_an_absent_object_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        open_windows(str(tmp_path / "nothing"))


def test_there_is_no_place_before_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    with open_windows(str(tmp_path / "a")) as windows, pytest.raises(ValueError, match="no place -1"):
        windows.seek(-1)
