"""run_trial: one adapter configuration at one shot count, all seeds at once. What a sweep calls."""

import time
from collections.abc import Callable, Mapping

import torch
from pydantic import Field

from xmadapter.adapters import FeatureAdapter, SolvableAdapter, build_adapter
from xmadapter.config import AdapterConfig, Frozen, SelectionProtocol, SolveRange
from xmadapter.episodes import EpisodeBatch, sample_episode, stack_episodes
from xmadapter.evaluation import accuracy
from xmadapter.features import TuningData
from xmadapter.training import Diverged, EpochMetrics, fit, solve

__all__ = ["TrialConfig", "TrialResult", "refit", "run_trial"]


class TrialConfig(Frozen):
    """What a trial runs."""

    method: str = Field(description="Title of the method, as shown.")
    adapter: AdapterConfig
    solve: Mapping[str, SolveRange] = Field(default_factory=dict)
    shots: int
    seeds: tuple[int, ...]


class TrialResult(Frozen):
    """What a trial found, all of it on validation images."""

    method: str
    adapter: AdapterConfig = Field(description="As it was trained.")
    solved: dict[str, float] = Field(
        description="Parameters found inside the trial; they replace those of the training."
    )
    shots: int
    seeds: tuple[int, ...]
    protocol: SelectionProtocol
    validation: tuple[float, ...] = Field(description="Accuracy in [0, 1], per seed.")
    validation_rows: int = Field(description="Validation images per seed.")
    solved_points: int = Field(description="Grid points tried inside the trial; 0 where nothing is solved.")
    trained_parameters: int
    stored_bytes: int
    seconds: float = Field(description="Wall time, from features to result.")

    @property
    def mean_validation(self) -> float:
        """Validation accuracy, mean over seeds."""
        return sum(self.validation) / len(self.validation)


def _ignore(_: EpochMetrics) -> None:
    pass


def run_trial(
    data: TuningData, config: TrialConfig, *, on_epoch: Callable[[EpochMetrics], None] = _ignore
) -> TrialResult:
    """Draw episodes, build, fit, solve, and measure validation accuracy.

    Args:
        data: What tuning may see; it holds no test row.
        config: What to run.
        on_epoch: Called after each epoch of a trained adapter.

    Raises:
        EpisodeError: A class has too few images.
        Diverged: Training reached a loss that is not finite.
    """
    started = time.perf_counter()
    episodes = stack_episodes(data, [sample_episode(data, shots=config.shots, seed=seed) for seed in config.seeds])
    adapter = fit_adapter(data, config.adapter, episodes, on_epoch=on_epoch)
    points = None
    if config.solve and isinstance(adapter, SolvableAdapter):
        points = solve(adapter, episodes, config.solve)
        adapter.settle(points.best)
    with torch.no_grad():
        logits = adapter(episodes.validation)
    if not torch.isfinite(logits).all():
        raise Diverged("the trained adapter gives logits that are not finite")
    validation = accuracy(logits, episodes.validation_labels)
    return TrialResult(
        method=config.method,
        adapter=config.adapter,
        solved=points.best if points else {},
        shots=config.shots,
        seeds=config.seeds,
        protocol=data.protocol,
        validation=tuple(validation.tolist()),
        validation_rows=len(episodes.validation_labels),
        solved_points=len(points.values) if points else 0,
        trained_parameters=adapter.trained_parameters,
        stored_bytes=adapter.stored_bytes,
        seconds=time.perf_counter() - started,
    )


def fit_adapter(
    data: TuningData,
    config: AdapterConfig,
    episodes: EpisodeBatch,
    *,
    on_epoch: Callable[[EpochMetrics], None] = _ignore,
) -> FeatureAdapter:
    """Build the adapter of a config and train it, where the config says so."""
    adapter = build_adapter(config, episodes, data.text, logit_scale=data.logit_scale)
    fit_config = getattr(config, "fit", None)
    if fit_config is not None:
        fit(adapter, episodes, fit_config, on_epoch=on_epoch)
    return adapter


def refit(data: TuningData, result: TrialResult, *, seeds: tuple[int, ...]) -> FeatureAdapter:
    """Build the adapter of a result again: train as it was trained, then settle what was solved.

    Training draws from seeds of its own, so the weights are those of the trial.
    """
    episodes = stack_episodes(data, [sample_episode(data, shots=result.shots, seed=seed) for seed in seeds])
    adapter = fit_adapter(data, result.adapter, episodes)
    if isinstance(adapter, SolvableAdapter):
        adapter.settle(result.solved)
    return adapter
