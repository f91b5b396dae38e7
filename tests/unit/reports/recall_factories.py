"""Makers of retrieval results whose recalls are known: a number of captions find their image first, the rest come last."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from tests.unit.reports.factories import make_manifest
from xmadapter.config import (
    CrossModalConfig,
    FullTuningConfig,
    HeadsConfig,
    LoraConfig,
    RetrievalConfig,
    UniAdapterConfig,
    ZeroShotRetrievalConfig,
)
from xmadapter.evaluation import Interval, image_interval
from xmadapter.evaluation.retrieval import RetrievalReport, evaluate_retrieval
from xmadapter.features import Skipped
from xmadapter.reports import RecallReport
from xmadapter.retrieval import FinetuneResult, RetrievalFinal

IMAGES = 20
ZERO_SHOT = 10


@cache
def recall_report(right: int, *, captions: int = 1, convention: str = "caption") -> RetrievalReport:
    """Recall at every K of `right` captions of `IMAGES` images: the others point where no image is, and tie with all."""
    image = torch.eye(IMAGES, IMAGES + 1)
    own = torch.arange(IMAGES).repeat_interleave(captions)
    text = image[own].clone()
    text[right:] = torch.eye(IMAGES + 1)[-1]
    return evaluate_retrieval(text, image, own, convention=convention)


def make_recall_final(
    adapter: RetrievalConfig,
    right: Sequence[int],
    *,
    images: int = 100,
    method: str | None = None,
    validation: Sequence[int] | None = None,
    trained_parameters: int = 1000,
    captions: int = 1,
    convention: str = "caption",
    compared: bool = True,
) -> RetrievalFinal:
    """A result with so many captions found per seed, `compared` with a zero-shot that finds `ZERO_SHOT`."""
    texts = IMAGES * captions
    zero_shot = isinstance(adapter, ZeroShotRetrievalConfig)
    choice = FinetuneResult(
        method=method or adapter.title,
        adapter=adapter,
        shots=images,
        seeds=tuple(range(1, len(right) + 1)),
        state="state",
        validation=tuple(recall_report(count) for count in (validation or right)),
        trained_parameters=0 if zero_shot else trained_parameters,
        stored_bytes=0 if zero_shot else 4 * trained_parameters,
        seconds=2.0,
    )
    return RetrievalFinal(
        choice=choice,
        test=tuple(recall_report(count, captions=captions, convention=convention) for count in right),
        difference=None if zero_shot or not compared else _gained(tuple(right), texts),
        images=IMAGES,
        texts=texts,
        seconds=1.5,
    )


@cache
def _gained(right: tuple[int, ...], texts: int) -> Interval:
    found = np.array([np.arange(texts) < count for count in (*right, ZERO_SHOT)], dtype=float)
    return image_interval(100 * (found[:-1] - found[-1]))


def make_recall_sweep(images: Sequence[int] = (100,), *, seeds: int = 3) -> list[RetrievalFinal]:
    """Six methods, of which full fine-tuning is worse than zero-shot and linear heads are not told apart from it."""
    methods = (
        (ZeroShotRetrievalConfig(), (10, 10, 10), 0, None),
        (HeadsConfig(), (10, 11, 11), 524_288, None),
        (CrossModalConfig(), (14, 16, 15), 221_184, None),
        (CrossModalConfig(shared=0), (15, 15, 16), 258_048, "Plain adapter"),
        (UniAdapterConfig(), (15, 16, 17), 2_457_600, None),
        (LoraConfig(), (13, 14, 14), 884_736, None),
        (FullTuningConfig(), (3, 4, 3), 149_620_737, None),
    )
    return [
        make_recall_final(adapter, right[:seeds], images=count, method=method, trained_parameters=parameters)
        for adapter, right, parameters, method in methods
        for count in images
    ]


def make_recall_report(
    finals: Sequence[RetrievalFinal],
    *,
    title: str = "flickr8k",
    looks: int = 1,
    skipped: Sequence[Skipped] = (),
    tracking_uri: str = "sqlite:///mlflow.db",
) -> RecallReport:
    return RecallReport(
        title=title,
        finals=tuple(finals),
        trials=tuple(final.choice for final in finals) * 2,
        manifest=make_manifest(class_names=(), skipped=skipped),
        config_fingerprint="34" * 32,
        looks=looks,
        failures=(("Diverged: loss [inf]", 2),),
        stopped=1,
        tracking_uri=tracking_uri,
        experiment_id="1",
    )
