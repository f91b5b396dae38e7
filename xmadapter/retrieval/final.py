"""final_retrieval: the choices on the test split, looked at once."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from pydantic import Field

from xmadapter.config import Frozen
from xmadapter.errors import FingerprintMismatch
from xmadapter.evaluation import Interval, image_interval, seed_interval
from xmadapter.evaluation.retrieval import Ranks, RetrievalReport, report_retrieval
from xmadapter.features import CaptionedImages, RetrievalData
from xmadapter.retrieval.trial import FinetuneResult, trained

__all__ = ["KS", "RetrievalFinal", "RetrievalTest", "final_retrieval", "ranks_table"]

KS = (1, 5, 10)
Direction = Literal["text_to_image", "image_to_text"]


class RetrievalFinal(Frozen):
    """One choice on the test split; recalls in percent, as papers print them."""

    choice: FinetuneResult
    test: tuple[RetrievalReport, ...] = Field(description="Per seed.")
    difference: Interval | None = Field(
        default=None,
        description="Text-to-image recall@1 over zero-shot, in points, by bootstrap over test images, each with all its captions; "
        "None for zero-shot itself, the first of them if there are several, or where it was not swept.",
    )
    images: int = Field(description="Test images.")
    texts: int = Field(description="Test captions.")
    seconds: float

    def recall(self, direction: Direction, k: int) -> Interval:
        """Mean of recall@K over seeds, by Student's t; with one seed the value itself."""
        return seed_interval([getattr(report, direction).recall[k].estimate for report in self.test])

    @property
    def mean_recall(self) -> Interval:
        """Recall averaged over both directions and all K; over seeds as `recall`."""
        return seed_interval([report.recall_sum / (2 * len(KS)) for report in self.test])


class RetrievalTest:
    """The test split of a captioned store, for `final_retrieval`.

    Args:
        data: Its images and captions.
        media: Where the pixels are, by id.
    """

    def __init__(self, data: CaptionedImages, media: Mapping[str, str]) -> None:
        self.data, self.media = data, media


def final_retrieval(
    data: RetrievalData,
    test: RetrievalTest,
    choices: Iterable[tuple[FinetuneResult, str | None]],
    *,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[RetrievalFinal, list[Ranks]]]:
    """Train each choice as its trial did, or load what the trial left, and rank the test split.

    Args:
        data: What the choices were tuned on.
        test: Of the same store.
        choices: One per method and number of images, with the folder of its states; zero-shot first, to compare with it.
        device: Where heads are trained.

    Yields:
        One result per choice, in order, with the ranks by seed.

    Raises:
        FingerprintMismatch: A training image is also a test image.
    """
    if set(test.data.image_ids) & {*data.train.image_ids, *data.validation.image_ids}:
        raise FingerprintMismatch("test images are among those tuned on; nothing was scored; encode the data set again")
    zero_shot: np.ndarray | None = None
    for choice, states in choices:
        begun = time.perf_counter()
        ranks = []
        for seed in choice.seeds:
            with trained(data, choice.trial(states), seed=seed, device=device) as model:
                ranks.append(model.ranks(test.data, test.media))
        first = np.stack([_first_by_image(one) for one in ranks])
        reference = zero_shot is None and choice.adapter.kind == "zero-shot"
        if reference:
            zero_shot = first
        yield (
            RetrievalFinal(
                choice=choice,
                test=tuple(report_retrieval(one, ks=KS) for one in ranks),
                difference=None if reference else _difference(first, zero_shot),
                images=len(test.data),
                texts=len(test.data.texts),
                seconds=time.perf_counter() - begun,
            ),
            ranks,
        )


def _first_by_image(ranks: Ranks) -> Float[np.ndarray, " images"]:
    """Percent of each image's captions that rank it first: captions of one image are no independent draws."""
    images, right = ranks.image_of_text.numpy(), ranks.text_to_image.numpy() == 1
    return 100 * np.bincount(images, weights=right) / np.bincount(images)


def _difference(first: np.ndarray, zero_shot: np.ndarray | None) -> Interval | None:
    return None if zero_shot is None else image_interval(first - zero_shot)


def ranks_table(test: RetrievalTest, result: RetrievalFinal, ranks: Iterable[Ranks]) -> pa.Table:
    """Tabulate the ranks of one choice: method, images, seed, direction, query (the caption, or the image's id), rank."""
    parts = []
    queries = {"text_to_image": test.data.texts, "image_to_text": test.data.image_ids}
    for seed, one in zip(result.choice.seeds, ranks, strict=True):
        for direction, names in queries.items():
            rows = len(names)
            parts.append(
                pa.table(
                    {
                        "method": pa.array([result.choice.method] * rows, pa.string()),
                        "images": pa.array(np.full(rows, result.choice.shots), pa.int32()),
                        "seed": pa.array(np.full(rows, seed), pa.int32()),
                        "direction": pa.array([direction] * rows, pa.string()),
                        "query": pa.array(list(names), pa.string()),
                        "rank": pa.array(getattr(one, direction).numpy(), pa.int32()),
                    }
                )
            )
    return pa.concat_tables(parts)
