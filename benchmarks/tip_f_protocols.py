"""Tip-Adapter-F as its authors measure it, and as it may be measured: one set of features, the same shots.

Run: `python -m benchmarks.tip_f_protocols runs/benchmark/features/embedded/fashion-mnist`. Prints a Markdown table of test accuracy:

- original: train, keep the epoch with the best accuracy on the TEST split, search weight and sharpness on the whole validation split,
  and report the better of that epoch and the search on the test split (the released code on ten of eleven data sets);
- original, ImageNet: the same, but the search sees the test split too (the released code on ImageNet);
- clean: the last epoch; weight and sharpness chosen on min(shots, 4) validation images a class and on held-out shots.

The first two see test labels, which is why they read the features under the protocol `oracle`.
"""

import argparse
from dataclasses import replace

import torch
from torch import Tensor

from xmadapter.adapters import SolvableAdapter, build_adapter
from xmadapter.config import TipFConfig
from xmadapter.episodes import EpisodeBatch, sample_episode, stack_episodes
from xmadapter.evaluation import accuracy, seed_interval
from xmadapter.features import TuningData, open_features
from xmadapter.training import EpochMetrics, fit, solve
from xmadapter.trial import TrialConfig, refit, run_trial

SHOTS, SEEDS = (1, 2, 4, 8, 16), (1, 2, 3, 4, 5)
CONFIG = TipFConfig()


def original(oracle: TuningData, full: TuningData, shots: int, seed: int, *, searched_on_test: bool) -> float:
    """Measure one seed as the released code does."""
    test = stack_episodes(oracle, [sample_episode(oracle, shots=shots, seed=seed)])
    whole = stack_episodes(full, [sample_episode(full, shots=shots, seed=seed)])
    adapter = build_adapter(CONFIG, test, oracle.text, logit_scale=oracle.logit_scale)
    assert isinstance(adapter, SolvableAdapter)
    best, state = 0.0, dict[str, Tensor]()

    def keep_best(_: EpochMetrics) -> None:
        nonlocal best, state
        found = on_images(adapter, test)
        if found > best:
            best, state = found, {name: tensor.clone() for name, tensor in adapter.state_dict().items()}

    fit(adapter, test, CONFIG.fit, on_epoch=keep_best)
    adapter.load_state_dict(state)
    adapter.settle(solve(adapter, test if searched_on_test else whole, CONFIG.default_solve).best)
    return max(best, on_images(adapter, test))


@torch.no_grad()
def on_images(adapter: SolvableAdapter, episodes: EpisodeBatch) -> float:
    """Score the validation images of one episode, which under `oracle` are the test split."""
    logits = torch.cat([adapter(rows) for rows in episodes.validation.split(4096, dim=1)], dim=1)
    return float(accuracy(logits, episodes.validation_labels)[0])


def clean(few: TuningData, oracle: TuningData, shots: int) -> list[float]:
    """Measure all seeds under `fewshot-val`, to the last epoch; the test split is scored once, with what was chosen."""
    trial = TrialConfig(method="Tip-F", adapter=CONFIG, solve=CONFIG.default_solve, shots=shots, seeds=SEEDS)
    adapter = refit(few, run_trial(few, trial), seeds=SEEDS)
    images = torch.from_numpy(oracle.validation.features[:, 0].copy())
    with torch.no_grad():
        logits = torch.cat([adapter(rows[None]) for rows in images.split(4096)], dim=1)
    return accuracy(logits, torch.from_numpy(oracle.validation.labels)).tolist()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", help="folder of a feature store")
    store = open_features(parser.parse_args().features)
    few, full = store.tuning("fewshot-val"), store.tuning("full-val")
    oracle = replace(store.tuning("oracle"), train=full.train)
    print("| shots | original (oracle) | original, ImageNet (oracle) | clean (fewshot-val) | gap to the first |")
    print("| --: | --: | --: | --: | --: |")
    for shots in SHOTS:
        columns = [
            [original(oracle, full, shots, seed, searched_on_test=on_test) for seed in SEEDS]
            for on_test in (False, True)
        ]
        columns.append(clean(few, oracle, shots))
        gap = seed_interval([theirs - ours for theirs, ours in zip(columns[0], columns[2], strict=True)])
        cells = [f"{100 * sum(column) / len(column):.1f}" for column in columns]
        print(
            f"| {shots} | {' | '.join(cells)} | {100 * gap.estimate:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f}) |"
        )


if __name__ == "__main__":
    main()
