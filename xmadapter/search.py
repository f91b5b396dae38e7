"""search: the images of a feature store that a text describes, or the captions of it that an image calls for."""

import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch.nn.functional as F
from jaxtyping import Float

from xmadapter.config import ZeroShotConfig
from xmadapter.data import decode_image, media_uri, read_media
from xmadapter.encoders import build_encoder, build_preprocess
from xmadapter.errors import DataError, FingerprintMismatch
from xmadapter.features import CaptionedImages, FeatureStore, ShardInfo, load_plan, open_features
from xmadapter.features.schema import feature_matrix
from xmadapter.retrieval import (
    RetrievalModel,
    all_rows,
    is_retrieval_bundle,
    load_retrieval_bundle,
    retrieval_model,
)

__all__ = ["Found", "Searcher", "open_searcher"]

_SPLITS = ("train", "validation", "test")


class Found(NamedTuple):
    """A row of a store: its cosine with the query, its id, and its media URI or its text."""

    score: float
    sample_id: str
    content: str


@contextmanager
def open_searcher(source: str, features: str | None = None) -> Iterator["Searcher"]:
    """Open a feature store as it was encoded, or a retrieval bundle over the store it was trained on.

    Args:
        source: Store or bundle.
        features: Another store for a bundle, of the same encoder.

    Raises:
        StoreIncomplete: There is no store.
        FingerprintMismatch: The store was encoded by another encoder than the bundle's.
        IntegrityError: The bundle is damaged, or computes something else than when it was exported.
    """
    if not is_retrieval_bundle(source):
        store = open_features(source)
        with retrieval_model(ZeroShotConfig(), store.space) as model:
            yield Searcher(store, model)
        return
    bundle = load_retrieval_bundle(source)
    store = open_features(features or bundle.card.features)
    if store.space.encoder.fingerprint != bundle.card.space.encoder.fingerprint:
        raise FingerprintMismatch(
            f"{store.root} was encoded by another encoder than {source} was trained in; name another store"
        )
    with bundle.model() as model:
        yield Searcher(store, model)


class Searcher:
    """Search a store through a method; shards are scored one after another, so the store's size does not matter.

    What the method changes is computed on the way: heads in no time, captions through an adapted text tower at its speed,
    images through an adapted image tower from their pixels.

    Args:
        store: Of images, and of captions to search those.
        model: How texts and images become features.
    """

    def __init__(self, store: FeatureStore, model: RetrievalModel) -> None:
        self._store, self._model = store, model

    def images(self, text: str, *, top: int) -> list[Found]:
        """Find the images that are nearest to a text, in all splits; no label is looked at.

        Args:
            text: What they should show.
            top: How many, the nearest first.

        Raises:
            FingerprintMismatch: The encoder found here is not the one that encoded the store.
            IntegrityError: A shard is missing or its bytes changed.
        """
        frozen = F.normalize(build_encoder(self._store.space.encoder).encode_text([text]), dim=-1).numpy()
        query = self._text(frozen, (text,))[0]
        shards = [info for split in _SPLITS for info in self._store.manifest.of(split)]
        best = self._nearest(shards, query, top)
        media = self._store.media({sample_id for _, sample_id, _ in best})
        return [Found(score, sample_id, media[sample_id]) for score, sample_id, _ in best]

    def captions(self, image: str | Path, *, top: int) -> list[Found]:
        """Find the captions that are nearest to an image file, in all splits, as `images`.

        Raises:
            DataError: The store has no captions.
            BadImage: The image cannot be read.
        """
        space, uri = self._store.space, media_uri(str(image))
        shards = [info for split in _SPLITS for info in self._store.manifest.of(split, "text")]
        if not shards:
            raise DataError(
                f"{self._store.root} has no captions to search; give a text, or encode a data set that has some"
            )
        pixels = build_preprocess(space.encoder, space.image)(decode_image(read_media(uri)))[None]
        frozen = F.normalize(build_encoder(space.encoder).encode_image(pixels), dim=-1).numpy()
        query = self._image(frozen, {"query": uri})[0]
        return [Found(*row) for row in self._nearest(shards, query, top)]

    def _nearest(
        self, shards: list[ShardInfo], query: Float[np.ndarray, " dim"], top: int
    ) -> list[tuple[float, str, str]]:
        """Keep the best rows of all shards; equal scores in the order of ids."""
        rows = (row for info in shards for row in self._scored(info, query, top))
        return heapq.nsmallest(top, rows, key=lambda row: (-row[0], row[1]))

    def _scored(self, info: ShardInfo, query: Float[np.ndarray, " dim"], top: int) -> Iterator[tuple[float, str, str]]:
        table = self._store.read(info)
        if "view" in table.column_names:
            table = table.filter(pa.array(table["view"].to_numpy() == 0))
        if not table.num_rows:
            return
        ids, texts = table["sample_id"].to_pylist(), table["text"].to_pylist() if info.modality == "text" else None
        frozen = feature_matrix(table)
        if texts is not None:
            scores = self._text(frozen, tuple(texts)) @ query
        else:
            media = self._media if self._model.adapts_images else {}
            scores = self._image(frozen, {name: media.get(name, "") for name in ids}) @ query
        bar = np.partition(scores, -min(top, len(scores)))[-min(top, len(scores))]
        for row in np.flatnonzero(scores >= bar):
            yield float(scores[row]), ids[row], texts[row] if texts is not None else ""

    @cached_property
    def _media(self) -> dict[str, str]:
        """Where the pixels of all images are; the plan that says so is read once, not for every shard."""
        plan = load_plan(self._store.root, self._store.manifest.recipe, self._store.manifest.plan_fingerprint)
        return {one.sample_id: one.media for shard in plan.shards for one in shard.samples}

    def _text(self, frozen: Float[np.ndarray, "rows dim"], texts: tuple[str, ...]) -> Float[np.ndarray, "rows dim"]:
        none = np.zeros((0, frozen.shape[1]), np.float32)
        data = CaptionedImages(none, (), frozen, texts, np.zeros(0, np.int64))
        return F.normalize(all_rows(self._model.sides(data, {}).text, len(texts)), dim=-1).numpy()

    def _image(self, frozen: Float[np.ndarray, "rows dim"], media: dict[str, str]) -> Float[np.ndarray, "rows dim"]:
        """Features of images whose ids are the keys, in that order."""
        none = np.zeros((0, frozen.shape[1]), np.float32)
        data = CaptionedImages(frozen, tuple(media), none, (), np.zeros(0, np.int64))
        return F.normalize(all_rows(self._model.sides(data, media).image, len(media)), dim=-1).numpy()
