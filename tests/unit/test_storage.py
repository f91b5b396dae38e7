"""Durable bytes: whole or not at all, at any fault."""

import errno
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.factories import Faults, listing
from xmadapter import storage
from xmadapter.errors import ResourceError
from xmadapter.storage import (
    append_durably,
    local_path,
    make_folder,
    put_if_absent,
    remove,
    sweep_temporary,
    write_durably,
)


def write(path: Path, data: bytes) -> None:
    write_durably(path, lambda file: file.write(data))


def test_writing_replaces_the_whole_file(tmp_path):
    write(tmp_path / "a", b"long old content")
    write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert listing(tmp_path) == ["a"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_after_a_fault_a_reader_sees_the_old_file_or_the_new(tmp_path, monkeypatch, at: int, number: int):
    write(tmp_path / "a", b"old")
    Faults(monkeypatch, at, OSError(number, os.strerror(number)))
    with pytest.raises(ResourceError, match=os.strerror(number)):
        write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == (b"old" if at < 2 else b"new")
    assert listing(tmp_path) == ["a"]


def test_an_error_of_the_writer_leaves_the_old_file(tmp_path):
    write(tmp_path / "a", b"old")
    with pytest.raises(ZeroDivisionError):
        write_durably(tmp_path / "a", lambda file: file.write(b"new") and 1 / 0)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert listing(tmp_path) == ["a"]


def test_bytes_are_synced_before_the_name_is_given_and_the_folder_after(tmp_path, monkeypatch):
    calls: list[str] = []
    for name in ("fsync", "replace"):
        function = getattr(os, name)
        monkeypatch.setattr(
            storage.os, name, lambda *rest, name=name, function=function: (calls.append(name), function(*rest))
        )
    write(tmp_path / "a", b"new")
    assert calls == ["fsync", "replace", "fsync"]


def test_of_many_writers_one_creates_the_file(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: put_if_absent(tmp_path / "a", str(number).encode()), range(40)))
    assert won.count(True) == 1
    assert (tmp_path / "a").read_bytes() == str(won.index(True)).encode()
    assert listing(tmp_path) == ["a"]


def test_a_full_disk_says_to_free_space_and_anything_else_to_check_the_path(tmp_path, monkeypatch):
    with pytest.raises(ResourceError, match="check the path and its permissions"):
        write(tmp_path / "nowhere" / "a", b"")
    Faults(monkeypatch, 0, OSError(errno.ENOSPC, "full"))
    with pytest.raises(ResourceError, match="free some space and run the same command again"):
        write(tmp_path / "a", b"new")


def test_a_file_size_limit_leaves_nothing_behind(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(ResourceError, match="free some space"):
            write(tmp_path / "a", b"x" * 50_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert listing(tmp_path) == []


def test_appending_adds_at_the_end_and_syncs(tmp_path, monkeypatch):
    append_durably(tmp_path / "a", b"one")
    faults = Faults(monkeypatch, -1, OSError())
    append_durably(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert faults.calls >= 1


def test_a_folder_where_a_file_should_be_is_told(tmp_path):
    (tmp_path / "a").mkdir()
    for action in (lambda: write(tmp_path / "a", b""), lambda: append_durably(tmp_path / "a", b"")):
        with pytest.raises(ResourceError, match="cannot write"):
            action()


def test_a_file_where_a_folder_should_be_is_told(tmp_path):
    write(tmp_path / "a", b"")
    with pytest.raises(ResourceError, match="cannot write"):
        make_folder(tmp_path / "a" / "b")


def test_removing_what_is_not_there_is_fine(tmp_path):
    remove(tmp_path / "a")
    write(tmp_path / "a", b"")
    remove(tmp_path / "a")
    assert listing(tmp_path) == []


def test_sweeping_deletes_old_temporary_files_only(tmp_path):
    write(tmp_path / "a", b"")
    for number in range(3):
        (tmp_path / f".tmp-{number}").write_bytes(b"half")
        os.utime(tmp_path / f".tmp-{number}", (0, 0))
    assert sweep_temporary(tmp_path) == 3
    assert listing(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("uri", "path"), [("a/b", "a/b"), ("/a/b", "/a/b"), ("file:///a/b", "/a/b"), ("~", str(Path.home()))]
)
def test_a_local_uri_is_a_path(uri: str, path: str):
    assert local_path(uri) == Path(path)


@pytest.mark.parametrize("uri", ["s3://bucket/key", "https://host/a", "gs://b"])
def test_another_scheme_is_refused(uri: str):
    with pytest.raises(ResourceError, match="only local paths and file://"):
        local_path(uri)
