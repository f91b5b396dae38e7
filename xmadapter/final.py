"""run_final: refit the choices, look at the test split once."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from xmadapter.adapters import FeatureAdapter
from xmadapter.config import Frozen
from xmadapter.elsewhere import Elsewhere, ElsewhereResult, score_elsewhere
from xmadapter.errors import DataError, FingerprintMismatch
from xmadapter.evaluation import Interval, class_accuracy, image_interval, seed_interval, wilson_interval
from xmadapter.features import TestSet, TuningData
from xmadapter.trial import TrialResult, refit

__all__ = ["PREDICTIONS", "FinalResult", "predictions_table", "run_final"]

PREDICTIONS = pa.schema(
    {
        "method": pa.string(),
        "shots": pa.int32(),
        "seed": pa.int32(),
        "sample_id": pa.string(),
        "label": pa.int32(),
        "predicted": pa.int32(),
    }
)
"""Columns of a table of predictions; a row is a test image under one seed."""

_CHUNK = 4096
_COLLAPSE = 0.1


class FinalResult(Frozen):
    """One choice on the test split."""

    choice: TrialResult
    test: tuple[float, ...] = Field(description="Accuracy in [0, 1], per seed.")
    interval: Interval = Field(description="Of the mean over seeds, by Student's t.")
    wilson: tuple[Interval, ...] = Field(description="Of each seed's accuracy, over the test images.")
    bootstrap: Interval | None = Field(
        default=None, description="Of the mean over seeds, by bootstrap over the test images, which all seeds share."
    )
    class_accuracy: tuple[float | None, ...] = Field(
        description="Per class, over all seeds, in [0, 1]; None where no test image shows it."
    )
    test_rows: int
    seconds: float
    elsewhere: tuple[ElsewhereResult, ...] = Field(
        default=(), description="On shifted images, or on classes of which no image was seen."
    )

    @property
    def collapsed(self) -> tuple[int, ...]:
        """Seeds whose accuracy lies more than ten points below the median of all: a mean would hide them."""
        limit = float(np.median(self.test)) - _COLLAPSE - 1e-9  # exactly ten points, up to rounding, are not more
        return tuple(seed for seed, share in zip(self.choice.seeds, self.test, strict=True) if share < limit)

    def harmonic(self, other: ElsewhereResult) -> Interval:
        """Take the harmonic mean of the accuracies on base and on unseen classes, seed by seed (Zhou et al., CoCoOp, 2022)."""
        pairs = zip(self.test, other.test, strict=True)
        return seed_interval([2 * base * novel / (base + novel) if base + novel else 0.0 for base, novel in pairs])


def run_final(
    data: TuningData,
    test: TestSet,
    choices: Iterable[TrialResult],
    elsewhere: Sequence[Elsewhere] = (),
    *,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[FinalResult, Int[np.ndarray, "seeds n"]]]:
    """Refit each choice on its own support sets and score the test split.

    Args:
        data: What the choices were tuned on.
        test: The test split of the same store.
        choices: One per method and shot count, chosen by validation.
        elsewhere: Other test splits, checked.
        device: Where to fit and to score.

    Yields:
        One result per choice, in order, with the predicted class per seed and test row.

    Raises:
        DataError: The test split is empty.
        FingerprintMismatch: Test split and tuning data come from different features.
    """
    if test.provenance != data.provenance:
        raise FingerprintMismatch("test split and tuning data come from different feature stores; nothing was scored")
    if not len(test.data):
        raise DataError("the test split holds no image; nothing was scored; add a test split and encode again")
    image = torch.tensor(test.data.features[:, 0])
    labels = torch.from_numpy(test.data.labels)
    for choice in choices:
        started = time.perf_counter()
        adapter = refit(data, choice, seeds=choice.seeds, device=device)
        with torch.no_grad():
            predicted = torch.cat([_predicted(adapter, rows.to(device)) for rows in image.split(_CHUNK)], dim=1)
        right = predicted == labels
        correct = right.sum(dim=1).tolist()
        scores = tuple(count / len(labels) for count in correct)
        result = FinalResult(
            choice=choice,
            test=scores,
            interval=seed_interval(scores),
            wilson=tuple(wilson_interval(count, len(labels)) for count in correct),
            bootstrap=image_interval(right.double().numpy()),
            class_accuracy=tuple(
                None if math.isnan(share) else share
                for share in class_accuracy(predicted, labels, classes=len(data.text.class_names)).tolist()
            ),
            test_rows=len(labels),
            seconds=time.perf_counter() - started,
            elsewhere=tuple(
                score_elsewhere(adapter, data.text.class_names, other, seeds=len(choice.seeds)) for other in elsewhere
            ),
        )
        yield result, predicted.numpy()


def _predicted(adapter: FeatureAdapter, image: Float[Tensor, "n dim"]) -> Int[Tensor, "seeds n"]:
    return adapter(image[None]).argmax(dim=-1).cpu()


def predictions_table(test: TestSet, result: FinalResult, predicted: Int[np.ndarray, "seeds n"]) -> pa.Table:
    """Tabulate predictions of one choice, in the columns of `PREDICTIONS`."""
    seeds, rows = predicted.shape
    return pa.table(
        {
            "method": [result.choice.method] * seeds * rows,
            "shots": np.full(seeds * rows, result.choice.shots),
            "seed": np.repeat(result.choice.seeds, rows),
            "sample_id": list(test.data.ids) * seeds,
            "label": np.tile(test.data.labels, seeds),
            "predicted": predicted.ravel(),
        },
        schema=PREDICTIONS,
    )
