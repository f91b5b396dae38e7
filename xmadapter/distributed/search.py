"""StudySearch: many Optuna studies behind one Ray Tune searcher.

One Tuner runs the whole sweep, so actors start once. Inside a study trials follow one another and each draw is seeded by its
number, so what is drawn depends on the study's own history and on nothing else: not on how many trials run at once, nor on
whether the sweep was interrupted. Studies run side by side, which is where the concurrency comes from.
"""

from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, TPESampler
from pydantic import JsonValue
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from xmadapter.config import AdapterConfig, Choice, Range, SpaceEntry
from xmadapter.distributed.trial_actor import METRIC
from xmadapter.results import Study
from xmadapter.seeding import derive_seed

__all__ = ["Finished", "StudySearch"]

Finished = Mapping[int, tuple[Mapping[str, JsonValue], float | None]]
"""Earlier trials of a study by number: drawn parameters, and the metric or None where the trial failed."""


class StudySearch(Searcher):
    """Hand out trials of several studies in turn.

    Args:
        studies: With what earlier runs have finished, in the order of their first turns.
    """

    def __init__(self, studies: Iterable[tuple[Study, Finished]]) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._waiting = deque(_Draws(study, finished) for study, finished in studies)
        self._waiting = deque(draws for draws in self._waiting if draws.left)
        self._running: dict[str, _Draws] = {}

    def suggest(self, trial_id: str) -> Any:
        """Draw for the study that has waited longest; None while all of them have a trial running."""
        if not self._waiting:
            return None if self._running else Searcher.FINISHED
        draws = self._waiting.popleft()
        self._running[trial_id] = draws
        return draws.draw()

    def drop(self, studies: Container[str]) -> None:
        """Draw no more for these studies; trials that run go on."""
        for draws in (*self._waiting, *self._running.values()):
            if draws.uid in studies:
                draws.dropped = True
        self._waiting = deque(draws for draws in self._waiting if draws.left)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Ignore what happens before a trial ends."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study, and let it draw again if it has trials left."""
        draws = self._running.pop(trial_id)
        failed = error or result is None or METRIC not in result or bool(result.get("failure"))
        draws.tell(None if failed or result is None else result[METRIC])
        if draws.left:
            self._waiting.append(draws)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger is what a resumed sweep reads."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger is what a resumed sweep reads."""


class _Draws:
    """One study: what it has drawn and how many draws are left."""

    def __init__(self, study: Study, finished: Finished) -> None:
        self._study, self.uid = study, study.uid
        self.dropped = False
        self._number = len(finished)
        self._search = _optuna_search(study, finished) if study.method.search_space else None

    @property
    def left(self) -> int:
        return 0 if self.dropped else self._study.method.draws - self._number

    def draw(self) -> dict[str, Any]:
        drawn = self._search.suggest(str(self._number)) if self._search else {}
        return {"study": self._study.uid, "number": self._number, "drawn": drawn}

    def tell(self, value: float | None) -> None:
        if self._search:
            self._search.on_trial_complete(
                str(self._number), {METRIC: value} if value is not None else None, value is None
            )
        self._number += 1


def _optuna_search(study: Study, finished: Finished) -> OptunaSearch:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {name: _distribution(entry) for name, entry in study.method.search_space.items()}
    sampler = _SeededByNumber(
        derive_seed(study.search_seed, study.method.title, study.shots), startup=max(1, study.method.draws // 2)
    )
    # The method's own defaults are the first draw: whoever searches should not end below where they started.
    defaults = [] if finished else _defaults(study.method.adapter, study.method.search_space)
    search = OptunaSearch(
        space, metric=METRIC, mode="max", sampler=sampler, study_name=study.uid, points_to_evaluate=defaults
    )
    for number in sorted(finished):
        drawn, value = finished[number]
        search.add_evaluated_point(dict(drawn), value or 0.0, error=value is None)
    return search


def _distribution(entry: SpaceEntry) -> BaseDistribution:
    match entry:
        case Range(low=low, high=high, log=log):
            return FloatDistribution(low, high, log=log)
        case Choice(choices=choices):
            return CategoricalDistribution(choices)


def _defaults(adapter: AdapterConfig, space: Mapping[str, SpaceEntry]) -> list[dict[str, Any]]:
    """Read the searched fields off a config, where all of them lie inside the space."""
    values: dict[str, Any] = {}
    for name, entry in space.items():
        value: Any = adapter
        for key in name.split("."):
            value = getattr(value, key)
        inside = value in entry.choices if isinstance(entry, Choice) else entry.low <= value <= entry.high
        if not inside:
            return []
        values[name] = value
    return [values]


class _SeededByNumber(BaseSampler):
    """TPE whose randomness depends on the trial's number only, so a resumed study draws what an uninterrupted one would."""

    def __init__(self, seed: int, *, startup: int) -> None:
        self._seed, self._startup = seed, startup
        self._tpe = self._make(0)

    def _make(self, number: int) -> TPESampler:
        return TPESampler(seed=derive_seed(self._seed, number) % 2**32, n_startup_trials=min(10, self._startup))

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        self._tpe = self._make(trial.number)
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        state: optuna.trial.TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._tpe.after_trial(study, trial, state, values)
