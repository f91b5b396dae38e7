"""The feature store on disk: shards, a record beside each, a manifest last.

ROOT/plan.json                 what this folder is for; written first, by put-if-absent
ROOT/shards/000012-<hash>.arrow
ROOT/records/000012.json       a finished shard
ROOT/manifest-000001.json      the commit; without it readers refuse
ROOT/quarantine/               files whose bytes are not what the manifest says
"""

import hashlib
from collections import Counter

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
from xmadapter.features.manifest import ADVICE, FeatureManifest, ShardInfo, ShardRecord, Skipped, latest_manifest
from xmadapter.features.plan import EncodePlan, EncodeRecipe, PlannedShard
from xmadapter.features.schema import feature_matrix
from xmadapter.sealed import seal, unseal
from xmadapter.storage import local_path, make_folder, put_if_absent, sweep_temporary, write_durably

__all__ = ["begin", "commit", "finished_shards", "write_shard"]


class _PlanFile(Frozen):
    """First file of a store: what the folder is for."""

    plan_fingerprint: str
    recipe: EncodeRecipe


def begin(root: str, plan: EncodePlan) -> None:
    """Claim a folder for a plan, or check that it was claimed for the same one.

    Raises:
        FingerprintMismatch: The folder holds features of another recipe; names the fields that differ.
        DataError: Same recipe, but the samples changed since the store was begun.
        ResourceError: The folder cannot be written.
    """
    folder = make_folder(local_path(root))
    for part in (".", "shards", "records"):
        sweep_temporary(make_folder(folder / part))
    mine = _PlanFile(plan_fingerprint=plan.fingerprint, recipe=plan.recipe)
    if put_if_absent(folder / "plan.json", seal(mine)):
        return
    theirs = unseal(_PlanFile, folder / "plan.json", advice=ADVICE)
    if theirs.plan_fingerprint == mine.plan_fingerprint:
        return
    fields = _differences(theirs.recipe.model_dump(mode="json"), mine.recipe.model_dump(mode="json"))
    if fields:
        raise FingerprintMismatch(
            f"{root} holds features with other settings: {fields}; nothing was written; choose another output"
        )
    raise DataError(
        f"the samples changed since {root} was begun; its shards are kept; choose another output for the new data"
    )


def finished_shards(root: str, plan: EncodePlan) -> dict[int, ShardRecord]:
    """Find the shards of a plan that need no more work: record present, file present with its size."""
    folder = local_path(root)
    found = {}
    for shard in plan.shards:
        path = folder / "records" / f"{shard.number:06d}.json"
        if not path.is_file():
            continue
        record = unseal(ShardRecord, path, advice=ADVICE)
        file = folder / "shards" / record.info.name
        if (
            record.plan_fingerprint == plan.fingerprint
            and file.is_file()
            and file.stat().st_size == record.info.size_bytes
        ):
            found[shard.number] = record
    return found


def write_shard(
    root: str,
    planned: PlannedShard,
    table: pa.Table,
    *,
    plan_fingerprint: str,
    logit_scale: float,
    skipped: tuple[Skipped, ...] = (),
) -> ShardRecord:
    """Write one shard under the hash of its content, then its record.

    Raises:
        NonFiniteFeature: A feature is not finite or has no length; nothing is written.
        ResourceError: The disk is full or not writable; no partial file is left.
    """
    dim = table.schema.field("feature").type.list_size
    _refuse_nonfinite(table, planned)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    data = sink.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    info = ShardInfo(
        number=planned.number,
        name=f"{planned.number:06d}-{digest[:16]}.arrow",
        modality=planned.modality,
        split=planned.split,
        views=planned.views,
        rows=table.num_rows,
        size_bytes=data.size,
        sha256=digest,
    )
    record = ShardRecord(
        plan_fingerprint=plan_fingerprint, dim=dim, logit_scale=logit_scale, info=info, skipped=skipped
    )
    folder = local_path(root)
    write_durably(folder / "shards" / info.name, lambda file: file.write(data))
    text = seal(record)
    write_durably(folder / "records" / f"{planned.number:06d}.json", lambda file: file.write(text))
    return record


def commit(root: str, plan: EncodePlan, *, max_skip_fraction: float) -> FeatureManifest:
    """Publish the manifest of a finished plan; doing it twice is the same as once.

    Raises:
        StoreIncomplete: Shards are missing; how many are kept.
        SkipBudgetExceeded: Too many samples could not be read; the commonest reasons.
        StoreConflict: Another plan was committed here meanwhile.
    """
    records = finished_shards(root, plan)
    if len(records) < len(plan.shards):
        raise StoreIncomplete(
            f"{root}: {len(records)} of {len(plan.shards)} shards are finished and kept; run the same command again"
        )
    ordered = [records[number] for number in sorted(records)]
    skipped = tuple(skip for record in ordered for skip in record.skipped)
    if len(skipped) > max_skip_fraction * plan.samples.num_rows:
        raise SkipBudgetExceeded(_over_budget(root, skipped, plan.samples.num_rows))
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
        skipped=skipped,
    )
    folder = local_path(root)
    version, current = latest_manifest(folder)
    if current == manifest:
        return manifest
    if current is not None and current.plan_fingerprint != plan.fingerprint:
        raise StoreConflict(f"{root}: version {version} is of another plan; its features stay; choose another output")
    if not put_if_absent(folder / f"manifest-{version + 1:06d}.json", seal(manifest)):
        if latest_manifest(folder)[1] == manifest:
            return manifest
        raise StoreConflict(
            f"{root}: version {version + 1} was committed by another writer; its features stay; choose another output"
        )
    return manifest


def _refuse_nonfinite(table: pa.Table, planned: PlannedShard) -> None:
    norms, features = table["norm"].to_numpy(), feature_matrix(table)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms <= 0) | ~np.isfinite(features).all(axis=1))
    if len(bad):
        sample = table["sample_id" if planned.modality == "image" else "text"][int(bad[0])]
        raise NonFiniteFeature(
            f"the encoder gave no finite feature for {sample} (shard {planned.number}); finished shards are kept; try precision fp32"
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
