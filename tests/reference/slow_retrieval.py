"""Retrieval as its definitions read: loops over queries, candidates and frames."""

import math
from collections.abc import Sequence

Table = Sequence[Sequence[float]]


def text_rank(scores: Table, image_of_text: Sequence[int], text: int) -> int:
    own = scores[text][image_of_text[text]]
    others = [score for image, score in enumerate(scores[text]) if image != image_of_text[text]]
    return 1 + sum(score >= own for score in others)


def image_rank(scores: Table, image_of_text: Sequence[int], image: int) -> int:
    """Among the captions of all other images."""
    column = [row[image] for row in scores]
    own = max(score for score, other in zip(column, image_of_text, strict=True) if other == image)
    return 1 + sum(score >= own for score, other in zip(column, image_of_text, strict=True) if other != image)


def group_rank(scores: Table, image_of_text: Sequence[int], image: int) -> int:
    """Among the other images, each with the best of its captions."""
    best = [-math.inf] * (max(image_of_text) + 1)
    for row, other in zip(scores, image_of_text, strict=True):
        best[other] = max(best[other], row[image])
    return 1 + sum(score >= best[image] for other, score in enumerate(best) if other != image)


def recall(ranks: Sequence[int], k: int) -> float:
    return 100 * sum(rank <= k for rank in ranks) / len(ranks)


def text_conditioned(text: Sequence[float], frames: Table, *, temperature: float) -> float:
    """Cosine of a text and the frames, averaged with weights that the text gives them."""
    weights = [math.exp(dot(text, frame) / temperature) for frame in frames]
    pooled = [
        sum(w * frame[axis] for w, frame in zip(weights, frames, strict=True)) / sum(weights)
        for axis in range(len(text))
    ]
    return dot(text, pooled) / math.sqrt(dot(text, text) * dot(pooled, pooled))


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
