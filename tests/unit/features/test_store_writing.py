"""Begin, write, commit: what a folder accepts, and what is left after a fault at any moment."""

import errno
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.factories import (
    LOGIT_SCALE,
    Faults,
    Killed,
    make_encode_plan,
    make_samples,
    make_store,
    make_table,
    tree,
    write_shards,
)
from xmadapter import storage
from xmadapter.config import ImageConfig, TinySpec
from xmadapter.errors import (
    DataError,
    FingerprintMismatch,
    IntegrityError,
    NonFiniteFeature,
    ResourceError,
    SkipBudgetExceeded,
    StoreConflict,
    StoreIncomplete,
)
from xmadapter.features import (
    EncodePlan,
    EncodeRecipe,
    Skipped,
    begin,
    commit,
    finished_shards,
    latest_manifest,
    open_features,
    write_shard,
)

SMALL = make_samples(per_class=2)


def run(folder: Path, plan: EncodePlan) -> None:
    """What one writer does, from claim to commit."""
    begin(str(folder), plan)
    write_shards(folder, plan)
    commit(str(folder), plan, max_skip_fraction=0)


def write_one(folder: Path, plan: EncodePlan, number: int, table: pa.Table | None = None, **options: object) -> None:
    shard = plan.shards[number]
    options = {"logit_scale": LOGIT_SCALE, "plan_fingerprint": plan.fingerprint, **options}
    write_shard(str(folder), shard, make_table(shard) if table is None else table, **options)


def test_a_store_is_byte_identical_for_any_order_of_its_input(tmp_path):
    shuffled = make_samples().take(np.random.default_rng(0).permutation(54))
    make_store(tmp_path / "a", make_encode_plan())
    make_store(tmp_path / "b", make_encode_plan(shuffled))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert len(tree(tmp_path / "a")) > 20


def test_a_store_is_byte_identical_for_any_order_of_writing(tmp_path):
    plan = make_encode_plan()
    make_store(tmp_path / "a", plan)
    begin(str(tmp_path / "b"), plan)
    for number in reversed(range(len(plan.shards))):
        write_one(tmp_path / "b", plan, number)
    commit(str(tmp_path / "b"), plan, max_skip_fraction=0)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_doing_everything_twice_is_the_same_as_once(tmp_path):
    make_store(tmp_path)
    before = tree(tmp_path)
    make_store(tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"encoder": TinySpec(dim=8, seed=3)}, "encoder.seed 0 there, 3 here"),
        ({"encoder": TinySpec(dim=16)}, "encoder.dim 8 there, 16 here"),
        ({"image": ImageConfig(invert=True)}, "image.invert False there, True here"),
        ({"class_names": ("cat", "dog")}, "class_names"),
        ({"prompts": ("a {}",)}, "prompts"),
        ({"views": 5}, "views 2 there, 5 here"),
        ({"seed": 9}, "seed 0 there, 9 here"),
        ({"rows_per_shard": 6}, "rows_per_shard 12 there, 6 here"),
        ({"batch_size": 2}, "batch_size 4 there, 2 here"),
    ],
)
def test_another_recipe_is_refused_and_names_what_differs(tmp_path, change: dict[str, object], named: str):
    make_store(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(FingerprintMismatch) as caught:
        begin(str(tmp_path), make_encode_plan(**change))
    assert named in str(caught.value)
    assert tree(tmp_path) == before


def test_every_field_of_the_recipe_is_tried_above():
    assert set(EncodeRecipe.model_fields) == {
        "encoder", "image", "class_names", "prompts", "views", "seed", "rows_per_shard", "batch_size"
    }  # fmt: skip


def test_changed_samples_are_refused_and_the_shards_kept(tmp_path):
    make_store(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(DataError, match="samples changed since"):
        begin(str(tmp_path), make_encode_plan(SMALL))
    assert tree(tmp_path) == before


def test_a_commit_counts_what_is_finished(tmp_path):
    begin(str(tmp_path), plan := make_encode_plan())
    write_one(tmp_path, plan, 0)
    with pytest.raises(StoreIncomplete, match=f"1 of {len(plan.shards)} shards are finished and kept"):
        commit(str(tmp_path), plan, max_skip_fraction=0)
    assert list(finished_shards(str(tmp_path), plan)) == [0]


def test_a_shard_whose_file_is_gone_is_not_finished(tmp_path):
    store = make_store(tmp_path, plan := make_encode_plan())
    (tmp_path / "shards" / store.manifest.shards[1].name).unlink()
    assert 1 not in finished_shards(str(tmp_path), plan)
    assert len(finished_shards(str(tmp_path), plan)) == len(plan.shards) - 1


def test_restoring_a_lost_shard_gives_the_same_store(tmp_path):
    store = make_store(tmp_path, plan := make_encode_plan())
    before = tree(tmp_path)
    (tmp_path / "shards" / store.manifest.shards[1].name).unlink()
    write_one(tmp_path, plan, 1)
    commit(str(tmp_path), plan, max_skip_fraction=0)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_feature_without_a_finite_norm_is_refused_by_name_and_nothing_is_written(tmp_path, value: float):
    begin(str(tmp_path), plan := make_encode_plan())
    table = make_table(plan.shards[0])
    norms = table["norm"].to_numpy().copy()
    norms[4] = value
    before = tree(tmp_path)
    with pytest.raises(NonFiniteFeature, match=table["sample_id"][4].as_py()):
        write_one(tmp_path, plan, 0, table.set_column(4, table.schema.field("norm"), pa.array(norms)))
    assert tree(tmp_path) == before


def test_a_feature_that_is_not_finite_is_refused_even_if_its_norm_is(tmp_path):
    begin(str(tmp_path), plan := make_encode_plan())
    table = make_table(plan.shards[-1])
    values = table["feature"].combine_chunks().flatten().to_numpy().copy()
    values[3] = np.nan
    feature = pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), type=table.schema.field("feature").type)
    before = tree(tmp_path)
    with pytest.raises(NonFiniteFeature, match=r"a photo of a cat\."):
        write_one(tmp_path, plan, -1, table.set_column(4, table.schema.field("feature"), feature))
    assert tree(tmp_path) == before


def test_skipped_samples_are_listed_up_to_the_budget(tmp_path):
    begin(str(tmp_path), plan := make_encode_plan(SMALL))
    write_shards(tmp_path, plan)
    lost = plan.shards[0].samples[1]
    table = make_table(plan.shards[0].model_copy(update={"samples": plan.shards[0].samples[:1]}))
    write_one(tmp_path, plan, 0, table, skipped=(Skipped(sample_id=lost.sample_id, reason="truncated"),))
    with pytest.raises(SkipBudgetExceeded, match=r"1 of 18 samples.*1 truncated.*max_skip_fraction=0.056"):
        commit(str(tmp_path), plan, max_skip_fraction=0)
    manifest = commit(str(tmp_path), plan, max_skip_fraction=0.056)
    assert [skip.sample_id for skip in manifest.skipped] == [lost.sample_id]
    assert lost.sample_id not in open_features(str(tmp_path)).tuning("full-val").train.ids


def test_a_shard_whose_every_image_was_skipped_is_still_a_store(tmp_path):
    begin(str(tmp_path), plan := make_encode_plan(SMALL, rows_per_shard=3))
    write_shards(tmp_path, plan)
    (lost,) = plan.shards[0].samples
    empty = make_table(plan.shards[0]).slice(0, 0)
    write_one(tmp_path, plan, 0, empty, skipped=(Skipped(sample_id=lost.sample_id, reason="empty"),))
    commit(str(tmp_path), plan, max_skip_fraction=0.1)
    assert len(open_features(str(tmp_path)).tuning("full-val").train) == 5


def test_shards_of_two_encoders_do_not_make_a_store(tmp_path):
    begin(str(tmp_path), plan := make_encode_plan())
    write_shards(tmp_path, plan)
    write_one(tmp_path, plan, 0, logit_scale=99.0)
    with pytest.raises(IntegrityError, match="disagree"):
        commit(str(tmp_path), plan, max_skip_fraction=0)


def test_writers_of_one_plan_all_succeed_with_one_manifest(tmp_path):
    plan = make_encode_plan(SMALL)
    run(tmp_path / "quiet", plan)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: run(tmp_path / "busy", make_encode_plan(SMALL)), range(8)))
    assert tree(tmp_path / "busy") == tree(tmp_path / "quiet")


def test_of_two_writers_with_different_plans_the_second_is_refused(tmp_path):
    mine, theirs = make_encode_plan(SMALL), make_encode_plan(SMALL, seed=1)
    run(tmp_path, mine)
    before = tree(tmp_path)
    with pytest.raises(FingerprintMismatch):
        run(tmp_path, theirs)
    assert tree(tmp_path) == before


def test_a_commit_over_another_plan_is_a_conflict(tmp_path):
    mine, theirs = make_encode_plan(SMALL), make_encode_plan(SMALL, seed=1)
    run(tmp_path, mine)
    write_shards(tmp_path, theirs)  # a writer that never began
    with pytest.raises(StoreConflict, match="another"):
        commit(str(tmp_path), theirs, max_skip_fraction=0)
    assert latest_manifest(tmp_path)[1].plan_fingerprint == mine.fingerprint


def test_a_second_writer_that_begins_does_not_disturb_the_first(tmp_path, monkeypatch):
    plan, replace = make_encode_plan(SMALL), os.replace

    def begin_meanwhile(*paths: Path) -> None:
        begin(str(tmp_path), plan)
        replace(*paths)

    begin(str(tmp_path), plan)
    monkeypatch.setattr(storage.os, "replace", begin_meanwhile)
    write_one(tmp_path, plan, 0)
    assert list(finished_shards(str(tmp_path), plan)) == [0]


def test_what_a_killed_writer_left_is_swept_by_the_next(tmp_path):
    make_store(tmp_path)
    for folder in (tmp_path, tmp_path / "shards", tmp_path / "records"):
        orphan = folder / ".tmp-0123456789abcdef"
        orphan.write_bytes(b"half")
        os.utime(orphan, (0, 0))
    begin(str(tmp_path), make_encode_plan())
    assert list(tmp_path.rglob(".tmp-*")) == []


def fail_at(folder: Path, plan: EncodePlan, at: int, error: OSError | Killed) -> tuple[int, BaseException | None]:
    """Run a writer with a fault at one call; how many calls there were, and what the writer saw."""
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, at, error)
        try:
            run(folder, plan)
        except (ResourceError, Killed) as seen:
            return faults.calls, seen
        return faults.calls, None


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EIO, errno.EROFS, None], ids=["full", "broken", "read-only", "killed"]
)
def test_after_a_fault_at_any_call_a_reader_sees_all_or_nothing_and_a_rerun_mends(tmp_path, number: int | None):
    plan = make_encode_plan(SMALL)
    calls, _ = fail_at(tmp_path / "quiet", plan, -1, Killed())
    quiet = tree(tmp_path / "quiet")
    for at in range(calls):
        folder = tmp_path / str(at)
        _, seen = fail_at(folder, plan, at, Killed() if number is None else OSError(number, os.strerror(number)))
        assert isinstance(seen, Killed if number is None else ResourceError), f"call {at}"
        left = tree(folder)
        assert left.items() <= quiet.items(), f"call {at} left a file that is not whole"
        if "manifest-000001.json" in left:
            assert len(open_features(str(folder)).test().data) == 6
        else:
            with pytest.raises(StoreIncomplete):
                open_features(str(folder))
        run(folder, plan)
        assert tree(folder) == quiet, f"call {at}"
    assert calls == 3 * (2 + 2 * len(plan.shards))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_leaves_no_temporary_file(tmp_path, number: int):
    plan = make_encode_plan(SMALL)
    for at in range(12):
        fail_at(tmp_path / str(at), plan, at, OSError(number, os.strerror(number)))
    assert list(tmp_path.rglob(".tmp-*")) == []


def test_a_full_disk_keeps_what_is_finished_and_says_so(tmp_path):
    plan = make_encode_plan(SMALL, views=60, rows_per_shard=64)
    begin(str(tmp_path), plan)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_one(tmp_path, plan, len(plan.shards) - 1)
    before = tree(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(ResourceError, match=r"File too large.*free some space and run the same command again"):
            write_one(tmp_path, plan, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert tree(tmp_path) == before
    assert list(tmp_path.rglob(".tmp-*")) == []
