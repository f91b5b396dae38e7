"""TrialActor: the process that runs trials, one after another.

A module of its own, as a new process imports it first: neither the encoders nor the search belong into that wait.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import ray
from ray import tune

from xmadapter.features import RetrievalData, TuningData
from xmadapter.retrieval import FinetuneResult
from xmadapter.study import FinishedTrial, Study
from xmadapter.tasks import run_any
from xmadapter.trial import Pruned, TrialResult

__all__ = ["METRIC", "Features", "TrialActor", "ended"]

METRIC = "selection_score"
Features: TypeAlias = "dict[str, ray.ObjectRef[TuningData | RetrievalData]]"
"""By uid of the study, where in Ray's object store its data are."""


class TrialActor(tune.Trainable):
    """Run trials one after another in one process, so that torch and the features load once.

    The features come from Ray's object store: one copy per node, mapped by every actor.
    """

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]  `with_parameters` adds the arguments
        self, config: dict[str, Any], features: Features, studies: dict[str, Study]
    ) -> None:
        """Take over the studies and where their features are; called once per process."""
        self._features, self._studies = features, studies
        self._opened: dict[ray.ObjectRef[TuningData | RetrievalData], TuningData | RetrievalData] = {}
        self._trial = config
        self._device = "cuda" if ray.get_runtime_context().get_accelerator_ids()["GPU"] else "cpu"

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial; the process stays."""
        self._trial = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Run the trial. A failure is a result with a reason: it must cost neither the process nor the sweep."""
        study = self._studies[self._trial["study"]]
        try:
            trial = study.trial(self._trial["drawn"], self._trial["rungs"])
            result = run_any(self._data(study), trial, device=self._device)
        except Pruned as pruned:
            return {METRIC: 0.0, "stopped": list(pruned.rungs.items()), "done": True}
        except Exception as error:  # whatever a method can raise on a drawn configuration
            return {METRIC: 0.0, "failure": f"{type(error).__name__}: {error}", "done": True}
        return {METRIC: result.score, "result": result.model_dump_json(), "task": study.task, "done": True}

    def _data(self, study: Study) -> TuningData | RetrievalData:
        reference = self._features[study.uid]
        if reference not in self._opened:
            self._opened[reference] = ray.get(reference)
        return self._opened[reference]

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: Tune asks for it when it hands an actor on, and a trial has no state worth keeping."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Do nothing, as above."""


def ended(last: Mapping[str, Any], drawn: Mapping[str, Any]) -> tuple[FinishedTrial, str | None]:
    """Read what `step` returned: how the trial ended, and the reason where it failed.

    Args:
        last: Its last result; empty where the process was lost.
        drawn: Its hyperparameters.
    """
    if "result" in last:
        kind = FinetuneResult if last.get("task") == "retrieval" else TrialResult
        result = kind.model_validate_json(last["result"])
        return FinishedTrial(dict(drawn), result, result.rungs), None
    if "stopped" in last:
        return FinishedTrial(dict(drawn), rungs=dict(last["stopped"])), None
    return FinishedTrial(dict(drawn)), last.get("failure", "the process was lost")
