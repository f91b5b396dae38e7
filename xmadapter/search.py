"""search: the images or videos of a feature store that a text describes, or the captions of it that an image calls for."""

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from xmadapter.config import ZeroShotRetrievalConfig
from xmadapter.data import decode_image, media_uri, read_media
from xmadapter.encoders import build_encoder, build_preprocess
from xmadapter.errors import DataError, FingerprintMismatch
from xmadapter.features import (
    CaptionedImages,
    FeatureStore,
    ShardInfo,
    load_plan,
    open_features,
    without_captions,
)
from xmadapter.features.schema import feature_matrix
from xmadapter.retrieval import (
    RetrievalModel,
    Sides,
    all_rows,
    is_retrieval_bundle,
    load_retrieval_bundle,
    retrieval_model,
)

__all__ = ["Found", "Searcher", "open_searcher"]

_SPLITS = ("train", "validation", "test")
_FRAME = re.compile(r"#frame=\d+&of=\d+$")


class Found(NamedTuple):
    """A row of a store, or a video: its cosine with the query, its id, and its media URI or its text."""

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
        with retrieval_model(ZeroShotRetrievalConfig(), store.space) as model:
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
        """Find the images that are nearest to a text, or the videos, in all splits; no label is looked at.

        Args:
            text: What they should show.
            top: How many, the nearest first.

        Raises:
            FingerprintMismatch: The encoder found here is not the one that encoded the store.
            IntegrityError: A shard is missing or its bytes changed.
        """
        frozen = F.normalize(build_encoder(self._store.space.encoder).encode_text([text]), dim=-1).numpy()
        query = torch.from_numpy(self._text(frozen, (text,)))
        rows = (
            row
            for split in _SPLITS
            for data in self._whole(self._store.manifest.of(split))
            for row in self._scored(data, query, top)
        )
        best = _nearest(rows, top)
        media = self._store.media({row for _, _, row in best})
        return [Found(score, name, _FRAME.sub("", media[row])) for score, name, row in best]

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
        data = without_captions(frozen, ("query",), videos=False)
        sides = cast("Sides", self._model.sides(data, {"query": uri}))  # an image has no frames
        query = F.normalize(all_rows(sides.image, 1), dim=-1).numpy()[0]
        rows = (row for info in shards for row in self._scored_texts(self._store.read(info), query, top))
        return [Found(*row) for row in _nearest(rows, top)]

    def _whole(self, shards: Iterable[ShardInfo]) -> Iterator[CaptionedImages]:
        """Read images shard by shard; of videos, what the end of a shard cuts off goes with the next."""
        held_ids, held = [], np.zeros((0, self._store.space.dim), np.float32)
        for info in shards:
            table = self._store.read(info)
            table = table.filter(pa.array(table["view"].to_numpy() == 0))
            ids, features = held_ids + table["sample_id"].to_pylist(), np.concatenate([held, feature_matrix(table)])
            whole = _first_of_last_video(ids) if self._of_videos else len(ids)
            held_ids, held = ids[whole:], features[whole:]
            if whole:
                yield without_captions(features[:whole], ids[:whole], videos=self._of_videos)
        if held_ids:
            yield without_captions(held, held_ids, videos=True)

    def _scored(
        self, data: CaptionedImages, query: Float[Tensor, "1 dim"], top: int
    ) -> Iterator[tuple[float, str, str]]:
        """The best of some images or videos: score, id, and the id of a row whose media it is in."""
        media = {name: self._media[name] for name in data.sample_ids} if self._model.adapts_images else {}
        scores = self._model.sides(data, media).scores(query)(torch.tensor([0]))[0].numpy()
        for row in _best(scores, top):
            yield float(scores[row]), data.image_ids[row], data.frames[row][0] if data.frames else data.image_ids[row]

    def _scored_texts(
        self, table: pa.Table, query: Float[np.ndarray, " dim"], top: int
    ) -> Iterator[tuple[float, str, str]]:
        ids, texts = table["sample_id"].to_pylist(), table["text"].to_pylist()
        scores = self._text(feature_matrix(table), tuple(texts)) @ query
        for row in _best(scores, top):
            yield float(scores[row]), ids[row], texts[row]

    @cached_property
    def _of_videos(self) -> bool:
        shards = [info for split in _SPLITS for info in self._store.manifest.of(split)]
        return bool(shards) and self._store.of_videos(self._store.read(shards[0])["sample_id"].to_pylist()[:1])

    @cached_property
    def _media(self) -> dict[str, str]:
        """Where the pixels of all images are; the plan that says so is read once, not for every shard."""
        plan = load_plan(self._store.root, self._store.manifest.recipe, self._store.manifest.plan_fingerprint)
        return {one.sample_id: one.media for shard in plan.shards for one in shard.samples}

    def _text(self, frozen: Float[np.ndarray, "rows dim"], texts: tuple[str, ...]) -> Float[np.ndarray, "rows dim"]:
        none = np.zeros((0, frozen.shape[1]), np.float32)
        data = CaptionedImages(none, (), frozen, texts, np.zeros(0, np.int64))
        return F.normalize(all_rows(self._model.sides(data, {}).text, len(texts)), dim=-1).numpy()


def _nearest(rows: Iterable[tuple[float, str, str]], top: int) -> list[tuple[float, str, str]]:
    """Keep the best rows; equal scores in the order of ids."""
    return heapq.nsmallest(top, rows, key=lambda row: (-row[0], row[1]))


def _best(scores: Float[np.ndarray, " rows"], top: int) -> Int[np.ndarray, " best"]:
    """Rows of the `top` best scores, and of those that equal the last of them."""
    if not len(scores):
        return np.zeros(0, np.int64)
    bar = np.partition(scores, -min(top, len(scores)))[-min(top, len(scores))]
    return np.flatnonzero(scores >= bar)


def _first_of_last_video(ids: Sequence[str]) -> int:
    """Row at which the last video begins; frames of one video stand side by side."""
    return next((row for row, name in enumerate(ids) if name.rpartition("/")[0] == ids[-1].rpartition("/")[0]), 0)
