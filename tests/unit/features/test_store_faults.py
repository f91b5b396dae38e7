"""What a store meets on real machines: flipped bits by the thousand, clocks that jump, hands that edit."""

import hashlib
import random
import re
import time
from pathlib import Path

import pyarrow as pa
import pytest

from tests.factories import make_encode_plan, make_samples, make_store, tree
from xmadapter.errors import IntegrityError
from xmadapter.features import FeatureStore, ShardInfo, open_features
from xmadapter.storage import sweep_temporary

FLIPS, CUTS = 2000, 40
SOURCES = Path(__file__).parents[3] / "xmadapter"


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path / "store", make_encode_plan(make_samples(per_class=3)))


def path_of(store: FeatureStore, info: ShardInfo) -> Path:
    return Path(store.root) / "shards" / info.name


def is_refused(store: FeatureStore, info: ShardInfo, data: bytes) -> bool:
    """Put other bytes in place of a shard, read it, and put its own back."""
    path = path_of(store, info)
    whole = path.read_bytes()
    path.write_bytes(data)
    try:
        store.read(info)
    except IntegrityError:
        refused = not path.exists()
    else:
        refused = False
    path.write_bytes(whole)
    return refused


def test_of_2000_flipped_bits_none_is_silent(store: FeatureStore):
    print(f"seed {(seed := 25)}")
    chance, silent = random.Random(seed), 0
    for _ in range(FLIPS):
        info = chance.choice(store.manifest.shards)
        data = bytearray(path_of(store, info).read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        silent += not is_refused(store, info, bytes(data))
    assert silent == 0


def test_of_40_truncations_none_is_silent(store: FeatureStore):
    info = store.manifest.shards[0]
    data = path_of(store, info).read_bytes()
    cuts = {round(len(data) * number / CUTS) for number in range(CUTS)}
    assert len(cuts) == CUTS
    assert all(is_refused(store, info, data[:cut]) for cut in cuts)


def test_rows_in_another_order_are_refused(store: FeatureStore):
    info = store.manifest.of("train")[0]
    table = store.read(info)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.take(list(range(table.num_rows))[::-1]))
    assert is_refused(store, info, sink.getvalue().to_pybytes())


def test_labels_shifted_against_their_features_are_refused(store: FeatureStore):
    info = store.manifest.of("train")[0]
    table = store.read(info)
    labels = pa.array([(label + 1) % 3 for label in table["label"].to_pylist()], pa.int32())
    shifted = table.set_column(1, table.schema.field("label"), labels)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, shifted.schema) as writer:
        writer.write_table(shifted)
    assert is_refused(store, info, sink.getvalue().to_pybytes())


def test_a_shard_appended_by_hand_belongs_to_nobody(store: FeatureStore):
    before = store.tuning("full-val").train.ids
    data = path_of(store, store.manifest.of("train")[0]).read_bytes() + b"\0"
    (Path(store.root) / "shards" / f"{'0' * 16}-{hashlib.sha256(data).hexdigest()[:16]}.arrow").write_bytes(data)
    assert open_features(store.root).tuning("full-val").train.ids == before


@pytest.mark.parametrize("clock", ["an hour late", "an hour early", "1970", "2106"])
def test_a_clock_that_jumps_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: str):
    make_store(tmp_path / "quiet")
    now = time.time()
    moment = {"an hour late": now - 3600, "an hour early": now + 3600, "1970": 0.0, "2106": 2.0**32}[clock]
    monkeypatch.setattr(time, "time", lambda: moment)
    make_store(tmp_path / "store")
    assert tree(tmp_path / "store") == tree(tmp_path / "quiet")


@pytest.mark.parametrize("moment", [0.0, 2.0**32])
def test_no_clock_makes_a_living_writer_an_orphan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: float):
    from xmadapter.storage.disk import temporary_name

    writing = temporary_name(tmp_path)
    writing.write_bytes(b"half")
    monkeypatch.setattr(time, "time", lambda: moment)
    assert sweep_temporary(tmp_path) == 0
    assert writing.read_bytes() == b"half"


def test_wall_time_is_read_for_the_age_of_orphans_the_time_stamps_of_runs_and_clocks_alone():
    readers = {
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if re.search(r"\btime\.time\(|datetime\.now\(|\butcnow\(", path.read_text())
    }
    orphans, stamps = {"storage/folders.py", "encoders/embedded.py"}, {"tracking/tracker.py", "records.py"}
    assert readers == orphans | stamps | {"distributed/doctor.py"}
