"""Writing the feature store: shards, a record beside each, a manifest last.

ROOT/store.json                what this folder is for; written first, by put-if-absent
ROOT/probe.json                what the first worker's encoder makes of a fixed image and text
ROOT/plans/<plan>.arrow        which samples are in which shard
ROOT/shards/<uid>-<hash>.arrow
ROOT/records/<uid>.json        a finished shard
ROOT/manifest-000001.json      the commit; without it readers refuse
ROOT/quarantine/               files whose bytes are not what the manifest says
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pydantic import JsonValue

from xmadapter.config import Frozen
from xmadapter.errors import (
    DataError,
    FingerprintMismatch,
    IntegrityError,
    NonFiniteFeature,
    SkipBudgetExceeded,
    StoreConflict,
    StoreIncomplete,
)
from xmadapter.features.changes import PlanChanges, compare_plans
from xmadapter.features.manifest import (
    ADVICE,
    FeatureManifest,
    ShardInfo,
    ShardRecord,
    Skipped,
    latest_manifest,
    manifest_name,
    read_manifest,
)
from xmadapter.features.plan import EncodePlan, EncodeRecipe, PlannedShard, make_plan
from xmadapter.features.planfile import load_plan, plan_name, save_plan
from xmadapter.features.schema import feature_matrix
from xmadapter.sealed import seal, unseal
from xmadapter.storage import free_bytes, join, list_names, put_if_absent, size_of, sweep_temporary, write_bytes

__all__ = ["Begun", "begin", "claim_of", "commit", "disk_shortage", "finished_shards", "record_name", "write_shard"]

_READERS = 8

_WIDE_ROW_BYTES = 4 * 1024 + 200
"""1,024 float32 values, id, label and hash; few encoders are wider."""


class _StoreFile(Frozen):
    """First file of a store: what the folder is for."""

    recipe: EncodeRecipe
    first_plan: str


@dataclass(frozen=True)
class Begun:
    """A store that is ready for shards.

    Args:
        plan: What it shall hold.
        version: The newest commit when it was begun, 0 for none; the next commit follows it.
        changes: Since the earlier plan; None where this is the first.
    """

    plan: EncodePlan
    version: int
    changes: PlanChanges | None


def begin(root: str, recipe: EncodeRecipe, samples: pa.Table, *, replan: bool = False) -> Begun:
    """Claim a folder for a recipe and plan the samples, keeping what earlier plans have encoded.

    New samples extend the store. Samples that were removed or changed are refused unless `replan` says that this is meant.

    Args:
        root: Folder or bucket prefix.
        recipe: With a resolved encoder.
        samples: As in `make_plan`.
        replan: Accept removed and changed samples; their shards leave the store with the next commit.

    Raises:
        FingerprintMismatch: The folder holds features of another recipe; names the fields that differ.
        DataError: Samples were removed or changed since the store was begun.
        ResourceError: The folder cannot be written.
    """
    for part in ("", "plans", "shards", "records"):
        sweep_temporary(join(root, part) if part else root)
    store = join(root, "store.json")
    if size_of(store) is None:
        plan = make_plan(recipe, samples)
        save_plan(root, plan)
        if put_if_absent(store, seal(_StoreFile(recipe=recipe, first_plan=plan.fingerprint))):
            return Begun(plan, 0, None)
    found = unseal(_StoreFile, store, advice="choose another output")
    _refuse_other_recipe(root, found.recipe, recipe)
    version, manifest = latest_manifest(root)
    base = _load_base(root, recipe, samples, manifest.plan_fingerprint if manifest else found.first_plan)
    plan = make_plan(recipe, samples, base)
    changes = compare_plans(base, plan)
    if (changes.removed or changes.changed) and not replan:
        raise DataError(
            f"the samples changed since {root} was begun: {changes}; its features are kept; "
            "restore them, choose another output, or accept the change with replan=true"
        )
    save_plan(root, plan)
    return Begun(plan, version, changes)


def _load_base(root: str, recipe: EncodeRecipe, samples: pa.Table, fingerprint: str) -> EncodePlan:
    if size_of(join(root, plan_name(fingerprint))) is not None:
        return load_plan(root, recipe, fingerprint)
    # Lost, or in quarantine: the same samples, cut at once, give it back unless it had grown from an earlier one.
    plan = make_plan(recipe, samples)
    if plan.fingerprint != fingerprint:
        raise IntegrityError(
            f"{root} lost its plan, and these samples do not give it back; its features can be read but not extended; "
            "choose another output to encode"
        )
    return plan


def claim_of(root: str) -> tuple[EncodeRecipe, str] | None:
    """Recipe that a folder was claimed for, and fingerprint of its first plan; None where nobody has claimed it."""
    if size_of(join(root, "store.json")) is None:
        return None
    found = unseal(_StoreFile, join(root, "store.json"), advice="choose another output")
    return found.recipe, found.first_plan


def record_name(uid: str) -> str:
    """Path of the record of a shard below the root of its store."""
    return f"records/{uid}.json"


def finished_shards(root: str, plan: EncodePlan) -> dict[str, ShardRecord]:
    """Find the shards of a plan that need no more work, by uid: a record, and the file it names."""
    recorded, files = set(list_names(join(root, "records"))), set(list_names(join(root, "shards")))
    uids = [shard.uid for shard in plan.shards if f"{shard.uid}.json" in recorded]
    with ThreadPoolExecutor(_READERS) as pool:
        records = pool.map(lambda uid: unseal(ShardRecord, join(root, record_name(uid)), advice=ADVICE), uids)
        return {uid: record for uid, record in zip(uids, records, strict=True) if record.info.name in files}


def disk_shortage(root: str, rows: int, finished: Iterable[ShardRecord]) -> str | None:
    """Say so where features may not fit on the disk; None where they will, and for a bucket.

    Args:
        root: Folder or bucket prefix, which exists.
        rows: Features to be written.
        finished: Shards that are there: they say what a row takes, which otherwise is taken as that of a wide encoder.
    """
    free = free_bytes(root)
    found = [(record.info.size_bytes, record.info.rows) for record in finished if record.info.rows]
    size, counted = (sum(column) for column in zip(*found, strict=True)) if found else (_WIDE_ROW_BYTES, 1)
    needed = rows * size // counted
    if free is None or needed <= free:
        return None
    return (
        f"features may take {needed / 1e9:,.1f} GB, and {root} has {free / 1e9:,.1f} GB left; what fits is kept: free some space "
        "meanwhile, or stop and choose another output"
    )


def write_shard(
    root: str, shard: PlannedShard, table: pa.Table, *, logit_scale: float, skipped: tuple[Skipped, ...] = ()
) -> ShardRecord:
    """Write one shard under the hash of its content, then its record.

    Raises:
        NonFiniteFeature: A feature is not finite or has no length; nothing is written.
        ResourceError: The disk is full or not writable; no partial file is left.
    """
    _refuse_nonfinite(table, shard)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    data = memoryview(sink.getvalue())
    digest = hashlib.sha256(data).hexdigest()
    info = ShardInfo(
        uid=shard.uid,
        name=f"{shard.uid[:16]}-{digest[:16]}.arrow",
        modality=shard.modality,
        split=shard.split,  # pyright: ignore[reportArgumentType]  validated by the model
        views=shard.views,
        rows=table.num_rows,
        size_bytes=data.nbytes,
        sha256=digest,
        skipped=skipped,
    )
    dim = table.schema.field("feature").type.list_size
    record = ShardRecord(dim=dim, logit_scale=logit_scale, info=info)
    write_bytes(join(root, "shards", info.name), data)
    write_bytes(join(root, record_name(shard.uid)), seal(record))
    return record


def commit(root: str, begun: Begun, *, max_skip_fraction: float) -> FeatureManifest:
    """Publish the manifest of a finished plan; doing it twice is the same as once.

    Raises:
        StoreIncomplete: Shards are missing; how many are kept.
        SkipBudgetExceeded: Too many samples could not be read; the commonest reasons.
        StoreConflict: Another plan was committed here meanwhile.
    """
    plan = begun.plan
    records = finished_shards(root, plan)
    if len(records) < len(plan.shards):
        raise StoreIncomplete(
            f"{root}: {len(records)} of {len(plan.shards)} shards are finished and kept; run the same command again"
        )
    ordered = [records[shard.uid] for shard in plan.shards]
    skipped = tuple(skip for record in ordered for skip in record.info.skipped)
    if len(skipped) > max_skip_fraction * plan.images:
        raise SkipBudgetExceeded(_over_budget(root, skipped, plan.images))
    if len({(record.dim, record.logit_scale) for record in ordered}) > 1:
        raise IntegrityError(
            f"{root}: shards disagree in width or logit scale; they come from different encoders; choose another output"
        )
    manifest = FeatureManifest(
        plan_fingerprint=plan.fingerprint,
        split_hash=plan.split_hash,
        recipe=plan.recipe,
        dim=ordered[0].dim,
        logit_scale=ordered[0].logit_scale,
        shards=tuple(record.info for record in ordered),
    )
    if begun.version and read_manifest(root, begun.version) == manifest:
        return manifest
    following = begun.version + 1
    mine = put_if_absent(join(root, manifest_name(following)), seal(manifest))
    if not mine and read_manifest(root, following) != manifest:
        raise StoreConflict(
            f"{root}: another writer committed version {following} with other samples meanwhile; its features and "
            "yours are kept; run the same command again to plan on top of it"
        )
    return manifest


def _refuse_other_recipe(root: str, theirs: EncodeRecipe, mine: EncodeRecipe) -> None:
    fields = _differences(theirs.model_dump(mode="json"), mine.model_dump(mode="json"))
    if fields:
        raise FingerprintMismatch(
            f"{root} holds features with other settings: {fields}; nothing was written; choose another output"
        )


def _refuse_nonfinite(table: pa.Table, shard: PlannedShard) -> None:
    norms, features = table["norm"].to_numpy(), feature_matrix(table)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms <= 0) | ~np.isfinite(features).all(axis=1))
    if len(bad):
        sample = table["sample_id" if shard.modality == "image" else "text"][int(bad[0])]
        raise NonFiniteFeature(
            f"the encoder gave no finite feature for {sample}; finished shards are kept; try precision fp32"
        )


def _differences(theirs: JsonValue, mine: JsonValue, path: str = "") -> str:
    if isinstance(theirs, dict) and isinstance(mine, dict):
        parts = [
            _differences(theirs.get(key), mine.get(key), f"{path}.{key}".lstrip("."))
            for key in sorted({*theirs, *mine})
        ]
        return ", ".join(part for part in parts if part)
    return "" if theirs == mine else f"{path} {_short(theirs)} there, {_short(mine)} here"


def _short(value: JsonValue) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _over_budget(root: str, skipped: tuple[Skipped, ...], total: int) -> str:
    reasons = ", ".join(
        f"{count} {reason}" for reason, count in Counter(skip.reason for skip in skipped).most_common(10)
    )
    first = skipped[0]
    return (
        f"{len(skipped)} of {total} samples could not be read ({reasons}; first: {first.sample_id}); the others are kept in {root}; "
        f"mend the files and run again, or accept the loss with max_skip_fraction={-(-len(skipped) * 1000 // total) / 1000:g}"
    )
