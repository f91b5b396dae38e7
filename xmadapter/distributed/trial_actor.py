"""TrialActor: the process that runs trials, one after another.

A module of its own, as a new process imports it first: neither the encoders nor the search belong into that wait.
"""

from typing import Any

import ray
from ray import tune

from xmadapter.config import with_parameters
from xmadapter.features import TuningData
from xmadapter.results import Study
from xmadapter.trial import TrialConfig, run_trial

__all__ = ["METRIC", "TrialActor"]

METRIC = "selection_accuracy"


class TrialActor(tune.Trainable):
    """Run trials one after another in one process, so that torch and the features load once.

    The features come from Ray's object store: one copy per node, mapped by every actor.
    """

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]  `with_parameters` adds the arguments
        self, config: dict[str, Any], features: "dict[str, ray.ObjectRef[TuningData]]", studies: dict[str, Study]
    ) -> None:
        """Take over the studies and where their features are; called once per process."""
        self._features, self._studies = features, studies
        self._opened: dict[ray.ObjectRef[TuningData], TuningData] = {}
        self._trial = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial; the process stays."""
        self._trial = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Run the trial. A failure is a result with a reason: it must cost neither the process nor the sweep."""
        study = self._studies[self._trial["study"]]
        config = TrialConfig(
            method=study.method.title,
            adapter=with_parameters(study.method.adapter, self._trial["drawn"]),
            solve=study.method.solve_grid,
            shots=study.shots,
            seeds=study.seeds,
            take_all=study.take_all,
        )
        try:
            result = run_trial(self._data(study), config)
        except Exception as error:  # whatever a method can raise on a drawn configuration
            return {METRIC: 0.0, "failure": f"{type(error).__name__}: {error}", "done": True}
        return {METRIC: result.score, "result": result.model_dump_json(), "done": True}

    def _data(self, study: Study) -> TuningData:
        reference = self._features[study.uid]
        if reference not in self._opened:
            self._opened[reference] = ray.get(reference)
        return self._opened[reference]

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: Tune asks for it when it hands an actor on, and a trial has no state worth keeping."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Do nothing, as above."""
