"""What a sweep runs: few-shot classification or retrieval, told apart here and nowhere below the engine."""

import torch

from xmadapter.config import FinetuneConfig, SweepConfig
from xmadapter.episodes import sample_episode
from xmadapter.features import FeatureStore, RetrievalData, TuningData
from xmadapter.results import SweepFolder
from xmadapter.retrieval import FinetuneResult, FinetuneTrial, run_finetune
from xmadapter.selection import select_best
from xmadapter.trial import TrialConfig, TrialResult, run_trial

__all__ = ["best_results", "read_data", "run_any", "with_images_counted"]


def with_images_counted(config: FinetuneConfig, store: FeatureStore) -> FinetuneConfig:
    """Put the number of training images there are in the place of `all`."""
    if config.images != "all":
        return config
    return config.model_copy(update={"images": (len(store.captioned("train")),)})


def read_data(store: FeatureStore, config: SweepConfig | FinetuneConfig) -> TuningData | RetrievalData:
    """Read what trials may see, and draw every support set once, so that too few images are told before anything runs.

    Raises:
        EpisodeError: There are too few images.
        DataError: The store has nothing to train or to choose on.
    """
    if isinstance(config, FinetuneConfig):
        captioned = store.retrieval()
        captioned.drawn(max(config.shots), seed=config.seeds[0])
        return captioned
    data = store.tuning(config.protocol, config.classes)
    for seed in config.seeds:
        sample_episode(data, shots=max(config.shots), seed=seed, take_all=config.short_classes == "take-all")
    return data


def run_any(
    data: TuningData | RetrievalData, trial: TrialConfig | FinetuneTrial, *, device: torch.device | str = "cpu"
) -> TrialResult | FinetuneResult:
    """Run a trial on the data it is made for, as `run_trial` and `run_finetune` do."""
    match data, trial:
        case TuningData(), TrialConfig():
            return run_trial(data, trial, device=device)
        case RetrievalData(), FinetuneTrial():
            return run_finetune(data, trial, device=device)
        case _:
            raise TypeError(f"a {type(trial).__name__} does not run on {type(data).__name__}")


def best_results(folder: SweepFolder, plan_fingerprint: str) -> list[TrialResult] | list[FinetuneResult]:
    """Choose one result per method and shot count, by validation."""
    if isinstance(folder.config, FinetuneConfig):
        return select_best(folder.results(plan_fingerprint, FinetuneResult))
    return select_best(folder.results(plan_fingerprint, TrialResult))
