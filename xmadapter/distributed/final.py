"""score_on_cluster: the fits of a final test side by side, each on a core or a share of a GPU, as trials are."""

from collections.abc import Iterator, Sequence

import numpy as np
import ray
import ray.exceptions
from jaxtyping import Int

from xmadapter.config import ClusterConfig
from xmadapter.distributed.connect import connect
from xmadapter.elsewhere import Elsewhere
from xmadapter.errors import XMAdapterError
from xmadapter.features import TestSet, TuningData
from xmadapter.final import FinalResult, run_final
from xmadapter.trial import TrialResult

__all__ = ["score_on_cluster"]


def score_on_cluster(
    data: TuningData,
    test: TestSet,
    choices: Sequence[TrialResult],
    elsewhere: Sequence[Elsewhere],
    cluster: ClusterConfig,
) -> Iterator[tuple[FinalResult, Int[np.ndarray, "seeds n"]]]:
    """Refit the choices on Ray and score the test split; as `run_final`, in the order of the choices.

    Yields:
        One result per choice, with the predicted class per seed and test row.

    Raises:
        RetryLater: No cluster answers.
        XMAdapterError: As `run_final`.
    """
    if not choices:
        return
    connect(cluster)
    facts = ray.put((data, test, tuple(elsewhere)))
    score = ray.remote(num_cpus=1, num_gpus=cluster.trial_gpus)(_score)
    for result in [score.remote(facts, choice) for choice in choices]:
        try:
            yield ray.get(result)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, XMAdapterError):
                raise error.cause from None
            raise


def _score(
    facts: tuple[TuningData, TestSet, tuple[Elsewhere, ...]], choice: TrialResult
) -> tuple[FinalResult, Int[np.ndarray, "seeds n"]]:
    data, test, elsewhere = facts
    device = "cuda" if ray.get_runtime_context().get_accelerator_ids()["GPU"] else "cpu"
    return next(run_final(data, test, [choice], elsewhere, device=device))
