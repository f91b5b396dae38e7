"""The gradient loop."""

import pytest
import torch

from tests.factories import make_adapter, make_episodes, make_tuning_data
from xmadapter.adapters import FeatureAdapter
from xmadapter.config import AdapterConfig, FitConfig, LinearProbeConfig, TipFConfig, XMAdapterConfig
from xmadapter.training import Diverged, EpochMetrics, fit

DATA = make_tuning_data()
EPISODES = make_episodes(DATA, shots=4, seeds=(1, 2))
TRAINED = [LinearProbeConfig(), TipFConfig(), XMAdapterConfig(text_width=4)]
trained = pytest.mark.parametrize("config", TRAINED, ids=lambda config: config.kind)


def fitted(config: AdapterConfig, **training: float) -> tuple[FeatureAdapter, list[EpochMetrics]]:
    adapter, epochs = make_adapter(config, DATA, EPISODES), []
    fit(adapter, EPISODES, FitConfig.model_validate(training), on_epoch=epochs.append)
    return adapter, epochs


@trained
def test_the_same_seeds_give_the_same_weights(config: AdapterConfig):
    first, second = (fitted(config, epochs=3, learning_rate=0.01)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@trained
def test_training_lowers_the_loss_and_moves_every_parameter(config: AdapterConfig):
    before = make_adapter(config, DATA, EPISODES)
    after, epochs = fitted(config, epochs=30, learning_rate=0.01)
    assert epochs[-1].loss < 0.8 * epochs[0].loss
    pairs = list(zip(before.parameters(), after.parameters(), strict=True))
    assert pairs
    assert all(not torch.equal(old, new) for old, new in pairs)


@trained
def test_a_batch_smaller_than_the_support_takes_more_steps(config: AdapterConfig):
    whole, _ = fitted(config, epochs=2, learning_rate=0.01)
    parts, epochs = fitted(config, epochs=2, learning_rate=0.01, batch_size=5)
    assert [metrics.epoch for metrics in epochs] == [1, 2]
    assert all(not torch.equal(one, other) for one, other in zip(whole.parameters(), parts.parameters(), strict=True))


def test_training_uses_no_global_randomness():
    torch.manual_seed(1)
    first, _ = fitted(TipFConfig(), epochs=2)
    torch.manual_seed(2)
    second, _ = fitted(TipFConfig(), epochs=2)
    assert torch.equal(first.keys, second.keys)


def test_text_and_labels_are_not_trained():
    adapter, _ = fitted(XMAdapterConfig(text_width=4), epochs=2, learning_rate=0.1)
    assert torch.equal(adapter.text, torch.tensor(DATA.text.class_features))
    assert torch.equal(adapter.labels, EPISODES.labels)


def test_a_diverging_learning_rate_is_told_with_epoch_and_rate():
    with pytest.raises(Diverged, match=r"epoch \d+, learning rate 100"):
        fitted(TipFConfig(sharpness=20), epochs=5, learning_rate=100)


def test_the_schedule_ends_near_zero():
    """With a cosine to zero, doubling the length moves the weights, but the last step hardly moves them."""
    paths: list[torch.Tensor] = []
    adapter = make_adapter(TipFConfig(), DATA, EPISODES)
    fit(
        adapter,
        EPISODES,
        FitConfig(epochs=20, learning_rate=0.01),
        on_epoch=lambda _: paths.append(adapter.keys.detach().clone()),
    )
    first, last = (paths[0] - EPISODES.keys).norm(), (paths[-1] - paths[-2]).norm()
    assert last < 0.05 * first
