"""Images of one split and what their captions say, as features: what retrieval is measured and trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from xmadapter.config import EncoderSpec, Frozen, ImageConfig
from xmadapter.errors import EpisodeError
from xmadapter.features.featureset import Provenance
from xmadapter.seeding import derive_seed

__all__ = ["CaptionedImages", "FeatureSpace", "RetrievalData", "without_captions"]

_NO_FRAMES = np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class CaptionedImages:
    """Images in view 0, or videos, and their captions, one or more each, of one split.

    Args:
        image: L2-normalised; of a video the mean of its frames' features, normalised again.
        image_ids: Sample ids, unique; a video's is that of its frames up to the last `/`.
        text: L2-normalised.
        texts: The captions themselves.
        image_of_text: Row of each caption's image.
        frames: Sample ids of each video's frames; empty where these are images.
        frame: L2-normalised features of all frames, one video after another, in the order of `frames`.
    """

    image: Float[np.ndarray, "images dim"]
    image_ids: tuple[str, ...]
    text: Float[np.ndarray, "texts dim"]
    texts: tuple[str, ...]
    image_of_text: Int[np.ndarray, " texts"]
    frames: tuple[tuple[str, ...], ...] = ()
    frame: Float[np.ndarray, "frames dim"] = field(default_factory=lambda: _NO_FRAMES)

    def __len__(self) -> int:
        """Count images."""
        return len(self.image_ids)

    def take(self, images: Int[np.ndarray, " taken"]) -> "CaptionedImages":
        """Keep some images, in the order given, with all their captions."""
        place = np.full(len(self), -1)
        place[images] = np.arange(len(images))
        texts = np.flatnonzero(place[self.image_of_text] >= 0)
        return CaptionedImages(
            self.image[images],
            tuple(self.image_ids[row] for row in images),
            self.text[texts],
            tuple(self.texts[row] for row in texts),
            place[self.image_of_text[texts]],
            tuple(self.frames[row] for row in images) if self.frames else (),
            self.frame[self._frame_rows(images)] if self.frames else self.frame,
        )

    def _frame_rows(self, videos: Int[np.ndarray, " taken"]) -> Int[np.ndarray, " frames"]:
        counts = [len(video) for video in self.frames]
        owner = np.repeat(np.arange(len(counts)), counts)
        return np.concatenate([np.flatnonzero(owner == video) for video in videos])

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Ids of all images, or of all frames of all videos."""
        return tuple(name for video in self.frames for name in video) if self.frames else self.image_ids


def without_captions(features: Float[np.ndarray, "rows dim"], ids: Sequence[str], *, videos: bool) -> CaptionedImages:
    """Take rows of images as they are, or rows of frames as the videos they are of; captions are still missing.

    Args:
        features: L2-normalised.
        ids: Sample ids.
        videos: Whether the rows are frames; a video's share what stands before the last `/` of their ids.
    """
    none = np.zeros((0, features.shape[1]), np.float32), (), np.zeros(0, np.int64)
    if not videos:
        return CaptionedImages(features, tuple(ids), *none)
    names, owner = np.unique([name.rpartition("/")[0] for name in ids], return_inverse=True)
    sums = np.zeros((len(names), features.shape[1]), np.float32)
    np.add.at(sums, owner, features)
    pooled = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    rows = [np.flatnonzero(owner == video) for video in range(len(names))]
    frames = tuple(tuple(ids[row] for row in own.tolist()) for own in rows)
    return CaptionedImages(pooled, tuple(names.tolist()), *none, frames, features[np.concatenate(rows)])


class FeatureSpace(Frozen):
    """What stored features are: all it takes to compute more of them.

    Args:
        encoder: What made them.
        image: How pixels were made ready.
        dim: Their width.
        logit_scale: Multiplier from cosine to logit, not its logarithm.
    """

    encoder: EncoderSpec
    image: ImageConfig
    dim: int
    logit_scale: float


@dataclass(frozen=True)
class RetrievalData:
    """What a sweep over captioned images may see: no test row.

    Args:
        train: What adapters are trained on.
        validation: What chooses among them.
        media: By image id, where its pixels are; of both splits.
        space: Of the features.
        provenance: Of the features.
    """

    train: CaptionedImages
    validation: CaptionedImages
    media: Mapping[str, str]
    space: FeatureSpace
    provenance: Provenance

    def drawn(self, images: int, *, seed: int) -> CaptionedImages:
        """Draw training images; a larger draw of the same seed holds the smaller ones.

        Args:
            images: How many; all there are keep their order.
            seed: Of the draw.

        Raises:
            EpisodeError: There are fewer.
        """
        count = len(self.train)
        if images > count:
            raise EpisodeError(
                f"{images} training images are asked for, the store has {count} with captions; nothing was run; "
                "set images to at most that, or to all"
            )
        if images == count:
            return self.train
        order = np.random.default_rng(derive_seed("images", seed)).permutation(count)
        return self.train.take(np.sort(order[:images]))
