"""search: the images of a feature store that a text describes, or the captions of it that an image calls for."""

import heapq
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image

from xmadapter.encoders import build_encoder, build_preprocess
from xmadapter.errors import DataError
from xmadapter.features import FeatureStore, ShardInfo, load_plan
from xmadapter.features.schema import feature_matrix

__all__ = ["Found", "search_captions", "search_images"]

_SPLITS = ("train", "validation", "test")


class Found(NamedTuple):
    """A row of a store: its cosine with the query, its id, and its media URI or its text."""

    score: float
    sample_id: str
    content: str


def search_images(store: FeatureStore, text: str, *, top: int) -> list[Found]:
    """Find the images that are nearest to a text, in all splits; no label is looked at.

    Args:
        store: Of images; shards are scored one after another, so its size does not matter.
        text: What they should show.
        top: How many, the nearest first.

    Raises:
        FingerprintMismatch: The encoder found here is not the one that encoded the store.
        IntegrityError: A shard is missing or its bytes changed.
    """
    query = F.normalize(build_encoder(store.manifest.recipe.encoder).encode_text([text]), dim=-1)[0].numpy()
    shards = [info for split in _SPLITS for info in store.manifest.of(split)]
    best = _nearest(store, shards, query, top)
    plan = load_plan(store.root, store.manifest.recipe, store.manifest.plan_fingerprint)
    wanted = {sample_id for _, sample_id, _ in best}
    media = {
        sample.sample_id: sample.media
        for shard in plan.shards
        if shard.modality == "image"
        for sample in shard.samples
        if sample.sample_id in wanted
    }
    return [Found(score, sample_id, media[sample_id]) for score, sample_id, _ in best]


def search_captions(store: FeatureStore, image: Image.Image, *, top: int) -> list[Found]:
    """Find the captions that are nearest to an image, in all splits, as `search_images`.

    Raises:
        DataError: The store has no captions.
    """
    recipe = store.manifest.recipe
    shards = [info for split in _SPLITS for info in store.manifest.of(split, "text")]
    if not shards:
        raise DataError(f"{store.root} has no captions to search; give a text, or encode a data set that has some")
    pixels = build_preprocess(recipe.encoder, recipe.image)(image)[None]
    query = F.normalize(build_encoder(recipe.encoder).encode_image(pixels), dim=-1)[0].numpy()
    return [Found(*row) for row in _nearest(store, shards, query, top)]


def _nearest(
    store: FeatureStore, shards: list[ShardInfo], query: Float[np.ndarray, " dim"], top: int
) -> list[tuple[float, str, str]]:
    """Keep the best rows of all shards; equal scores in the order of ids."""
    rows = (row for info in shards for row in _scored(store, info, query, top))
    return heapq.nsmallest(top, rows, key=lambda row: (-row[0], row[1]))


def _scored(
    store: FeatureStore, info: ShardInfo, query: Float[np.ndarray, " dim"], top: int
) -> Iterator[tuple[float, str, str]]:
    table = store.read(info)
    scores = feature_matrix(table) @ query
    if "view" in table.column_names:
        scores = np.where(table["view"].to_numpy() == 0, scores, -np.inf)
    ids, texts = table["sample_id"], table["text"] if "text" in table.column_names else None
    bar = np.partition(scores, -min(top, len(scores)))[-min(top, len(scores))]
    for row in np.flatnonzero((scores >= bar) & np.isfinite(scores)):
        yield float(scores[row]), ids[row].as_py(), texts[row].as_py() if texts is not None else ""
