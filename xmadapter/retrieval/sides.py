"""Sides of a pair: how rows of texts, or of images, become features, with gradients where something is trained."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from xmadapter.data import decode_image, read_media
from xmadapter.encoder_adapters import image_features, image_tokens, text_features, text_tokens
from xmadapter.encoder_adapters.token_file import TokenBatch
from xmadapter.encoders import TowerEncoder, build_preprocess
from xmadapter.evaluation.retrieval import Scores, cosine_scores
from xmadapter.features import FeatureSpace
from xmadapter.retrieval.tokens import cached_tokens
from xmadapter.training.contrastive import cosine_logits

__all__ = [
    "Side",
    "Sides",
    "all_rows",
    "image_blocks",
    "image_tower",
    "mean_of_frames",
    "stored",
    "text_blocks",
    "text_tower",
    "through",
]

Side = Callable[[Int[Tensor, " rows"]], Float[Tensor, "rows dim"]]
"""Features of some rows, of any length; a gradient reaches what is trained on this side."""

_ROWS_AT_ONCE = 256
_TEXTS_ALIKE = 16
_IMAGES_AT_ONCE = 64  # decoded at once: 40 MB at 224 pixels, as floats


@dataclass(frozen=True)
class Sides:
    """Pairs made of two sides, as `fit_contrastive` takes them.

    Args:
        text: By pair.
        image: By image, or by video where its frames are pooled alike for every text.
        images: How many there are.
        items: Which image each pair shows.
        logit_scale: Multiplier from cosine to logit.
    """

    text: Side
    image: Side
    images: int
    items: Int[Tensor, " pairs"]
    logit_scale: float

    def logits(self, rows: Int[Tensor, " batch"], /) -> Float[Tensor, "batch batch"]:
        """Compare each text of these rows with each of their images."""
        return cosine_logits(self.text(rows), self.image(self.items[rows]), logit_scale=self.logit_scale)

    def scores(self, text: Float[Tensor, "texts dim"]) -> Scores:
        """Compute all images, and score texts against them by cosine; without gradients.

        Args:
            text: Features of any length, on the CPU.
        """
        return cosine_scores(text, all_rows(self.image, self.images))


@torch.no_grad()
def all_rows(side: Side, count: int) -> Float[Tensor, "rows dim"]:
    """Compute a side whole, without gradients, on the CPU."""
    return torch.cat([side(rows).float().cpu() for rows in torch.arange(count).split(_ROWS_AT_ONCE)])


def stored(features: Float[np.ndarray, "rows dim"], device: torch.device) -> Side:
    """Take features as they were encoded."""
    there = torch.tensor(features)  # a copy: those of Ray's object store are read-only
    return lambda rows: there[rows].to(device)


def through(side: Side, head: Float[Tensor, "dim dim"]) -> Side:
    """Send a side through a linear head."""
    return lambda rows: side(rows) @ head


def text_tower(encoder: TowerEncoder, texts: Sequence[str]) -> Side:
    """Run texts through the whole text tower."""
    ids, model = encoder.tokenize(texts), cast("Any", encoder.model)
    padding = _ignored_padding(model)
    if padding is None:
        return lambda rows: model.encode_text(ids[rows.to(ids.device)], normalize=False)

    def side(rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows dim"]:
        own = ids[rows.to(ids.device)]
        return _by_length(
            (own != padding).sum(dim=1),
            lambda part, longest: model.encode_text(own[part, :longest], normalize=False),
        )

    return side


def text_blocks(encoder: TowerEncoder, texts: Sequence[str], content: str, *, block: int) -> Side:
    """Run texts through the blocks from this one on; what enters it is constant, and computed once on each machine.

    Args:
        encoder: With adapters at or above the block only; resumable there (`check_resumable`).
        texts: Of a split.
        content: Of their stored features, as `content_of`.
        block: From 0.
    """
    model = encoder.model

    def batches() -> Iterator[TokenBatch]:
        for start in range(0, len(texts), _ROWS_AT_ONCE):
            ids = encoder.tokenize(texts[start : start + _ROWS_AT_ONCE])
            yield text_tokens(model, _short(ids, _ignored_padding(model)), block=block)

    file = cached_tokens("text", encoder.spec.fingerprint, content, block=block, batches=batches)

    def side(rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows dim"]:
        device = next(model.parameters()).device
        tokens, lengths = (one.to(device) for one in file.rows(rows))
        return _by_length(
            lengths,
            lambda part, longest: text_features(model, tokens[part, :longest], lengths[part], block=block),
        )

    return side


def image_blocks(encoder: TowerEncoder, media: Sequence[str], space: FeatureSpace, content: str, *, block: int) -> Side:
    """Run images through the blocks from this one on, as `text_blocks`; pixels are read once on each machine."""
    model, pixels = encoder.model, _pixels(media, space)

    def batches() -> Iterator[TokenBatch]:
        for rows in torch.arange(len(media)).split(_IMAGES_AT_ONCE):
            tokens = image_tokens(model, encoder.normalise(pixels(rows)), block=block)
            yield tokens, torch.full((len(rows),), tokens.shape[1])

    file = cached_tokens("image", encoder.spec.fingerprint, content, block=block, batches=batches)

    def side(rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows dim"]:
        tokens, _ = file.rows(rows)
        return image_features(model, tokens.to(next(model.parameters()).device), block=block)

    return side


def image_tower(encoder: TowerEncoder, media: Sequence[str], space: FeatureSpace) -> Side:
    """Run images through the whole image tower; pixels are read as they are asked for, so memory does not grow with their number."""
    model, pixels = cast("Any", encoder.model), _pixels(media, space)
    return lambda rows: model.encode_image(encoder.normalise(pixels(rows)), normalize=False)


def mean_of_frames(side: Side, counts: Sequence[int]) -> Side:
    """Pool the frames of videos: the mean of their normalised features.

    Args:
        side: Of frames, those of one video after another.
        counts: Frames of each video.
    """
    starts = np.cumsum([0, *counts])

    def pooled(videos: Int[Tensor, " rows"]) -> Float[Tensor, "rows dim"]:
        own = [torch.arange(int(starts[video]), int(starts[video + 1])) for video in videos.tolist()]
        frames = F.normalize(side(torch.cat(own)).float(), dim=-1)
        return torch.stack([part.mean(dim=0) for part in frames.split([len(one) for one in own])])

    return pooled


def _pixels(
    media: Sequence[str], space: FeatureSpace
) -> Callable[[Int[Tensor, " rows"]], UInt8[Tensor, "rows 3 height width"]]:
    preprocess = build_preprocess(space.encoder, space.image)
    return lambda rows: torch.stack([preprocess(decode_image(read_media(media[int(row)]))) for row in rows])


def _by_length(
    lengths: Int[Tensor, " rows"], features: Callable[[Int[Tensor, " part"], int], Float[Tensor, "part dim"]]
) -> Float[Tensor, "rows dim"]:
    """Compute texts of like length together: beside one long caption all others would be mostly padding.

    Args:
        lengths: In tokens.
        features: Of some rows, given how long the longest of them is.
    """
    order = lengths.argsort()
    parts = [features(part, int(lengths[part].max())) for part in order.split(_TEXTS_ALIKE)]
    return torch.cat(parts)[order.argsort()]


def _ignored_padding(model: Any) -> int | None:
    """Id that the text tower leaves out of its attention and of its pooling; None where every place counts."""
    config = getattr(getattr(model, "text", None), "config", None)  # a Hugging Face tower
    return getattr(config, "pad_token_id", None)


def _short(ids: Int[Tensor, "batch context"], padding: int | None) -> Int[Tensor, "batch tokens"]:
    """Cut off what is padding in every row."""
    return ids if padding is None else ids[:, : int((ids != padding).sum(dim=1).max())]
