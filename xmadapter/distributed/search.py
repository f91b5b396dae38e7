"""StudySearch: many Optuna studies behind one Ray Tune searcher.

One Tuner runs the whole sweep, so actors start once. A study draws in rounds and is told of a round once all of it has ended, in
order of the draws; each draw is seeded by its number. So what is drawn, and what is stopped early, depends on the study's own
history and on nothing else: not on how many trials run at once, nor on whether the sweep was interrupted.
"""

from collections import deque
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import Trial, TrialState, create_trial
from ray.tune.search import Searcher

from xmadapter.config import Choice, CMAESConfig, NSGA2Config, Range, SpaceEntry, TPEConfig, with_parameters
from xmadapter.distributed.trial_actor import METRIC, ended
from xmadapter.errors import ConfigError
from xmadapter.seeding import derive_seed
from xmadapter.study import FinishedTrial, Study

__all__ = ["StudySearch"]

_STARTUP = 10
"""Draws of a TPE study that look at nothing, if it makes twice as many."""


class StudySearch(Searcher):
    """Hand out trials of several studies in turn.

    Args:
        studies: With the trials that earlier runs have finished, by number; in the order of their first turns.
    """

    def __init__(self, studies: Iterable[tuple[Study, Mapping[int, FinishedTrial]]]) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._all = [_Draws(study, finished) for study, finished in studies]
        self._waiting = deque(draws for draws in self._all if draws.ready)
        self._running: dict[str, tuple[_Draws, dict[str, Any]]] = {}
        self._lost: deque[tuple[_Draws, dict[str, Any]]] = deque()

    def suggest(self, trial_id: str) -> Any:
        """Draw for the study that has waited longest; None while all of them wait for trials that run.

        A trial that lost its process comes `again`, once, before any other.
        """
        if self._lost:
            self._running[trial_id] = self._lost.popleft()
            return self._running[trial_id][1]
        if not self._waiting:
            return None if self._running else Searcher.FINISHED
        draws = self._waiting.popleft()
        config = draws.draw() | {"again": False}
        self._running[trial_id] = draws, config
        if draws.ready:
            self._waiting.append(draws)
        return config

    def drop(self, studies: Container[str]) -> None:
        """Draw no more for these studies; trials that run go on."""
        for draws in self._all:
            if draws.study.uid in studies:
                draws.dropped = True
        self._waiting = deque(draws for draws in self._waiting if draws.ready)
        self._lost = deque((draws, config) for draws, config in self._lost if not draws.dropped)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Ignore what happens before a trial ends."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study, and let it draw again if it has trials left; an `error` is the loss of the trial's process."""
        draws, config = self._running.pop(trial_id)
        if error and not config["again"]:
            if not draws.dropped:
                self._lost.append((draws, config | {"again": True}))
            return
        draws.end(config["number"], ended({} if error else result or {}, {})[0])
        if draws.ready and draws not in self._waiting:
            self._waiting.append(draws)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger is what a resumed sweep reads."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger is what a resumed sweep reads."""


@dataclass
class _Draw:
    """A trial of the current round, and how it ended once it has."""

    trial: Trial
    outcome: FinishedTrial | None = None


@dataclass(eq=False)
class _Draws:
    """One study: what it has drawn, and what it waits to be told until the round is over.

    `history` holds the accuracies at each epoch of comparison, of all trials that the study has been told.
    """

    study: Study
    finished: Mapping[int, FinishedTrial]
    dropped: bool = False
    number: int = 0
    round: dict[int, _Draw] = field(default_factory=dict)
    history: dict[int, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = {name: _distribution(entry) for name, entry in self.study.method.search_space.items()}
        sampler = self.study.search.sampler
        self.against = sampler.against if isinstance(sampler, NSGA2Config) else None
        self.optuna = optuna.create_study(
            directions=["maximize", "minimize"] if self.against else ["maximize"],
            study_name=self.study.uid,
            sampler=_sampler(self.study, 0),
        )
        # These two keep their state in their own trials, and their randomness in themselves: they are asked all over again.
        self.stateful = isinstance(sampler, CMAESConfig | NSGA2Config)
        while not self.stateful and self._is_finished(_round_end(self.study, self.number)):
            self._remember(_round_end(self.study, self.number))
        self.first = self.study.first_draws
        for draw in self.first[self.number :]:
            self.optuna.enqueue_trial(draw)
        self.end_of_round = _round_end(self.study, self.number)
        self._take_finished()

    @property
    def ready(self) -> bool:
        """Whether a trial can be drawn now."""
        return not self.dropped and self.number < min(self.end_of_round, self.study.draws)

    def draw(self) -> dict[str, Any]:
        """Draw the next trial of the round."""
        config = self._ask()
        self._take_finished()
        return config

    def _ask(self) -> dict[str, Any]:
        number, self.number = self.number, self.number + 1
        if not self.stateful:
            self.optuna.sampler = _sampler(self.study, number)
        self.round[number] = _Draw(trial := self.optuna.ask(fixed_distributions=self.space))
        return {"study": self.study.uid, "number": number, "drawn": trial.params, "rungs": self._rungs(trial.params)}

    def end(self, number: int, outcome: FinishedTrial) -> None:
        """Note how a trial ended; with the last of a round, tell the study of all and begin the next."""
        self.round[number].outcome = outcome
        if self.number < min(self.end_of_round, self.study.draws) or any(
            one.outcome is None for one in self.round.values()
        ):
            return
        for _, draw in sorted(self.round.items()):
            self._tell(draw.trial, draw.outcome or outcome)
        self.round = {}
        self.end_of_round = _round_end(self.study, self.number)
        self._take_finished()

    def _take_finished(self) -> None:
        """Draw what earlier runs have finished, too, and end it at once: later draws must follow from the same history."""
        while self.ready and self.number in self.finished:
            number, outcome = self.number, self.finished[self.number]
            if number >= len(self.first) and not self.stateful:
                self.optuna.enqueue_trial(outcome.drawn)
            drawn = self._ask()["drawn"]
            if drawn != outcome.drawn:
                raise ConfigError(
                    f"trial {number} of {self.study.uid} was drawn as {outcome.drawn} and would now be {drawn}: another version of "
                    "Optuna; the finished trials are kept; choose another output for a new sweep"
                )
            self.end(number, outcome)

    def _is_finished(self, end: int) -> bool:
        end = min(end, self.study.draws)
        return self.number < end and all(number in self.finished for number in range(self.number, end))

    def _remember(self, end: int) -> None:
        """Add a round of finished trials without asking for them again, which takes a sampler milliseconds each."""
        for number in range(self.number, min(end, self.study.draws)):
            trial = self.finished[number]
            state = TrialState.COMPLETE if trial.result else TrialState.PRUNED if trial.rungs else TrialState.FAIL
            self.optuna.add_trial(
                create_trial(
                    state=state,
                    params=trial.drawn,
                    distributions=self.space,
                    value=trial.result.score if trial.result else None,
                    intermediate_values={} if trial.result else dict(trial.rungs),
                )
            )
            self._note(trial)
        self.number = min(end, self.study.draws)

    def _tell(self, trial: Trial, outcome: FinishedTrial) -> None:
        self._note(outcome)
        if outcome.result is not None:
            cost = [float(getattr(outcome.result, self.against))] if self.against else []
            self.optuna.tell(trial, [outcome.result.score, *cost])
        elif outcome.rungs:
            for epoch, value in outcome.rungs.items():
                trial.report(value, epoch)
            self.optuna.tell(trial, state=TrialState.PRUNED)
        else:
            self.optuna.tell(trial, state=TrialState.FAIL)

    def _note(self, outcome: FinishedTrial) -> None:
        for epoch, value in outcome.rungs.items():
            self.history.setdefault(epoch, []).append(value)

    def _rungs(self, drawn: Mapping[str, Any]) -> list[tuple[int, float | None]]:
        """List the epochs at which a trial is compared, and what it must reach: the best one in `factor` so far."""
        pruning = self.study.search.pruning
        fit = getattr(with_parameters(self.study.method.adapter, drawn), "fit", None)
        if pruning is None or fit is None:
            return []
        return [(epoch, _cut(self.history.get(epoch, []), pruning.factor)) for epoch in pruning.epochs(fit.epochs)]


def _cut(values: list[float], factor: int) -> float | None:
    return sorted(values, reverse=True)[len(values) // factor - 1] if len(values) >= factor else None


def _startup(study: Study) -> int:
    return min(_STARTUP, max(1, study.draws // 2))


def _round_end(study: Study, number: int) -> int:
    """Where the round ends that begins with this number."""
    search = study.search
    match search.sampler:
        case CMAESConfig(population=population) | NSGA2Config(population=population):
            return number + population
        case TPEConfig():
            return max(_startup(study), number + search.parallel if number else 0)
        case _:
            if search.pruning is None:
                return study.draws
            return max(_startup(study), number + search.parallel if number else 0)


def _sampler(study: Study, number: int) -> BaseSampler:
    seed = derive_seed(derive_seed(study.search.seed, study.method.title, study.shots), number) % 2**32
    match study.search.sampler:
        case TPEConfig():
            return TPESampler(seed=seed, n_startup_trials=_startup(study))
        case CMAESConfig(population=population):
            return CmaEsSampler(
                seed=seed, popsize=population, consider_pruned_trials=True, warn_independent_sampling=False
            )
        case NSGA2Config(population=population):
            return NSGAIISampler(seed=seed, population_size=population)
        case _:  # a grid is enqueued as a whole
            return RandomSampler(seed=seed)


def _distribution(entry: SpaceEntry) -> BaseDistribution:
    match entry:
        case Range(low=low, high=high, log=log):
            return FloatDistribution(low, high, log=log)
        case Choice(choices=choices):
            return CategoricalDistribution(choices)
