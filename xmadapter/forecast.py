"""forecast: what a sweep would run, and how long it would take, before it starts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from tqdm import tqdm

from xmadapter.config import FinetuneConfig, MethodConfig, RetrievalConfig, SweepConfig
from xmadapter.errors import ConfigError, StoreIncomplete, XMAdapterError
from xmadapter.features import RetrievalData, TuningData, open_features
from xmadapter.results import peek_sweep_folder
from xmadapter.study import Study
from xmadapter.tasks import read_data, run_any, with_images_counted

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
    method: MethodConfig | MethodConfig[RetrievalConfig]
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


def forecast(configs: Sequence[SweepConfig | FinetuneConfig]) -> list[Forecast]:
    """Count the trials of sweeps, and run two of each method to see how long they take; nothing is recorded.

    Raises:
        EpisodeError: A class has too few images.
        ConfigError: A method fails as it is configured.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as a trial has in a sweep
    total = sum(len(config.methods) for config in configs)
    try:
        with tqdm(total=total, desc="two trials of each", unit="method", disable=None) as bar:
            return [row for config in configs for row in _forecast(config, bar)]
    finally:
        torch.set_num_threads(threads)


def _forecast(config: SweepConfig | FinetuneConfig, bar: "tqdm[NoReturn]") -> Iterator[Forecast]:
    try:
        store = open_features(config.features)
    except StoreIncomplete:
        if isinstance(config, FinetuneConfig):
            raise  # how many images there are is not known before
        store = None
    if store and isinstance(config, FinetuneConfig):
        config = with_images_counted(config, store)
    data = read_data(store, config) if store else None
    folder = peek_sweep_folder(config)
    earlier = folder.trials()
    studies = folder.studies(store.manifest.plan_fingerprint if store else "")
    for method in config.methods:
        own = [study for study in studies if study.method == method]
        left = {study.shots: study.left(earlier.get(study.uid, {})) for study in own}
        finished = sum(study.draws for study in own) - sum(left.values())
        wanted = [study for study in own if left[study.shots]]
        yield Forecast(config.experiment, method, left, finished, _seconds(data, wanted) if data and wanted else {})
        bar.update()


def _seconds(data: TuningData | RetrievalData, studies: Sequence[Study]) -> dict[int, float]:
    """Time a trial at the fewest and at the most shots; a straight line between them."""
    ends = [min(studies, key=lambda study: study.shots), max(studies, key=lambda study: study.shots)]
    low, high = (_time(data, study) for study in ends)
    width = max(1, ends[1].shots - ends[0].shots)
    return {study.shots: low + (high - low) * (study.shots - ends[0].shots) / width for study in studies}


def _time(data: TuningData | RetrievalData, study: Study) -> float:
    try:
        unrecorded = study.model_copy(update={"states": None})
        return run_any(data, unrecorded.trial(study.method.as_configured or {})).seconds
    except XMAdapterError:
        raise
    except Exception as error:  # whatever a method can raise, as in a sweep
        raise ConfigError(
            f"{study.method.title} at {study.shots} shots fails as it is configured: {type(error).__name__}: {error}; nothing was "
            "recorded; correct the method, or leave it out"
        ) from error
