"""Study: one search of a sweep, and how its trials ended."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from pydantic import Field, JsonValue

from xmadapter.config import (
    AdapterConfig,
    Frozen,
    GridConfig,
    MethodConfig,
    RetrievalConfig,
    SearchConfig,
    grid_points,
    with_parameters,
)
from xmadapter.fingerprint import fingerprint
from xmadapter.retrieval import FinetuneResult, FinetuneTrial
from xmadapter.trial import TrialConfig, TrialResult

__all__ = ["FinishedTrial", "Study", "Task"]

Task = Literal["classification", "retrieval"]
"""What a sweep measures: accuracy over classes, or recall between images and captions."""


class Study(Frozen):
    """One search: a method at one shot count, on one set of features.

    Everything that changes what a trial finds is part of its uid, except the number of trials: a longer sweep goes on.
    """

    uid: str
    parent: str
    method: MethodConfig | MethodConfig[RetrievalConfig]
    shots: int = Field(description="Images a class; of captioned images, how many are trained on.")
    seeds: tuple[int, ...]
    search: SearchConfig
    take_all: bool = False
    warm: tuple[dict[str, JsonValue], ...] = ()
    task: Task = "classification"
    states: str | None = Field(default=None, description="Where states of encoder-level trials are kept.")

    @property
    def first_draws(self) -> list[dict[str, JsonValue]]:
        """What is tried before any sampler is asked: the method as configured, what a warm start brings, a grid.

        Whoever searches should not end below where they started.
        """
        space, sampler = self.method.search_space, self.search.sampler
        configured = self.method.as_configured
        draws = [*([configured] if configured else []), *filter(self.method.inside, self.warm)]
        if space and isinstance(sampler, GridConfig):
            draws += grid_points(space, sampler.points)
        return [draw for place, draw in enumerate(draws) if draw not in draws[:place]]

    @property
    def draws(self) -> int:
        """Number of trials."""
        if self.method.search_space and isinstance(self.search.sampler, GridConfig):
            combinations = len(self.first_draws)
            return min(combinations, self.method.trials or combinations)
        return self.method.draws

    def left(self, finished: Container[int]) -> int:
        """Number of trials that are not among the finished ones."""
        return sum(number not in finished for number in range(self.draws))

    def trial(
        self, drawn: Mapping[str, JsonValue], rungs: Sequence[tuple[int, float | None]] = ()
    ) -> TrialConfig | FinetuneTrial:
        """Configure the trial of a draw; `rungs` as in `TrialConfig`."""
        adapter = with_parameters(self.method.adapter, drawn)
        if self.task == "retrieval":
            return FinetuneTrial(
                method=self.method.title,
                adapter=cast("RetrievalConfig", adapter),
                images=self.shots,
                seeds=self.seeds,
                state=f"{self.uid}-{fingerprint(dict(drawn))[:12]}",
                states=self.states,
                rungs=tuple(rungs),
            )
        return TrialConfig(
            method=self.method.title,
            adapter=cast("AdapterConfig", adapter),
            solve=self.method.solve_grid,
            shots=self.shots,
            seeds=self.seeds,
            take_all=self.take_all,
            rungs=tuple(rungs),
        )


@dataclass(frozen=True)
class FinishedTrial:
    """How a trial of a study ended.

    Args:
        drawn: Its hyperparameters.
        result: What it found; None where it failed or was stopped early.
        rungs: Validation accuracy by epoch, where it was compared; with no result, the last of them stopped it.
    """

    drawn: dict[str, JsonValue]
    result: TrialResult | FinetuneResult | None = None
    rungs: Mapping[int, float] = field(default_factory=dict)
