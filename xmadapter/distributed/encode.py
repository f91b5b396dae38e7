"""run_encode: planned shards through a Ray Data chain into a feature store.

A row of the Ray dataset is a planned shard, not an image, so membership and batches do not depend on scheduling. The last step
writes the shard and returns only how many rows it holds; the driver counts them and commits the manifest.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.exceptions
import torch
import torch.nn.functional as F
from ray.data import ActorPoolStrategy, DataContext
from torch import Tensor
from tqdm import tqdm

from xmadapter.config import EncodeConfig
from xmadapter.data import read_index, recommended_prompts
from xmadapter.distributed.connect import connect, cores, encoder_gpus, gpus
from xmadapter.distributed.decode import SKIPPED, Source, decode_shard
from xmadapter.distributed.head import watched_head
from xmadapter.distributed.interrupts import until_interrupted
from xmadapter.encoders import build_encoder, build_preprocess, resolve_encoder
from xmadapter.encoders.batching import find_batch_size
from xmadapter.encoders.probe import Probe, compare, probe, probe_image
from xmadapter.errors import RetryLater, XMAdapterError
from xmadapter.features import (
    EncodePlan,
    EncodeRecipe,
    FeatureManifest,
    PlanChanges,
    PlannedShard,
    begin,
    claim_of,
    commit,
    disk_shortage,
    finished_shards,
    image_schema,
    text_schema,
    write_shard,
)
from xmadapter.sealed import seal, unseal
from xmadapter.storage import join, put_if_absent

__all__ = ["EncodeSummary", "run_encode"]

_ENCODE_CORES, _DECODE_CORES = 0.75, 0.25
"""On CPU a core is shared by one encoder and one decoder: decoding a shard is a small part of encoding it, and both must fit
on any node, or one would starve the other."""

_CPU_BATCH = 16
"""Larger batches gain nothing on a core."""

_ROWS_PER_ACTOR = 500
"""Features that pay for the start of one more encoder: on a core it takes as long as some hundred of them."""

_MOST_BLOCKS = 4096
"""Blocks of shards that Ray schedules; a block is retried whole, and each costs the driver memory."""


@dataclass(frozen=True)
class EncodeSummary:
    """What an encode job did.

    Args:
        manifest: The committed store.
        encoded_rows: Features computed by this run; 0 when the store was complete.
        kept_rows: Features that earlier runs had finished.
        changes: Of the samples, since the store was begun; None where this run began it.
    """

    manifest: FeatureManifest
    encoded_rows: int
    kept_rows: int
    changes: PlanChanges | None


def run_encode(config: EncodeConfig) -> EncodeSummary:
    """Read the data set, plan, compute what is missing, commit.

    Raises:
        ConfigError: The data set or the encoder is not there.
        DataError: The data set is malformed, or images were removed or changed since the store was begun.
        SkipBudgetExceeded: Too many images could not be read; the other shards are kept.
        ResourceError: The disk is full or not writable; finished shards are kept.
    """
    index = read_index(config.data, config.images_per_class)
    begun = begin(config.output, _recipe(config, index.class_names), index.table, replan=config.replan)
    finished = finished_shards(config.output, begun.plan)
    # A shard with skipped images is tried again until the store is committed: the user may have mended the files.
    kept = {uid: record for uid, record in finished.items() if begun.version or not record.info.skipped}
    missing = {number: shard for number, shard in enumerate(begun.plan.shards) if shard.uid not in kept}
    if missing:
        rows = sum(shard.rows for shard in missing.values())
        if shortage := disk_shortage(config.output, rows, finished.values()):
            logging.getLogger(__name__).warning(shortage)
        connect(config.cluster)
        _encode_shards(missing, begun.plan, config)
    manifest = commit(config.output, begun, max_skip_fraction=config.max_skip_fraction)
    kept_rows = sum(record.info.rows for record in kept.values())
    encoded = sum(shard.rows for shard in manifest.shards) - kept_rows
    return EncodeSummary(manifest, encoded, kept_rows, begun.changes)


def _recipe(config: EncodeConfig, class_names: tuple[str, ...]) -> EncodeRecipe:
    return EncodeRecipe(
        encoder=resolve_encoder(config.encoder),
        image=config.image,
        class_names=class_names,
        prompts=config.prompts or recommended_prompts(config.data),
        views=config.views,
        seed=config.seed,
        rows_per_shard=config.rows_per_shard,
        batch_size=_batch_size(config) if config.batch_size == "auto" else config.batch_size,
    )


def _batch_size(config: EncodeConfig) -> int:
    """That of the store, as another would be another recipe; else what a GPU of the cluster takes."""
    claim = claim_of(config.output)
    if claim is not None:
        return claim[0].batch_size
    connect(config.cluster)
    share = encoder_gpus(config.cluster)
    if not share:
        return _CPU_BATCH
    return ray.get(ray.remote(num_gpus=share)(_tried_batch_size).remote(config))


def _tried_batch_size(config: EncodeConfig) -> int:
    encoder = build_encoder(resolve_encoder(config.encoder))
    height, width = build_preprocess(encoder.spec, config.image)(probe_image()).shape[1:]
    return find_batch_size(encoder, (height, width))


def _encode_shards(missing: dict[int, PlannedShard], plan: EncodePlan, config: EncodeConfig) -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    share = encoder_gpus(config.cluster)
    most = config.max_actors or max(1, int(gpus() / share) if share else cores())
    rows = [{"number": number, "uid": shard.uid} for number, shard in missing.items()]
    total = sum(shard.rows for shard in missing.values())
    # The pool grows while work lasts; unless told otherwise, a small job does not wait for encoders that it hardly needs.
    first = most if config.max_actors else min(most, 1 + total // _ROWS_PER_ACTOR)
    source = Source(config.output, plan.recipe, plan.fingerprint)
    chain = (
        ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS))
        .map(partial(decode_shard, source=source), num_cpus=_DECODE_CORES)
        .map(
            _EncodeShard,  # pyright: ignore[reportArgumentType]  a class is accepted where its instances are called
            fn_constructor_args=[source],
            compute=ActorPoolStrategy(min_size=1, max_size=most, initial_size=min(first, len(rows))),
            num_gpus=share or None,
            num_cpus=_DECODE_CORES if share else _ENCODE_CORES,
        )
    )
    with (
        watched_head(f"finished shards are kept in {config.output}"),
        tqdm(total=total, unit="image", desc="encoding", smoothing=0.05) as bar,
    ):
        for row in until_interrupted(_unwrapped(chain.iter_rows()), in_hand=most):
            bar.update(row["rows"])


def _unwrapped(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Raise our own errors as themselves, not as Ray's wrapping of them."""
    try:
        yield from rows
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, XMAdapterError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is not None:
            raise cause from None
        if isinstance(error, ray.exceptions.RayTaskError):
            raise
        raise RetryLater(
            f"Ray lost its workers ({type(error).__name__}); finished shards are kept; run the same command again"
        ) from error


class _EncodeShard:
    """Hold an encoder in a process, and turn pixels into a written shard."""

    def __init__(self, source: Source) -> None:
        # One thread on CPU, whatever the machine: the sums of another thread count differ in their last bits, and so would shards.
        torch.set_num_threads(1)
        self._encoder = build_encoder(source.recipe.encoder)
        self._source = source
        self._agreed = False

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        self._agree()
        shard = self._source.load(row)
        if shard.modality == "text":
            table = self._text_table(shard)
        else:
            table = self._image_table(shard, torch.from_numpy(np.asarray(row["pixels"])), row["kept"], row["sources"])
        write_shard(
            self._source.root,
            shard,
            table,
            logit_scale=self._encoder.logit_scale,
            skipped=SKIPPED.validate_json(row["skipped"]),
        )
        return {"rows": shard.rows}

    def _agree(self) -> None:
        """Compare this process with the first that encoded for the store: other libraries or devices may compute otherwise."""
        if self._agreed:
            return
        mine, place = probe(self._encoder), join(self._source.root, "probe.json")
        if not put_if_absent(place, seal(mine)):
            compare(unseal(Probe, place, advice="choose another output"), mine)
        self._agreed = True

    @property
    def _batch(self) -> int:
        return self._source.recipe.batch_size

    def _image_table(
        self, shard: PlannedShard, pixels: Tensor, kept: Iterable[int], sources: Iterable[bytes]
    ) -> pa.Table:
        planned = shard.samples
        samples = [planned[position] for position in kept]
        batches = [self._encoder.encode_image(batch) for batch in pixels.split(self._batch)] if samples else []
        columns = [
            pa.array([sample.sample_id for sample in samples for _ in range(shard.views)], pa.string()),
            pa.array([sample.label for sample in samples for _ in range(shard.views)], pa.int32()),
            pa.array([view for _ in samples for view in range(shard.views)], pa.int16()),
            pa.array([source for source in sources for _ in range(shard.views)], pa.binary(32)),
        ]
        return self._table(columns, batches, image_schema(self._encoder.dim))

    def _text_table(self, shard: PlannedShard) -> pa.Table:
        samples = shard.samples
        texts = [sample.media for sample in samples]
        batches = [
            self._encoder.encode_text(texts[start : start + self._batch]) for start in range(0, len(texts), self._batch)
        ]
        columns = [
            pa.array([sample.sample_id for sample in samples], pa.string()),
            pa.array([sample.label for sample in samples], pa.int32()),
            pa.array([int(sample.sample_id.rpartition("/")[2]) for sample in samples], pa.int16()),
            pa.array(texts, pa.string()),
        ]
        return self._table(columns, batches, text_schema(self._encoder.dim))

    def _table(self, columns: list[pa.Array], batches: list[Tensor], schema: pa.Schema) -> pa.Table:
        raw = torch.cat(batches) if batches else torch.zeros(0, self._encoder.dim)
        norms = raw.norm(dim=-1)
        features = F.normalize(raw, dim=-1)
        feature_type = schema.field("feature").type
        flat = pa.array(features.numpy().ravel(), pa.float32())
        return pa.table(
            [
                *columns,
                pa.array(norms.numpy(), pa.float32()),
                pa.FixedSizeListArray.from_arrays(flat, type=feature_type),
            ],
            schema=schema,
        )
