"""Grid: the final results of one sweep by method and shot count, all measured in the same way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic

from typing_extensions import TypeVar

from xmadapter.config import Frozen, SelectionProtocol
from xmadapter.errors import ConfigError, some
from xmadapter.final import FinalResult
from xmadapter.reports.wording import listed
from xmadapter.retrieval import RetrievalFinal

__all__ = ["Grid", "make_grid", "make_recall_grid"]

_Final = TypeVar("_Final", bound=FinalResult | RetrievalFinal, default=FinalResult)


@dataclass(frozen=True)
class Grid(Generic[_Final]):
    """Final results that may stand in one table; `make_grid` and `make_recall_grid` check that they may.

    Args:
        finals: At least one; each method and shot count at most once; one protocol, one set of seeds, one test split. Of
            retrieval, the shot count is the number of training images.
    """

    finals: tuple[_Final, ...]

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Titles of methods, in order of appearance."""
        return tuple(dict.fromkeys(final.choice.method for final in self.finals))

    @cached_property
    def shots(self) -> tuple[int, ...]:
        """Shot counts, ascending."""
        return tuple(sorted({final.choice.shots for final in self.finals}))

    @property
    def protocol(self: "Grid[FinalResult]") -> SelectionProtocol:
        """What hyperparameters were chosen on."""
        return self.finals[0].choice.protocol

    @property
    def seeds(self) -> tuple[int, ...]:
        """Episodes that every mean is taken over."""
        return self.finals[0].choice.seeds

    @property
    def test_rows(self: "Grid[FinalResult]") -> int:
        """Images of the test split."""
        return self.finals[0].test_rows

    def at(self, method: str, shots: int) -> _Final | None:
        """Look up one result; None where the method was not run at this shot count."""
        return self._cells.get((method, shots))

    def of(self, method: str) -> tuple[_Final, ...]:
        """Results of one method, by ascending shots."""
        return tuple(final for shots in self.shots if (final := self.at(method, shots)))

    def named(self, config_type: type[Frozen]) -> tuple[str, ...]:
        """Titles of the methods whose adapter is of one kind, in order."""
        return tuple(method for method in self.methods if isinstance(self.of(method)[0].choice.adapter, config_type))

    @cached_property
    def best(self) -> _Final:
        """What `choose` would pick: the best score at the largest shot count; of equals the one with fewer parameters."""
        largest = [final for final in self.finals if final.choice.shots == self.shots[-1]]
        return max(largest, key=lambda final: (final.choice.score, -final.choice.trained_parameters))

    @cached_property
    def _cells(self) -> dict[tuple[str, int], _Final]:
        return {(final.choice.method, final.choice.shots): final for final in self.finals}


def make_grid(finals: Sequence[FinalResult]) -> Grid:
    """Check that results may stand in one table.

    Raises:
        ConfigError: There is none, a cell is there twice, or protocols, seeds or test splits differ.
    """
    _check(
        finals,
        {
            "protocols": {final.choice.protocol for final in finals},
            "sizes of the test split": {str(final.test_rows) for final in finals},
        },
    )
    return Grid(tuple(finals))


def make_recall_grid(finals: Sequence[RetrievalFinal]) -> Grid[RetrievalFinal]:
    """Check that results of retrieval may stand in one table.

    Raises:
        ConfigError: There is none, a cell is there twice, or seeds, test splits or the ranking of captions differ.
    """
    _check(
        finals,
        {
            "sizes of the test split": {f"{final.images} images with {final.texts} captions" for final in finals},
            "ways to rank captions": {report.convention for final in finals for report in final.test},
        },
    )
    return Grid(tuple(finals))


def _check(finals: Sequence[FinalResult] | Sequence[RetrievalFinal], kinds: Mapping[str, set[str]]) -> None:
    if not finals:
        raise ConfigError("there is no final result to report; run pipelines.evaluate first")
    advice = "one table holds one kind of measurement; report each sweep by itself"
    for name, found in {**kinds, "sets of seeds": {listed(final.choice.seeds) for final in finals}}.items():
        if len(found) > 1:
            raise ConfigError(f"the results have several {name}: {some(sorted(found))}; {advice}")
    cells = [f"{final.choice.method} at {final.choice.shots}" for final in finals]
    doubles = sorted({cell for cell in cells if cells.count(cell) > 1})
    if doubles:
        raise ConfigError(f"there are two results of {some(doubles)}; {advice}")
