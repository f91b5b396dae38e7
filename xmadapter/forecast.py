"""forecast: what a sweep would run, and how long it would take, before it starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from xmadapter.config import MethodConfig, SweepConfig
from xmadapter.errors import StoreIncomplete
from xmadapter.features import FeatureStore, open_features
from xmadapter.results import Study, peek_sweep_folder
from xmadapter.trial import run_trial

__all__ = ["Forecast", "forecast"]


@dataclass(frozen=True)
class Forecast:
    """One method of one sweep.

    Args:
        experiment: Name of the data set.
        method: As it would be run.
        left: Trials left, by shot count.
        finished: Trials that earlier runs have finished.
        seconds: Wall time of one trial on one core, by shot count; empty where nothing is left, or there are no features yet.
    """

    experiment: str
    method: MethodConfig
    left: Mapping[int, int]
    finished: int
    seconds: Mapping[int, float]

    @property
    def trials(self) -> int:
        """Trials left, at all shot counts."""
        return sum(self.left.values())

    @property
    def total_s(self) -> float:
        """Seconds of one core for all trials left; trials that are stopped early take less."""
        return sum(self.left[shots] * self.seconds[shots] for shots in self.seconds)


def forecast(configs: Sequence[SweepConfig]) -> list[Forecast]:
    """Count the trials of sweeps, and run two of each method to see how long they take; nothing is recorded.

    Raises:
        EpisodeError: A class has too few images.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as a trial has in a sweep
    try:
        methods = [(config, method) for config in configs for method in config.methods]
        return [_forecast(*one) for one in tqdm(methods, desc="two trials of each", unit="method", disable=None)]
    finally:
        torch.set_num_threads(threads)


def _forecast(config: SweepConfig, method: MethodConfig) -> Forecast:
    try:
        store = open_features(config.features)
    except StoreIncomplete:
        store = None
    folder = peek_sweep_folder(config)
    earlier = folder.trials()
    studies = {
        study.shots: study
        for study in folder.studies(store.manifest.plan_fingerprint if store else "")
        if study.method == method
    }
    left = {shots: len(set(range(s.draws)) - earlier.get(s.uid, {}).keys()) for shots, s in studies.items()}
    finished = sum(study.draws for study in studies.values()) - sum(left.values())
    wanted = [study for study in studies.values() if left[study.shots]]
    return Forecast(config.experiment, method, left, finished, _seconds(store, config, wanted) if store else {})


def _seconds(store: FeatureStore, config: SweepConfig, studies: Sequence[Study]) -> dict[int, float]:
    """Time a trial at the fewest and at the most shots; a straight line between them."""
    if not studies:
        return {}
    data = store.tuning(config.protocol, config.classes)
    ends = [min(studies, key=lambda study: study.shots), max(studies, key=lambda study: study.shots)]
    low, high = (run_trial(data, study.trial(study.method.as_configured or {})).seconds for study in ends)
    width = max(1, ends[1].shots - ends[0].shots)
    return {study.shots: low + (high - low) * (study.shots - ends[0].shots) / width for study in studies}
