"""Which hyperparameters mattered: by Optuna, over the trials of a sweep."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator
from pydantic import JsonValue
from scipy import stats

from xmadapter.reports.choices import flat
from xmadapter.trial import TrialResult

__all__ = ["Importance", "importances"]

_FEWEST_TRIALS = 10
_GOOD = 0.25
_LOG_FROM = 10.0


@dataclass(frozen=True)
class Importance:
    """What the search of one method learnt about its hyperparameters.

    Args:
        method: Title of the method.
        trials: How many were looked at, at all shot counts.
        shares: Of each searched field, the largest first; they add up to 1.
    """

    method: str
    trials: int
    shares: dict[str, float]


def importances(trials: Sequence[TrialResult]) -> list[Importance]:
    """Say for each searched method how far each hyperparameter sets the best quarter of its trials apart (PED-ANOVA, Watanabe, 2023).

    Accuracies of different shot counts do not compare, so a trial counts by its rank among those of its shot count. Methods with
    fewer than ten trials, or with nothing searched, are left out: too little would be read as a finding.
    """
    by_method: dict[str, list[TrialResult]] = defaultdict(list)
    for trial in trials:
        by_method[trial.method].append(trial)
    found = (_importance(method, own) for method, own in by_method.items())
    return [one for one in found if one is not None]


def _importance(method: str, trials: Sequence[TrialResult]) -> Importance | None:
    configs = [flat(trial.adapter.model_dump(mode="json")) for trial in trials]
    searched = {name: [config.get(name) for config in configs] for name in configs[0]}
    space = {name: _distribution(values) for name, values in searched.items() if len(set(map(str, values))) > 1}
    if len(trials) < _FEWEST_TRIALS or not space:
        return None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for config, rank in zip(configs, _ranks(trials), strict=True):
        params = {name: config[name] for name in space}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=rank))
    shares = PedAnovaImportanceEvaluator(target_quantile=_GOOD).evaluate(study)
    total = sum(shares.values())
    if not total > 0:
        return None
    return Importance(method, len(trials), {name: share / total for name, share in shares.items()})


def _ranks(trials: Sequence[TrialResult]) -> list[float]:
    """Rank each trial among those of its shot count, in (0, 1]; equal scores share their rank."""
    ranks = [0.0] * len(trials)
    for shots in {trial.shots for trial in trials}:
        places = [place for place, trial in enumerate(trials) if trial.shots == shots]
        for place, rank in zip(places, stats.rankdata([trials[one].score for one in places]), strict=True):
            ranks[place] = float(rank) / len(places)
    return ranks


def _distribution(values: Sequence[JsonValue]) -> BaseDistribution:
    numbers = [value for value in values if isinstance(value, float)]
    if len(numbers) < len(values):
        return CategoricalDistribution(sorted({_plain(value) for value in values}, key=str))
    low, high = min(numbers), max(numbers)
    return FloatDistribution(low, high, log=low > 0 and high / low > _LOG_FROM)


def _plain(value: JsonValue) -> str | int | float | bool | None:
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
