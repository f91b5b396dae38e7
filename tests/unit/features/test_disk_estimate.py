"""What is said before an encode that will not fit."""

import pytest

from tests.factories import make_encode_plan, make_samples, make_store
from xmadapter.features import disk_shortage, finished_shards, store

PLAN = make_encode_plan(make_samples())


def free(monkeypatch: pytest.MonkeyPatch, free_bytes: int | None) -> None:
    monkeypatch.setattr(store, "free_bytes", lambda _: free_bytes)


def test_where_there_is_room_nothing_is_said(tmp_path):
    assert disk_shortage(str(tmp_path), 1000, []) is None


def test_a_disk_that_is_too_small_is_told_with_both_sizes(monkeypatch):
    free(monkeypatch, 2_000_000_000)
    text = disk_shortage("runs/features", 1_000_000, [])
    assert text is not None
    assert "may take 4.3 GB, and runs/features has 2.0 GB left" in text
    assert "what fits is kept" in text


def test_finished_shards_say_what_a_row_takes(tmp_path, monkeypatch):
    finished = finished_shards(make_store(tmp_path, PLAN).root, PLAN).values()
    size, rows = (sum(getattr(record.info, name) for record in finished) for name in ("size_bytes", "rows"))
    free(monkeypatch, 50 * size // rows)
    assert disk_shortage(str(tmp_path), 50, finished) is None
    assert disk_shortage(str(tmp_path), 52, finished) is not None


def test_a_bucket_has_no_end(monkeypatch):
    free(monkeypatch, None)
    assert disk_shortage("s3://bucket/features", 10**12, []) is None
