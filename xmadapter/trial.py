"""run_trial: one adapter configuration at one shot count, all seeds at once. What a sweep calls."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from pydantic import Field

from xmadapter.adapters import FeatureAdapter, FusedAdapter, LpPlusPlus, SolvableAdapter, build_adapter
from xmadapter.config import AdapterConfig, Frozen, FusedConfig, OneStandardErrorConfig, SelectionProtocol, SolveRange
from xmadapter.episodes import EpisodeBatch, sample_episode, stack_episodes
from xmadapter.evaluation import accuracy
from xmadapter.features import TuningData
from xmadapter.training import (
    FOLDS,
    Diverged,
    EpochMetrics,
    Points,
    fit,
    fit_lp_plus_plus,
    fold_episodes,
    pool,
    solve,
    solve_held_out,
)

__all__ = ["Pruned", "TrialConfig", "TrialResult", "refit", "run_trial"]


class Pruned(Exception):
    """Training was stopped early; `rungs` holds the validation accuracy by epoch that it was judged by."""

    def __init__(self, rungs: Mapping[int, float]) -> None:
        super().__init__(f"stopped after epoch {max(rungs)}")
        self.rungs = dict(rungs)


class TrialConfig(Frozen):
    """What a trial runs."""

    method: str = Field(description="Title of the method, as shown.")
    adapter: AdapterConfig
    solve: Mapping[str, SolveRange] = Field(default_factory=dict)
    shots: int
    seeds: tuple[int, ...]
    take_all: bool = Field(default=False, description="Whether classes may have fewer images than shots.")
    rungs: tuple[tuple[int, float | None], ...] = Field(
        default=(),
        description="Epochs at which a trained head is scored, and the validation accuracy it then must have.",
    )


class TrialResult(Frozen):
    """What a trial found, on validation images and on support images held out in turn."""

    method: str
    adapter: AdapterConfig = Field(description="As it was trained.")
    solved: dict[str, float] = Field(
        description="Parameters found inside the trial; they replace those of the training."
    )
    shots: int
    seeds: tuple[int, ...]
    take_all: bool = Field(default=False, description="Whether classes may have fewer images than shots.")
    short: dict[str, int] = Field(default_factory=dict, description="Classes that do, and how many images they gave.")
    protocol: SelectionProtocol
    validation: tuple[float, ...] = Field(description="Accuracy in [0, 1], per seed; empty where there is no image.")
    validation_rows: int = Field(description="Validation images per seed.")
    held_out: tuple[float, ...] = Field(
        default=(), description="Accuracy per seed on support images, of models fitted without them; empty where none."
    )
    held_out_rows: int = Field(default=0, description="Support images held out in turn, per seed.")
    solved_points: int = Field(description="Grid points tried inside the trial; 0 where nothing is solved.")
    trained_parameters: int
    stored_bytes: int
    seconds: float = Field(description="Wall time, from features to result.")
    latency_us: float = Field(
        default=0, description="Wall time per validation image and seed, features to logits, in microseconds."
    )
    rungs: dict[int, float] = Field(default_factory=dict, description="Validation accuracy by epoch, where compared.")

    @property
    def mean_validation(self) -> float | None:
        """Validation accuracy, mean over seeds; None under `no-val`."""
        return sum(self.validation) / len(self.validation) if self.validation else None

    @property
    def score(self) -> float:
        """What trials are chosen by: accuracy over validation and held-out images together, mean over seeds.

        0 where there is no image to ask: one shot under `no-val`.
        """
        correct = self.validation_rows * sum(self.validation) + self.held_out_rows * sum(self.held_out)
        return correct / max(1, self._rows * len(self.seeds))

    @property
    def score_error(self) -> float:
        """Standard error of the score, as of independent images."""
        return math.sqrt(self.score * (1 - self.score) / max(1, self._rows * len(self.seeds)))

    @property
    def _rows(self) -> int:
        return self.validation_rows + self.held_out_rows


def _ignore(_: EpochMetrics) -> None:
    pass


def run_trial(
    data: TuningData,
    config: TrialConfig,
    *,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[EpochMetrics], None] = _ignore,
) -> TrialResult:
    """Draw episodes, build, fit, solve, and measure accuracy on images that no fit has seen.

    Under `fewshot-val` and `no-val` the support is held out in turn, as validation alone cannot tell many settings apart; one shot
    cannot be divided. What an adapter was trained with stands unless the images speak against it (`Points.near`).

    Args:
        data: What tuning may see; it holds no test row.
        config: What to run.
        device: Where to run it.
        on_epoch: Called after each epoch of a trained adapter.

    Raises:
        EpisodeError: A class has too few images.
        Diverged: Training reached a loss that is not finite.
        Pruned: A rung was missed.
    """
    started = time.perf_counter()
    episodes = draw_episodes(data, config, seeds=config.seeds).to(device)
    adapter = build_adapter(config.adapter, episodes, data.text, logit_scale=data.logit_scale)
    ladder = _Ladder(config.rungs, lambda: _mean(_accuracy(adapter, episodes, seeds=len(config.seeds))))

    def watch(metrics: EpochMetrics) -> None:
        on_epoch(metrics)
        ladder.compare(metrics)

    _train(adapter, config.adapter, episodes, watch)
    asked = [(adapter, episodes)]
    if data.protocol in ("fewshot-val", "no-val") and config.shots >= FOLDS:
        folds = fold_episodes(episodes)
        asked.append((fit_adapter(data, config.adapter, folds), folds))
    solved, solved_points = _settle(asked, config)
    asking = time.perf_counter()
    validation = _accuracy(adapter, episodes, seeds=len(config.seeds))
    latency_us = 1e6 * (time.perf_counter() - asking) / max(1, len(episodes.validation_labels) * len(config.seeds))
    held_out = [_accuracy(*one, seeds=len(config.seeds)) for one in asked[1:]]
    return TrialResult(
        method=config.method,
        adapter=config.adapter,
        solved=solved,
        shots=config.shots,
        seeds=config.seeds,
        take_all=config.take_all,
        short=_short(data, episodes),
        protocol=data.protocol,
        validation=validation,
        validation_rows=len(episodes.validation_labels),
        held_out=held_out[0] if held_out else (),
        held_out_rows=FOLDS * len(asked[1][1].validation_labels) if held_out else 0,
        solved_points=solved_points,
        trained_parameters=adapter.trained_parameters,
        stored_bytes=adapter.stored_bytes,
        seconds=time.perf_counter() - started,
        latency_us=latency_us,
        rungs=ladder.reached,
    )


class _Ladder:
    """Scores a head at some epochs of its training, and stops it where it falls short."""

    def __init__(self, rungs: Sequence[tuple[int, float | None]], score: Callable[[], float]) -> None:
        self._rungs, self._score = dict(rungs), score
        self.reached: dict[int, float] = {}

    def compare(self, metrics: EpochMetrics) -> None:
        if metrics.epoch in self._rungs:
            self.reached[metrics.epoch] = self._score()
            needed = self._rungs[metrics.epoch]
            if needed is not None and self.reached[metrics.epoch] < needed:
                raise Pruned(self.reached)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def draw_episodes(data: TuningData, config: TrialConfig | TrialResult, *, seeds: tuple[int, ...]) -> EpisodeBatch:
    """Draw what a trial is run on, or was."""
    draws = [sample_episode(data, shots=config.shots, seed=seed, take_all=config.take_all) for seed in seeds]
    return stack_episodes(data, draws)


def _short(data: TuningData, episodes: EpisodeBatch) -> dict[str, int]:
    images = torch.bincount(episodes.labels).tolist()
    return {name: count for name, count in zip(data.text.class_names, images, strict=True) if count < episodes.shots}


def _settle(asked: Sequence[tuple[FeatureAdapter, EpisodeBatch]], config: TrialConfig) -> tuple[dict[str, float], int]:
    """Solve over all images together and settle every adapter; what was found, and among how many points."""
    solvable = [(adapter, episodes) for adapter, episodes in asked if isinstance(adapter, SolvableAdapter)]
    if not config.solve or not solvable:
        return {}, 0
    points = _points(solvable, config.solve)
    if not points.rows:  # nobody to ask: the configuration stands
        return {}, 0
    start = {name: getattr(config.adapter, name) for name in points.names}
    found = points.near(start) if isinstance(config.adapter, OneStandardErrorConfig) else points.best
    for adapter, _ in solvable:
        adapter.settle(found)
    return found, len(points.values)


def _points(asked: Sequence[tuple[SolvableAdapter, EpisodeBatch]], grid: Mapping[str, SolveRange]) -> Points:
    """Ask the validation images, and the support: one image left out at a time where that takes no further fit, else by halves.

    The score counts halves for every method, since methods are compared by it.
    """
    (whole, episodes), *halves = asked
    points = solve(whole, episodes, grid)
    if halves and whole.held_out_images is not None:
        return pool(points, solve_held_out(whole, episodes, grid))
    return pool(points, *(solve(adapter, half, grid) for adapter, half in halves))


@torch.no_grad()
def _accuracy(adapter: FeatureAdapter, episodes: EpisodeBatch, *, seeds: int) -> tuple[float, ...]:
    """Score a settled adapter on validation images, per seed, a mean over folds; empty where there is no image."""
    logits = adapter(episodes.validation)
    if not torch.isfinite(logits).all():
        raise Diverged("the trained adapter gives logits that are not finite")
    if not len(episodes.validation_labels):
        return ()
    return tuple(accuracy(logits, episodes.validation_labels).reshape(-1, seeds).mean(dim=0).tolist())


def fit_adapter(
    data: TuningData,
    config: AdapterConfig,
    episodes: EpisodeBatch,
    *,
    on_epoch: Callable[[EpochMetrics], None] = _ignore,
) -> FeatureAdapter:
    """Build the adapter of a config and train it, where the config says so."""
    adapter = build_adapter(config, episodes, data.text, logit_scale=data.logit_scale)
    _train(adapter, config, episodes, on_epoch)
    return adapter


def _train(
    adapter: FeatureAdapter, config: AdapterConfig, episodes: EpisodeBatch, on_epoch: Callable[[EpochMetrics], None]
) -> None:
    if isinstance(adapter, FusedAdapter) and isinstance(config, FusedConfig):
        for part, one in zip(adapter.fused_parts, config.parts, strict=True):
            _train(part, one.adapter, episodes, on_epoch)
            part.requires_grad_(False)  # what the whole trains afterwards is its own
    if isinstance(adapter, LpPlusPlus):
        fit_lp_plus_plus(adapter, episodes, on_epoch=on_epoch)
    fit_config = getattr(config, "fit", None)
    if fit_config is not None:
        fit(adapter, episodes, fit_config, on_epoch=on_epoch)


def refit(
    data: TuningData, result: TrialResult, *, seeds: tuple[int, ...], device: torch.device | str = "cpu"
) -> FeatureAdapter:
    """Build the adapter of a result again: train as it was trained, then settle what was solved.

    Training draws from seeds of its own, so the weights are those of the trial.
    """
    episodes = draw_episodes(data, result, seeds=seeds).to(device)
    adapter = fit_adapter(data, result.adapter, episodes)
    if isinstance(adapter, SolvableAdapter):
        adapter.settle(result.solved)
    return adapter
