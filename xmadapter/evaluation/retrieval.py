"""Retrieval in both directions: ranks that no tie flatters, recall@K, median and mean rank."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor

from xmadapter.evaluation.intervals import Interval, wilson_interval

__all__ = [
    "DirectionReport",
    "Ranks",
    "RetrievalReport",
    "Scores",
    "cosine_scores",
    "dual_softmax",
    "evaluate_retrieval",
    "report_retrieval",
    "retrieval_ranks",
    "table_scores",
]

Scores = Callable[[Int[Tensor, " rows"]], Float[Tensor, "rows images"]]
"""Given rows of texts, their similarity to every image (or video). Asked twice for the same rows, it answers the same."""

_ROWS_AT_ONCE = 1024  # texts; with 5,000 images a block of scores is 40 MB in float64


@dataclass(frozen=True)
class Ranks:
    """Rank of the right answer to every query, from 1.

    Args:
        text_to_image: By text, its own image among all images.
        image_to_text: By image, the best of its own texts among the texts, or groups of texts, of the others.
        image_of_text: Image each text belongs to.
        convention: What an image's texts are ranked among: every other `caption`, or each other image's captions as a `group`.
    """

    text_to_image: Int[Tensor, " texts"]
    image_to_text: Int[Tensor, " images"]
    image_of_text: Int[Tensor, " texts"]
    convention: Literal["caption", "group"]


@dataclass(frozen=True)
class DirectionReport:
    """One direction.

    Args:
        recall: By K, percent of queries whose rank is at most K, with its 95 % interval.
        median_rank: Of all queries.
        mean_rank: Of all queries.
        queries: Their number.
    """

    recall: Mapping[int, Interval]
    median_rank: float
    mean_rank: float
    queries: int


@dataclass(frozen=True)
class RetrievalReport:
    """Both directions.

    Args:
        text_to_image: Each text is a query.
        image_to_text: Each image is a query.
        convention: As in `Ranks`.
    """

    text_to_image: DirectionReport
    image_to_text: DirectionReport
    convention: Literal["caption", "group"]

    @property
    def recall_sum(self) -> float:
        """Sum of all recalls, rSum in papers: at most 600 with three K."""
        return sum(one.estimate for side in (self.text_to_image, self.image_to_text) for one in side.recall.values())


def cosine_scores(text: Float[Tensor, "texts dim"], image: Float[Tensor, "images dim"]) -> Scores:
    """Score by cosine.

    Products are taken in float64 and rounded to float32. Equal embeddings then tie wherever they stand in a matrix, which they do
    not under the blocked products of a processor, and ranks depend neither on TF32 nor on the precision of the features.

    Args:
        text: Features of any length but zero.
        image: Likewise.
    """
    unit_text, unit_image = (F.normalize(one.double(), dim=-1) for one in (text, image))
    return lambda rows: (unit_text[rows] @ unit_image.T).float()


def table_scores(table: Float[Tensor, "texts images"]) -> Scores:
    """Look scores up in a matrix, where one is at hand."""
    return lambda rows: table[rows]


def retrieval_ranks(
    scores: Scores, image_of_text: Int[Tensor, " texts"], *, convention: Literal["caption", "group"] = "caption"
) -> Ranks:
    """Rank in both directions, a block of texts at a time.

    A query's rank is 1 plus the number of wrong candidates whose score is at least that of its best right one. Ties thus count
    against the model, as do scores that are not numbers: embeddings that collapsed to a point get no recall for nothing.

    Args:
        scores: Of texts against images.
        image_of_text: Index of each text's image, from 0 without gaps, on the device of the scores.
        convention: What image to text ranks an image's best text among. `caption`: the texts of all others, one by one. `group`:
            the best text of each other image, as CLIP4Clip does for several captions; recall@1 is the same, the rest is not.

    Raises:
        ValueError: An image has no text.
    """
    counts = torch.bincount(image_of_text)
    if not len(counts) or not bool(counts.all()):
        raise ValueError("every image needs a text; number images from 0 and leave none out")
    image_of_text = image_of_text.long()  # an index of `gather` cannot be narrower
    text_to_image = torch.zeros_like(image_of_text)
    image_to_text = torch.ones_like(counts)
    best = torch.full_like(counts, -torch.inf, dtype=torch.float32)
    for rows in _blocks(image_of_text, counts):
        block, images = scores(rows).float(), image_of_text[rows]
        own = block.gather(1, images[:, None])
        text_to_image[rows] = _not_below(block, own).sum(dim=1)  # the right image is one of them, and gives the 1
        best.scatter_reduce_(0, images, own[:, 0], "amax")
    for rows in _blocks(image_of_text, counts):
        block, images = scores(rows).float(), image_of_text[rows]
        if convention == "group":
            block, images = _group(block, images)
        ahead = _not_below(block, best)
        ahead[torch.arange(len(images)), images] = False
        image_to_text += ahead.sum(dim=0)
    return Ranks(text_to_image.cpu(), image_to_text.cpu(), image_of_text.cpu(), convention)


def report_retrieval(ranks: Ranks, *, ks: Sequence[int] = (1, 5, 10)) -> RetrievalReport:
    """Sum ranks up.

    Args:
        ranks: Of all queries.
        ks: Where recall is asked for.
    """
    each = torch.arange(len(ranks.image_to_text))
    return RetrievalReport(
        _direction(ranks.text_to_image, ranks.image_of_text, ks),
        _direction(ranks.image_to_text, each, ks),
        ranks.convention,
    )


def evaluate_retrieval(
    text: Float[Tensor, "texts dim"],
    image: Float[Tensor, "images dim"],
    image_of_text: Int[Tensor, " texts"],
    *,
    ks: Sequence[int] = (1, 5, 10),
    convention: Literal["caption", "group"] = "caption",
) -> RetrievalReport:
    """Rank texts and images by the cosine of their features, and sum up.

    25,000 texts against 5,000 images of 512 dimensions take 0.25 GB besides the features, and 20 s on two CPU cores.

    Args:
        text: Features of any length but zero.
        image: Likewise.
        image_of_text: Index of each text's image.
        ks: Where recall is asked for.
        convention: As in `retrieval_ranks`.

    Raises:
        ValueError: An image has no text.

    Example:
        >>> features = torch.eye(3)
        >>> evaluate_retrieval(features, features, torch.arange(3)).recall_sum
        600.0
    """
    ranks = retrieval_ranks(cosine_scores(text, image), image_of_text, convention=convention)
    return report_retrieval(ranks, ks=ks)


def dual_softmax(
    table: Float[Tensor, "texts images"], *, queries: Literal["texts", "images"], logit_scale: float = 100.0
) -> Float[Tensor, "texts images"]:
    """Weight each score by how much its candidate prefers this query to all others. Not for a headline number.

    It needs the whole set of test queries at once, which a deployed system has not, and lifts recall by points: a figure with it
    stands in a row of its own (CAMoE, arXiv 2109.04290).

    Args:
        table: All scores.
        queries: The direction it is meant for; a softmax over these multiplies the scores.
        logit_scale: Multiplier of the scores within the softmax.
    """
    return table * (logit_scale * table).softmax(dim=0 if queries == "texts" else 1)


def _blocks(image_of_text: Int[Tensor, " texts"], counts: Int[Tensor, " images"]) -> Iterator[Int[Tensor, " rows"]]:
    """Cut the texts into blocks of about `_ROWS_AT_ONCE` that hold all texts of an image or none."""
    block_of_image = (counts.cumsum(0) - counts) // _ROWS_AT_ONCE
    sizes = torch.bincount(block_of_image[image_of_text]).tolist()
    return (rows for rows in image_of_text.argsort(stable=True).split(sizes) if len(rows))


def _group(
    block: Float[Tensor, "rows images"], images: Int[Tensor, " rows"]
) -> tuple[Float[Tensor, "groups images"], Int[Tensor, " groups"]]:
    """Take the best score of each image's texts."""
    groups, place = images.unique(return_inverse=True)
    best = block.new_full((len(groups), block.shape[1]), -torch.inf)
    return best.scatter_reduce_(0, place[:, None].expand_as(block), block, "amax"), groups


def _not_below(scores: Float[Tensor, "rows images"], bar: Float[Tensor, "*axes"]) -> Bool[Tensor, "rows images"]:
    # Not the same as at least: a score that is not a number is neither below nor above, and must not be to the model's good.
    return ~(scores < bar)


def _direction(ranks: Int[Tensor, " queries"], image: Int[Tensor, " queries"], ks: Sequence[int]) -> DirectionReport:
    values = ranks.numpy()
    recall = {k: _recall(values <= k, image.numpy()) for k in ks}
    return DirectionReport(recall, float(np.median(values)), float(values.mean()), len(values))


def _recall(hits: Bool[np.ndarray, " queries"], image: Int[np.ndarray, " queries"]) -> Interval:
    """Percent of hits; texts of one image are drawn together, as they are not independent."""
    counts = np.bincount(image)
    found = wilson_interval(int(hits.sum()), len(hits))
    if counts.max() > 1 and 0 < hits.mean() < 1:  # all or none: nothing to resample, and Wilson's bound still holds
        bounds = stats.bootstrap(
            (np.bincount(image, weights=hits), counts),
            lambda right, asked, axis: right.sum(axis=axis) / asked.sum(axis=axis),
            paired=True,
            n_resamples=2000,
            method="percentile",
            batch=100,
            rng=0,
        ).confidence_interval
        found = Interval(estimate=found.estimate, low=float(bounds.low), high=float(bounds.high))
    return Interval(estimate=100 * found.estimate, low=100 * found.low, high=100 * found.high)
