"""Time to train three seeds: side by side, and one after another.

Run: `python -m benchmarks.seeds_at_once`. Prints both times and their ratio for each trained adapter at the size of the demo
(160 support images of 512 dimensions, 10 classes, 11 views, 20 epochs, two threads).
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from xmadapter.adapters import FeatureAdapter, build_adapter
from xmadapter.config import FitConfig, LinearProbeConfig, TipFConfig, TrainedConfig, XMAdapterConfig
from xmadapter.episodes import EpisodeBatch, sample_episode, stack_episodes
from xmadapter.features import FeatureSet, Provenance, TextBank, TuningData
from xmadapter.training import fit

CLASSES, SHOTS, DIM, VIEWS, THREADS, REPEATS = 10, 16, 512, 11, 2, 3
SEEDS = (1, 2, 3)
TRAINING = FitConfig(epochs=20)


def make_data() -> TuningData:
    rng = np.random.default_rng(0)

    def features(split: str, per_class: int, views: int) -> FeatureSet:
        raw = rng.normal(size=(CLASSES * per_class, views, DIM)).astype(np.float32)
        norms = np.linalg.norm(raw, axis=-1)
        labels = np.repeat(np.arange(CLASSES), per_class)
        return FeatureSet(raw / norms[..., None], norms, labels, tuple(f"{split}/{row}" for row in range(len(raw))))

    text = rng.normal(size=(CLASSES, 1, DIM)).astype(np.float32)
    bank = TextBank(
        text / np.linalg.norm(text, axis=-1, keepdims=True), tuple(f"class {label}" for label in range(CLASSES))
    )
    return TuningData(
        "fewshot-val", features("train", 40, VIEWS), features("validation", 4, 1), bank, 100.0, Provenance("", "", "")
    )


def train(data: TuningData, config: TrainedConfig, episodes: EpisodeBatch) -> FeatureAdapter:
    adapter = build_adapter(config, episodes, data.text, logit_scale=data.logit_scale)
    fit(adapter, episodes, TRAINING)
    return adapter


def best_of(action: Callable[[], object]) -> float:
    durations = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        action()
        durations.append(time.perf_counter() - started)
    return min(durations)


def main() -> None:
    torch.set_num_threads(THREADS)
    data = make_data()
    draws = [sample_episode(data, shots=SHOTS, seed=seed) for seed in SEEDS]
    together, alone = stack_episodes(data, draws), [stack_episodes(data, [draw]) for draw in draws]
    print(f"{'adapter':14} {'one by one':>11} {'at once':>9} {'ratio':>6}")
    for config in (LinearProbeConfig(), TipFConfig(), XMAdapterConfig()):
        train(data, config, alone[0])
        loop_s = best_of(lambda config=config: [train(data, config, one) for one in alone])
        batch_s = best_of(lambda config=config: train(data, config, together))
        print(f"{config.kind:14} {loop_s:9.3f} s {batch_s:7.3f} s {loop_s / batch_s:6.2f}")


if __name__ == "__main__":
    main()
