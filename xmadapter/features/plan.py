"""EncodePlan: what will be encoded, cut into fixed shards before any work.

Membership, order and batches of a shard are decided here, so who computes it, when, and after how many kills cannot change its
bytes.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import pyarrow as pa
import pyarrow.dataset as pa_dataset
from pydantic import Field

from xmadapter.config import EncoderSpec, Frozen, ImageConfig
from xmadapter.fingerprint import fingerprint

__all__ = ["EncodePlan", "EncodeRecipe", "PlannedSample", "PlannedShard", "make_plan"]

ImageSplit = Literal["train", "validation", "test"]


class EncodeRecipe(Frozen):
    """Everything besides the samples that touches a byte of a feature."""

    encoder: EncoderSpec
    image: ImageConfig
    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    views: int = Field(ge=0)
    seed: int
    rows_per_shard: int = Field(ge=1)
    batch_size: int = Field(ge=1)


class PlannedSample(Frozen):
    """One image by its media URI, or one prompt by its text."""

    sample_id: str
    media: str
    label: int


class PlannedShard(Frozen):
    """One shard: the unit of work, of retry and of resume."""

    number: int
    modality: Literal["image", "text"]
    split: ImageSplit | None
    views: int = Field(ge=1, description="Encodings per sample; view 0 is the test transform.")
    samples: tuple[PlannedSample, ...]

    @property
    def rows(self) -> int:
        """Rows of the shard when no sample is skipped."""
        return len(self.samples) * self.views


@dataclass(frozen=True)
class EncodePlan:
    """A recipe and the ordered samples it applies to.

    Args:
        recipe: What touches the bytes besides the samples.
        samples: Columns sample_id, split, media, label; ordered by split, then sample_id.
    """

    recipe: EncodeRecipe
    samples: pa.Table

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the recipe and of every sample with its source."""
        return fingerprint([self.recipe.fingerprint, _hash_rows(self.samples)])

    @cached_property
    def split_hash(self) -> str:
        """Hash of which samples with which labels are in which split, wherever the files lie."""
        return _hash_rows(self.samples.select(["sample_id", "split", "label"]))

    @cached_property
    def shards(self) -> tuple[PlannedShard, ...]:
        """All shards, numbered in order: train, validation, test, then text."""
        return tuple(shard.model_copy(update={"number": number}) for number, shard in enumerate(self._cut()))

    def _cut(self) -> Iterator[PlannedShard]:
        views_of: tuple[tuple[ImageSplit, int], ...] = (
            ("train", 1 + self.recipe.views),
            ("validation", 1),
            ("test", 1),
        )
        for split, views in views_of:
            rows = self.samples.filter(pa_dataset.field("split") == split).drop_columns(["split"]).to_pylist()
            size = max(1, self.recipe.rows_per_shard // views)
            for start in range(0, len(rows), size):
                samples = tuple(PlannedSample.model_validate(row) for row in rows[start : start + size])
                yield PlannedShard(number=0, modality="image", split=split, views=views, samples=samples)
        texts = tuple(
            PlannedSample(sample_id=f"{label}/{prompt}", media=template.format(name), label=label)
            for label, name in enumerate(self.recipe.class_names)
            for prompt, template in enumerate(self.recipe.prompts)
        )
        yield PlannedShard(number=0, modality="text", split=None, views=1, samples=texts)


def make_plan(recipe: EncodeRecipe, samples: pa.Table) -> EncodePlan:
    """Order the samples and bind them to a recipe.

    Args:
        recipe: With a resolved encoder, so that other weights are another plan.
        samples: Columns sample_id, split, media and label of a sample index, in any order.
    """
    columns = {
        name: samples[name].cast(pa.int32() if name == "label" else pa.string())
        for name in ("sample_id", "split", "media", "label")
    }
    table = pa.table(columns).sort_by([("split", "ascending"), ("sample_id", "ascending")])
    return EncodePlan(recipe, table.combine_chunks())


def _hash_rows(table: pa.Table) -> str:
    digest = hashlib.sha256()
    for batch in table.to_batches(max_chunksize=1 << 16):
        for column in batch.columns:
            digest.update(json.dumps(column.to_pylist(), ensure_ascii=False).encode())
    return digest.hexdigest()
