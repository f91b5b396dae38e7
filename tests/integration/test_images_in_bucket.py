"""Images in buckets, read by a media URI: whole, by a byte range, or out of a file that is fetched once."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import listing
from tests.integration.services import use
from xmadapter import storage
from xmadapter.data import MAX_BYTES, BadImage, ByteRange, FrameOf, media_uri, parse_media_uri, read_media
from xmadapter.errors import RetryLater


@pytest.mark.parametrize("name", ["a.png", "a b#1.png", "ä:%41.png"])
def test_an_image_in_a_bucket_is_read_whatever_its_name(s3: str, name: str):
    storage.write_bytes(storage.join(s3, name), b"content")
    uri = media_uri(storage.join(s3, name))
    assert uri.isascii()
    assert os.fspath(parse_media_uri(uri).path) == storage.join(s3, name)
    assert read_media(uri) == b"content"


def test_a_byte_range_of_an_archive_in_a_bucket_is_read_alone(s3: str, tmp_path: Path):
    storage.write_bytes(f"{s3}/a.tar", b"0123456789")
    assert read_media(media_uri(f"{s3}/a.tar", part=ByteRange(3, 4))) == b"3456"
    assert not (tmp_path / "cache").exists()
    for part, found in ((ByteRange(8, 4), "2 of 4 bytes"), (ByteRange(20, 4), "0 of 4 bytes")):
        with pytest.raises(BadImage, match=f"truncated: {found} at offset {part.offset}"):
            read_media(media_uri(f"{s3}/a.tar", part=part))


def test_rows_of_a_parquet_file_in_a_bucket_are_read_from_one_copy(s3: str, tmp_path: Path):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"image": [b"first", b"second"]}), sink)
    storage.write_bytes(f"{s3}/a.parquet", memoryview(sink.getvalue()))
    rows = [read_media(media_uri(f"{s3}/a.parquet", column="image", row=row)) for row in (0, 1)]
    assert rows == [b"first", b"second"]
    assert len(listing(tmp_path / "cache" / "objects")) == 1


@pytest.mark.parametrize("part", [None, ByteRange(0, 4), FrameOf(0, 1)])
def test_an_image_that_is_not_in_the_bucket_is_missing(s3: str, part: ByteRange | FrameOf | None):
    with pytest.raises(BadImage, match="missing: no such object"):
        read_media(media_uri(f"{s3}/nothing", part=part))


def test_images_without_bytes_or_with_too_many_are_refused(s3: str):
    storage.write_bytes(f"{s3}/empty", b"")
    storage.write_bytes(f"{s3}/large", bytes(MAX_BYTES + 1))
    with pytest.raises(BadImage, match="empty: 0 bytes"):
        read_media(media_uri(f"{s3}/empty"))
    with pytest.raises(BadImage, match="too_large"):
        read_media(media_uri(f"{s3}/large"))


def test_a_service_that_is_down_is_no_bad_image(monkeypatch):
    use(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(RetryLater):
        read_media("s3://pets/a.png")
