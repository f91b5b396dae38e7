"""Which trial wins, by validation only."""

from collections.abc import Iterable, Sequence

from xmadapter.errors import ConfigError, some
from xmadapter.trial import TrialResult

__all__ = ["choose", "select_best"]


def select_best(results: Iterable[TrialResult]) -> list[TrialResult]:
    """Pick one result per method and shot count.

    The highest mean validation accuracy wins; among equals the one with fewer parameters, then the earlier one.

    Returns:
        In order of first appearance of the method, then of shots.
    """
    best: dict[tuple[str, int], TrialResult] = {}
    for result in results:
        key = (result.method, result.shots)
        if key not in best or _rank(result) > _rank(best[key]):
            best[key] = result
    methods = list(dict.fromkeys(method for method, _ in best))
    return sorted(best.values(), key=lambda result: (methods.index(result.method), result.shots))


def choose(best: Sequence[TrialResult], *, method: str | None, shots: int | None) -> TrialResult:
    """Pick the result to export: of a method, of a shot count, or the best by validation.

    Raises:
        ConfigError: No result has that method or shot count.
    """
    matching = [r for r in best if method in (None, r.method) and shots in (None, r.shots)]
    if not matching:
        known = some([f"{result.method} at {result.shots}" for result in best], limit=40)
        raise ConfigError(f"no result of method {method or 'any'} at {shots or 'any'} shots; there are {known}")
    # Validation sets grow with the shots, so across shot counts the larger one is both better fitted and better measured.
    return max(matching, key=lambda result: (result.shots, *_rank(result)))


def _rank(result: TrialResult) -> tuple[float, int]:
    return result.mean_validation, -result.trained_parameters
