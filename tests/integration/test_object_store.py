"""The storage on buckets: a local S3 server, a server that speaks just enough of Google's, and servers that misbehave."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.factories import listing
from tests.faults import exit_of
from tests.integration.services import GOOGLE_CONDITION, S3_CONDITION, Bucket, server, use
from xmadapter import storage
from xmadapter.errors import ConfigError, ResourceError, RetryLater


def test_what_is_written_is_read_listed_measured_moved_and_removed(s3: str):
    file = storage.join(s3, "records", "a")
    assert (storage.size_of(file), storage.modified_s(file), storage.list_names(s3)) == (None, None, [])
    storage.write_bytes(file, b"old")
    storage.write_bytes(file, memoryview(b"newer"))
    assert storage.read_bytes(file) == b"newer"
    assert storage.size_of(file) == 5
    assert abs(storage.modified_s(file) - time.time()) < 60
    assert (storage.list_names(s3), storage.list_names(storage.join(s3, "records/"))) == ([], ["a"])
    storage.move(file, storage.join(s3, "quarantine", "a"))
    assert storage.size_of(file) is None
    assert storage.read_bytes(storage.join(s3, "quarantine", "a")) == b"newer"
    storage.remove(storage.join(s3, "quarantine", "a"))
    storage.remove(storage.join(s3, "quarantine", "a"))
    assert storage.list_names(storage.join(s3, "quarantine")) == []


def test_an_absent_object_is_a_file_that_is_not_found(s3: str):
    for action in (storage.read_bytes, storage.fetch, lambda uri: storage.move(uri, f"{uri}-2")):
        with pytest.raises(FileNotFoundError, match="nothing-here"):
            action(storage.join(s3, "nothing-here"))


@pytest.mark.parametrize("name", ["a b", "a#1", "ä", "%41", "a+b", "a?b=c", "日本", "a'\"", "~"])
def test_odd_names_come_back(s3: str, name: str):
    storage.write_bytes(storage.join(s3, name), name.encode())
    assert storage.put_if_absent(storage.join(s3, f"{name}-2"), b"")
    assert storage.list_names(s3) == sorted([name, f"{name}-2"], key=str.encode)
    assert storage.read_bytes(storage.join(s3, name)) == name.encode()


@pytest.mark.parametrize("uri", ["s3://", "s3://pets", "s3://pets/", "s3://pets/a//b", "s3://pets/a/../b", "s3:///a"])
def test_a_name_that_no_bucket_can_hold_is_a_config_error(s3: str, uri: str):
    for action in (
        lambda: storage.write_bytes(uri, b""),
        lambda: storage.read_bytes(uri),
        lambda: storage.size_of(uri),
    ):
        with pytest.raises(ConfigError, match=r"nothing was done; choose another name|a bucket and a name in it"):
            action()


def test_a_listing_of_several_pages_is_whole_and_sorted(s3: str):
    names = [f"{number:06d}.json" for number in range(1100)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: storage.write_bytes(storage.join(s3, name), b"x"), names))
    assert storage.list_names(s3) == names


def test_of_many_writers_one_creates_the_object(s3: str):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: storage.put_if_absent(f"{s3}/a", str(number).encode()), range(24)))
    assert won.count(True) == 1
    assert storage.read_bytes(f"{s3}/a") == str(won.index(True)).encode()
    assert storage.list_names(s3) == ["a"]


def test_writers_of_the_same_bytes_are_told_apart(s3: str):
    assert [storage.put_if_absent(f"{s3}/a", b"same") for _ in range(3)] == [True, False, False]


def test_google_creates_by_generation_and_of_many_writers_one_wins(monkeypatch):
    bucket = Bucket(GOOGLE_CONDITION)
    with server(bucket.answer) as endpoint:
        use(monkeypatch, endpoint)
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda number: storage.put_if_absent("gs://pets/a", str(number).encode()), range(24)))
        assert won.count(True) == 1
        assert storage.read_bytes("gs://pets/a") == str(won.index(True)).encode()
        assert storage.size_of("gs://pets/b") is None
    assert list(bucket.objects) == ["/pets/a"]


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_service_that_ignores_the_condition_is_refused_and_nothing_is_left(monkeypatch, scheme: str):
    bucket = Bucket({})
    with server(bucket.answer) as endpoint:
        use(monkeypatch, endpoint)
        with pytest.raises(
            ResourceError, match=r"cannot create an object only if it is absent.*nothing was written; use AWS"
        ):
            storage.put_if_absent(f"{scheme}://pets/store/plan.json", b"mine")
    assert bucket.objects == {}


def test_a_service_that_does_not_know_the_condition_is_refused(monkeypatch):
    def answer(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        return (501 if request.command == "PUT" else 404), {}, b""

    with server(answer) as endpoint:
        use(monkeypatch, endpoint)
        with pytest.raises(ResourceError, match="cannot create an object only if it is absent"):
            storage.put_if_absent("s3://pets/a", b"")


@pytest.mark.parametrize("status", [500, 503])
def test_a_writer_whose_answer_was_lost_still_learns_that_it_won(monkeypatch, status: int):
    bucket, lost = Bucket(S3_CONDITION), []

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        told = bucket.answer(request, body)
        if request.command == "PUT" and request.path not in lost:
            lost.append(request.path)
            return status, {}, b""
        return told

    with server(answer) as endpoint:
        use(monkeypatch, endpoint)
        assert storage.put_if_absent("s3://pets/a", b"mine")
        assert not storage.put_if_absent("s3://pets/a", b"mine")
    assert "/pets/a" in lost


def test_a_writer_is_told_to_retry_when_no_answer_comes_and_nothing_was_written(monkeypatch):
    def answer(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        return (404, {}, b"") if request.command in ("GET", "HEAD") else (503, {}, b"SlowDown")

    with server(answer) as endpoint:
        use(monkeypatch, endpoint)
        for action in (storage.write_bytes, storage.put_if_absent):
            with pytest.raises(
                RetryLater, match=r"cannot .* s3://pets/.*503.*; what was finished is kept; run the same"
            ):
                action("s3://pets/a", b"mine")


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (
            403,
            b"<Error><Code>AccessDenied</Code></Error>",
            "access is denied; .*check the credentials and their rights",
        ),
        (401, b"", "access is denied; .*check the credentials"),
        (301, b"<Error><Code>PermanentRedirect</Code></Error>", "another region; .*set AWS_REGION"),
        (
            400,
            b"<Error><Code>ExpiredToken</Code></Error>",
            "refuses the request; .*check credentials, region and endpoint",
        ),
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", "there is no such bucket; .*create it, or mend its name"),
    ],
)
def test_a_refusal_says_what_to_do_on_one_line(monkeypatch, status: int, body: bytes, advice: str):
    with server(lambda request, _: (status, {}, body)) as endpoint:
        use(monkeypatch, endpoint)
        actions = (lambda uri: storage.write_bytes(uri, b""), storage.read_bytes, storage.list_names)
        for action in actions:
            with pytest.raises(ResourceError, match=advice) as caught:
                action("s3://pets/a")
            assert "s3://pets/a" in str(caught.value)
            assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_retried_and_then_reported(monkeypatch):
    use(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(RetryLater, match=r"cannot read s3://pets/a: .*run the same command again later"):
        storage.read_bytes("s3://pets/a")


def test_an_object_is_fetched_once_and_again_when_it_changed(s3: str):
    storage.write_bytes(f"{s3}/a", b"first")
    first = storage.fetch(f"{s3}/a")
    inode = first.stat().st_ino
    assert storage.fetch(f"{s3}/a").stat().st_ino == inode
    storage.write_bytes(f"{s3}/a", b"other")
    second = storage.fetch(f"{s3}/a")
    assert (first.read_bytes(), second.read_bytes()) == (b"first", b"other")
    assert len(listing(first.parent)) == 2


def test_a_copy_that_was_cut_off_is_fetched_anew(s3: str):
    storage.write_bytes(f"{s3}/a", b"whole")
    storage.fetch(f"{s3}/a").write_bytes(b"wh")
    assert storage.fetch(f"{s3}/a").read_bytes() == b"whole"


def test_processes_that_fetch_at_once_all_get_the_whole_object(s3: str, tmp_path):
    storage.write_bytes(f"{s3}/a", bytes(3_000_000))
    code = (
        "import sys; from xmadapter.storage import fetch; sys.exit(fetch(sys.argv[1]).read_bytes() != bytes(3_000_000))"
    )
    readers = [subprocess.Popen([sys.executable, "-c", code, f"{s3}/a"]) for _ in range(4)]
    assert [reader.wait(timeout=60) for reader in readers] == [0] * 4
    assert len(listing(tmp_path / "cache" / "objects")) == 1


def test_without_the_extra_the_message_ends_in_the_command_that_installs_it():
    code = "import sys; sys.modules['obstore'] = None; from xmadapter.storage import {0}; {0}('s3://pets/a')"
    for name in ("read_bytes", "fetch", "list_names", "size_of", "remove"):
        done = subprocess.run([sys.executable, "-c", code.format(name)], capture_output=True, text=True, check=False)
        assert done.stderr.splitlines()[-1].endswith("pip install 'xmadapter[remote]'")
        assert "MissingExtra: obstore is not installed" in done.stderr


def test_a_forked_process_is_refused_instead_of_waiting_without_end(s3: str):
    storage.write_bytes(f"{s3}/a", b"content")

    def read() -> None:
        with pytest.raises(ResourceError, match="forked after buckets were used; nothing was done; spawn it instead"):
            storage.read_bytes(f"{s3}/a")

    assert exit_of(read) == 0
    assert storage.read_bytes(f"{s3}/a") == b"content"


def test_local_files_need_no_extra_and_import_nothing_of_it(tmp_path):
    code = "import sys; from xmadapter.storage import read_bytes, write_bytes; write_bytes('a', b''); read_bytes('a'); "
    code += "sys.exit(any(name.partition('.')[0] in ('obstore', 'ray', 'mlflow') for name in sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_a_range_is_cut_at_the_end_as_on_a_disk(s3: str, tmp_path):
    for file in (f"{s3}/a", str(tmp_path / "a")):
        storage.write_bytes(file, b"0123456789")
        ranges = [storage.read_range(file, offset, 4) for offset in (0, 8, 10, 20)]
        assert ranges == [b"0123", b"89", b"", b""]
