"""Which trial wins, by images that no fit has seen; never by the test split."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from xmadapter.errors import ConfigError, some
from xmadapter.retrieval import FinetuneResult
from xmadapter.trial import TrialResult

__all__ = ["choose", "select_best"]

_Result = TypeVar("_Result", TrialResult, FinetuneResult)


def select_best(results: Iterable[_Result]) -> list[_Result]:
    """Pick one result per method and shot count.

    The first trial of a study is the method as configured. It stands unless another's score is higher by more than one standard
    error; then the highest score wins, among equals the one with fewer parameters, then the earlier one.

    Returns:
        In order of first appearance of the method, then of shots.
    """
    trials: dict[tuple[str, int], list[_Result]] = {}
    for result in results:
        trials.setdefault((result.method, result.shots), []).append(result)
    methods = list(dict.fromkeys(method for method, _ in trials))
    return sorted(map(_best, trials.values()), key=lambda result: (methods.index(result.method), result.shots))


def choose(best: Sequence[_Result], *, method: str | None, shots: int | None) -> _Result:
    """Pick the result to export: of a method, of a shot count, or the best by score.

    Raises:
        ConfigError: No result has that method or shot count.
    """
    matching = [r for r in best if method in (None, r.method) and shots in (None, r.shots)]
    if not matching:
        known = some([f"{result.method} at {result.shots}" for result in best], limit=40)
        raise ConfigError(f"no result of method {method or 'any'} at {shots or 'any'} shots; there are {known}")
    # What scores count grows with the shots, so across shot counts the larger one is both better fitted and better measured.
    return max(matching, key=lambda result: (result.shots, *_rank(result)))


def _best(trials: Sequence[_Result]) -> _Result:
    best = max(trials, key=_rank)
    return trials[0] if trials[0].score >= best.score - best.score_error else best


def _rank(result: TrialResult | FinetuneResult) -> tuple[float, int]:
    return result.score, -result.trained_parameters
