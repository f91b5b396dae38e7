"""APE-T: its equation before and after training, and APE and Tip-Adapter as where it starts."""

import math

import pytest
import torch

from tests.factories import make_adapter, make_episodes, make_tuning_data
from tests.reference import slow_trained as slow
from xmadapter.adapters import APE, TrainedAPE
from xmadapter.config import APEConfig, APETConfig, FitConfig, TipConfig
from xmadapter.episodes import EpisodeBatch
from xmadapter.training import fit

DATA = make_tuning_data(classes=4, per_class=8)
EPISODES = make_episodes(DATA, shots=3)
CACHE = {"cache_weight": 2.0, "sharpness": 3.0}


def make(**parameters: object) -> TrainedAPE:
    adapter = make_adapter(APETConfig.model_validate(CACHE | parameters), DATA, EPISODES)
    assert isinstance(adapter, TrainedAPE)
    return adapter


def make_trained(**parameters: object) -> TrainedAPE:
    adapter = make(**parameters)
    fit(adapter, EPISODES, FitConfig(epochs=5, learning_rate=0.05, batch_size=5))
    return adapter


def expected(adapter: TrainedAPE, episodes: EpisodeBatch, seed: int) -> torch.Tensor:
    config = adapter.config
    shared = {
        "keys": episodes.keys[seed].tolist(),
        "labels": episodes.labels.tolist(),
        "text": DATA.text.class_features.tolist(),
        "channels": adapter.channels[seed].nonzero().flatten().tolist(),
        "residual": adapter.residual[seed].tolist(),
        "entries": adapter.entry_weight[seed].tolist(),
        "scale": DATA.logit_scale,
    }
    queries = episodes.validation[seed].tolist()
    return torch.tensor(
        [slow.ape_t(query, **shared, alpha=config.cache_weight, beta=config.sharpness) for query in queries]
    )


@pytest.mark.parametrize(("share", "count"), [(0.5, 4), (0.75, 6), (1.0, 8)])
def test_it_is_its_slow_reference_before_and_after_training(share: float, count: int):
    for adapter in (make(channel_share=share), make_trained(channel_share=share)):
        assert adapter.channels.sum(dim=-1).tolist() == [count, count]
        for seed, logits in enumerate(adapter(EPISODES.validation)):
            torch.testing.assert_close(logits, expected(adapter, EPISODES, seed), atol=1e-4, rtol=0)
    start = make(channel_share=share)(EPISODES.validation)
    assert (adapter(EPISODES.validation) - start).abs().max() > 1
    assert (adapter.entry_weight - make(channel_share=share).entry_weight).abs().min() > 0


@pytest.mark.parametrize("surprise_weight", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("channel_share", [0.3, 0.7, 1.0])
def test_it_starts_as_ape(channel_share: float, surprise_weight: float):
    parameters = CACHE | {"channel_share": channel_share, "surprise_weight": surprise_weight}
    ape = make_adapter(APEConfig(**parameters), DATA, EPISODES)
    assert isinstance(ape, APE)
    torch.testing.assert_close(make(**parameters)(EPISODES.validation), ape(EPISODES.validation), atol=1e-5, rtol=0)


def test_with_all_channels_and_no_surprise_it_starts_as_tip():
    tip = make_adapter(TipConfig(**CACHE), DATA, EPISODES)(EPISODES.validation)
    ape = make(channel_share=1, surprise_weight=0)(EPISODES.validation)
    torch.testing.assert_close(ape, tip, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("share", "count"), [(0.7, 6), (1.0, 8), (0.01, 1)])
def test_it_trains_a_move_a_class_and_a_weight_a_key(share: float, count: int):
    assert make(channel_share=share).trained_parameters == 4 * count + 12


def test_a_move_outside_the_logits_of_its_class_changes_nothing():
    adapter = make()
    before = adapter(EPISODES.validation)
    with torch.no_grad():
        adapter.residual[:, 1] += 0.3
    moved = (adapter(EPISODES.validation) - before).abs().amax(dim=(0, 1))
    assert moved[1] > 0.1
    assert moved[[0, 2, 3]].max() == 0


def test_a_move_reaches_the_texts_without_any_votes():
    adapter = make(cache_weight=0, channel_share=1)
    with torch.no_grad():
        adapter.residual += 0.1
    found = adapter(EPISODES.validation) - make(cache_weight=0)(EPISODES.validation)
    sums = EPISODES.validation.sum(dim=-1, keepdim=True).expand(found.shape)
    torch.testing.assert_close(found, 0.1 * DATA.logit_scale * sums, atol=1e-4, rtol=0)


def test_votes_grow_with_the_move_by_the_exponential():
    """What the factor in front of the votes says, for one query that the move is parallel to."""
    adapter = make(cache_weight=1, channel_share=1)
    query = EPISODES.validation[:, :1]
    before = next(iter(adapter.vote_grid(query, {})))
    with torch.no_grad():
        adapter.residual += 0.2 * query
    after = next(iter(adapter.vote_grid(query, {})))
    torch.testing.assert_close(after, math.exp(3 * 0.2) * before, atol=1e-5, rtol=0)
