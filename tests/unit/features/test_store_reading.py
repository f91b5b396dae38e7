"""Opening a store: every byte is checked before a value is used."""

import hashlib
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.factories import LOGIT_SCALE, begin_plan, make_encode_plan, make_samples, make_store, make_table
from xmadapter.errors import DataError, IntegrityError, StoreIncomplete, UnknownVersion
from xmadapter.features import (
    FeatureStore,
    ShardInfo,
    commit,
    open_features,
    write_shard,
)

PLAN = make_encode_plan(make_samples(per_class=3))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    make_store(folder, PLAN)
    return folder


@pytest.fixture
def store(pristine: Path, tmp_path: Path) -> FeatureStore:
    shutil.copytree(pristine, tmp_path / "store")
    return open_features(str(tmp_path / "store"))


def path_of(store: FeatureStore, info: ShardInfo) -> Path:
    return Path(store.root) / "shards" / info.name


def read(store: FeatureStore, info: ShardInfo) -> pa.Table:
    return store.read(info)


def refused(store: FeatureStore, info: ShardInfo, reason: str) -> None:
    """Reading raises, for the reason given, and the file is out of the way."""
    with pytest.raises(IntegrityError, match=reason):
        read(store, info)
    assert not path_of(store, info).exists()
    assert (Path(store.root) / "quarantine" / info.name).is_file()


def replaced(store: FeatureStore, data: bytes, like: ShardInfo) -> ShardInfo:
    """Put other bytes in place of a shard, and an info that vouches for them."""
    path_of(store, like).write_bytes(data)
    return like.model_copy(update={"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})


def arrow_file(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def test_what_was_written_is_read(store: FeatureStore):
    data, test = store.tuning("full-val"), store.test()
    tables = [make_table(shard) for shard in PLAN.shards if shard.split == "train"]
    expected = np.concatenate([table["feature"].combine_chunks().flatten().to_numpy() for table in tables])
    assert np.array_equal(data.train.features, expected.reshape(9, 3, 8))
    assert data.train.ids == tuple(f"train/{label}/{number}" for label in range(3) for number in range(3))
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert np.array_equal(data.train.norms.ravel(), np.concatenate([table["norm"].to_numpy() for table in tables]))
    assert (data.validation.features.shape, test.data.features.shape) == ((9, 1, 8), (9, 1, 8))
    assert (data.text.features.shape, data.text.class_names) == ((3, 2, 8), ("cat", "dog", "owl"))
    assert (data.logit_scale, data.protocol, data.provenance) == (LOGIT_SCALE, "full-val", test.provenance)


def test_the_digest_of_a_test_set_names_its_images_and_labels(store: FeatureStore):
    test = store.test()
    assert test.digest == store.test().digest
    test.data.labels[0] += 1
    assert type(test)(test.data, test.provenance).digest != store.test().digest


def test_each_of_300_flipped_bits_is_refused_and_quarantined(store: FeatureStore):
    chance, shards, caught = random.Random(0), store.manifest.shards, 0
    for _ in range(300):
        info = chance.choice(shards)
        path = path_of(store, info)
        whole = path.read_bytes()
        bit = chance.randrange(8 * len(whole))
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        refused(store, info, "sha256 differs")
        path.write_bytes(whole)
        caught += 1
    assert caught == 300
    assert len(store.tuning("full-val").train) == 9


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_truncated_shard_is_refused(store: FeatureStore, size: int):
    info = store.manifest.shards[0]
    path_of(store, info).write_bytes(path_of(store, info).read_bytes()[:size])
    refused(store, info, "bytes, the manifest says")


def test_a_grown_shard_is_refused(store: FeatureStore):
    info = store.manifest.shards[0]
    with path_of(store, info).open("ab") as file:
        file.write(b"\0")
    refused(store, info, "bytes, the manifest says")


def test_two_swapped_shards_are_refused(store: FeatureStore):
    first, second = store.manifest.of("validation")[0], store.manifest.of("test")[0]
    one, other = path_of(store, first).read_bytes(), path_of(store, second).read_bytes()
    path_of(store, first).write_bytes(other)
    path_of(store, second).write_bytes(one)
    for info in (first, second):
        refused(store, info, "sha256 differs|bytes, the manifest says")


def test_a_missing_shard_is_told_with_the_command_that_restores_it(store: FeatureStore):
    info = store.manifest.of("train")[0]
    path_of(store, info).unlink()
    with pytest.raises(StoreIncomplete, match=r"is missing; the others are kept; run pipelines\.encode again"):
        store.tuning("full-val")


def test_a_damaged_shard_reaches_no_caller(store: FeatureStore):
    info = store.manifest.of(None)[0]
    path_of(store, info).write_bytes(b"x" * info.size_bytes)
    with pytest.raises(IntegrityError):
        store.tuning("fewshot-val")


def test_an_extension_type_is_refused_before_any_value_is_read(store: FeatureStore):
    info = store.manifest.of("validation")[0]
    table = read(store, info)
    evil = table.schema.field("sample_id").with_metadata({"ARROW:extension:name": "arrow.py_extension_type"})
    changed = table.cast(table.schema.set(0, evil))
    refused(store, replaced(store, arrow_file(changed), info), "another schema")


@pytest.mark.parametrize("change", ["metadata", "width", "order", "nullable"])
def test_any_other_schema_is_refused(store: FeatureStore, change: str):
    info = store.manifest.of("validation")[0]
    table = read(store, info)
    changed = {
        "metadata": lambda: table.replace_schema_metadata({"note": "mine"}),
        "width": lambda: make_table(next(shard for shard in PLAN.shards if shard.split == "validation"), dim=4),
        "order": lambda: table.select(table.column_names[::-1]),
        "nullable": lambda: table.cast(table.schema.set(1, pa.field("label", pa.int32()))),
    }[change]()
    refused(store, replaced(store, arrow_file(changed), info), "another schema")


def test_a_file_that_is_no_arrow_file_is_refused_whatever_its_hash(store: FeatureStore):
    info = store.manifest.of("validation")[0]
    refused(store, replaced(store, b"ARROW1\0\0 but not really", info), "Arrow|arrow|UTF8|valid")


def test_text_that_is_not_utf8_is_refused_whatever_its_hash(store: FeatureStore):
    info = store.manifest.of("validation")[0]
    table = read(store, info)
    good = table["sample_id"].combine_chunks()
    _, offsets, data = good.buffers()
    broken = pa.StringArray.from_buffers(len(good), offsets, pa.py_buffer(b"\xff" * data.size))
    refused(
        store,
        replaced(store, arrow_file(table.set_column(0, table.schema.field(0), broken)), info),
        "Arrow|arrow|UTF8|valid",
    )


def test_other_rows_than_the_manifest_says_are_refused(store: FeatureStore):
    info = store.manifest.of("validation")[0]
    refused(store, replaced(store, arrow_file(read(store, info).slice(1)), info), "8 rows, the manifest says 9")


def test_values_that_are_not_finite_are_refused_whatever_their_hash(store: FeatureStore):
    info = store.manifest.of("validation")[0]
    table = read(store, info)
    values = table["feature"].combine_chunks().flatten().to_numpy().copy()
    values[5] = np.nan
    broken = pa.FixedSizeListArray.from_arrays(pa.array(values), type=table.schema.field("feature").type)
    refused(store, replaced(store, arrow_file(table.set_column(5, table.schema.field(5), broken)), info), "not finite")


def manifest_path(store: FeatureStore) -> Path:
    return Path(store.root) / "manifest-000001.json"


def test_without_a_manifest_the_finished_shards_are_counted(store: FeatureStore):
    manifest_path(store).unlink()
    with pytest.raises(
        StoreIncomplete, match=f"no manifest; {len(PLAN.shards)} finished shards are kept; run pipelines.encode"
    ):
        open_features(store.root)


def test_a_folder_that_is_not_there_holds_no_store(tmp_path):
    with pytest.raises(StoreIncomplete, match="0 finished shards"):
        open_features(str(tmp_path / "nowhere"))


def test_a_newer_format_is_told_as_such(store: FeatureStore):
    content = json.loads(manifest_path(store).read_bytes()) | {"format": 3, "colour": "new"}
    manifest_path(store).write_text(json.dumps(content))
    with pytest.raises(UnknownVersion, match="has format 3, this program reads 2; upgrade"):
        open_features(store.root)


def test_an_older_format_is_told_as_such(store: FeatureStore):
    content = json.loads(manifest_path(store).read_bytes()) | {"format": 1}
    manifest_path(store).write_text(json.dumps(content))
    with pytest.raises(UnknownVersion, match="has format 1 of an older xmadapter"):
        open_features(store.root)


def test_a_manifest_cut_at_any_byte_is_refused(store: FeatureStore):
    whole, cuts = manifest_path(store).read_bytes(), 0
    for size in range(0, len(whole), 13):
        manifest_path(store).write_bytes(whole[:size])
        with pytest.raises(IntegrityError):
            open_features(store.root)
        cuts += 1
    assert cuts > 100


def test_each_of_300_flipped_bits_of_the_manifest_is_refused_or_harmless(store: FeatureStore):
    chance, whole, refusals = random.Random(0), manifest_path(store).read_bytes(), 0
    for _ in range(300):
        bit, flipped = chance.randrange(8 * len(whole)), bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        manifest_path(store).write_bytes(flipped)
        try:
            assert open_features(store.root).manifest == store.manifest, f"bit {bit} changed the manifest unseen"
        except (IntegrityError, UnknownVersion):
            refusals += 1
    assert refusals > 250


def test_a_manifest_cannot_name_a_file_outside_the_store(store: FeatureStore):
    text = manifest_path(store).read_text()
    name = store.manifest.shards[0].name
    manifest_path(store).write_text(text.replace(name, "../../" + name))
    with pytest.raises(IntegrityError):
        open_features(store.root)


def test_a_later_commit_does_not_change_an_open_store(store: FeatureStore):
    newer = json.loads(manifest_path(store).read_bytes())
    (Path(store.root) / "manifest-000002.json").write_text(json.dumps(newer | {"version": 2}))
    assert len(store.test().data) == 9


def test_a_store_without_validation_images_says_what_is_missing(tmp_path):
    make_store(tmp_path, make_encode_plan(make_samples(splits=("train", "test"))))
    with pytest.raises(DataError, match="no validation images, which protocol fewshot-val chooses on"):
        open_features(str(tmp_path)).tuning("fewshot-val")


def test_without_validation_no_other_split_is_opened(tmp_path):
    make_store(tmp_path, make_encode_plan(make_samples(splits=("train", "test"))))
    store = open_features(str(tmp_path))
    for info in store.manifest.of("test"):
        (tmp_path / "shards" / info.name).unlink()
    data = store.tuning("no-val")
    assert (len(data.validation), data.validation.features.shape[1:]) == (0, (1, 8))
    assert len(data.train) == 18


def test_the_oracle_and_it_alone_chooses_on_the_test_split(store: FeatureStore):
    test = store.test().data
    assert store.tuning("oracle").validation.ids == test.ids
    assert not {*store.tuning("full-val").validation.ids} & {*test.ids}


def test_a_quarantined_shard_can_be_written_again(store: FeatureStore):
    info = store.manifest.shards[0]
    path_of(store, info).write_bytes(b"")
    refused(store, info, "bytes, the manifest says")
    begun = begin_plan(Path(store.root), PLAN)
    write_shard(store.root, PLAN.shards[0], make_table(PLAN.shards[0]), logit_scale=LOGIT_SCALE)
    commit(store.root, begun, max_skip_fraction=0)
    assert len(open_features(store.root).tuning("full-val").train) == 9
    assert open_features(store.root).version == 1
