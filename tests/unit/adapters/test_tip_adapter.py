"""Tip-Adapter, and -F before training."""

import math

import pytest
import torch

from tests.factories import make_adapter, make_episodes, make_tuning_data
from tests.reference import slow_adapters as slow
from xmadapter.adapters import cache_votes, sharpened, zero_shot_logits
from xmadapter.config import TipConfig, TipFConfig
from xmadapter.episodes import EpisodeBatch

DATA = make_tuning_data(classes=4, views=4)
EPISODES = make_episodes(DATA, shots=3)


def slow_keys(episodes: EpisodeBatch, seed: int) -> list[list[float]]:
    views, norms = episodes.views[seed].tolist(), episodes.norms[seed].tolist()
    return [slow.tip_key(one, lengths) for one, lengths in zip(views, norms, strict=True)]


def test_a_key_is_the_mean_of_raw_views_normalised_once():
    for seed in range(2):
        torch.testing.assert_close(EPISODES.keys[seed], torch.tensor(slow_keys(EPISODES, seed)), atol=1e-6, rtol=0)


def test_a_key_is_not_the_mean_of_normalised_views():
    normalised = torch.nn.functional.normalize(EPISODES.views.mean(dim=2), dim=-1)
    assert (EPISODES.keys - normalised).abs().max() > 1e-3


def test_with_a_single_view_the_key_is_that_view():
    episodes = make_episodes(make_tuning_data(views=1))
    torch.testing.assert_close(episodes.keys, episodes.views[:, :, 0], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("cache_weight", "sharpness"), [(1.0, 5.5), (20.0, 0.5), (0.3, 40.0)])
@pytest.mark.parametrize("kind", [TipConfig, TipFConfig])
def test_logits_follow_the_equation(kind: type, cache_weight: float, sharpness: float):
    adapter = make_adapter(kind(cache_weight=cache_weight, sharpness=sharpness), DATA, EPISODES)
    logits, text = adapter(EPISODES.validation), DATA.text.class_features.tolist()
    for seed in range(2):
        cache = {
            "keys": slow_keys(EPISODES, seed),
            "labels": EPISODES.labels.tolist(),
            "text": text,
            "scale": DATA.logit_scale,
        }
        queries = EPISODES.validation[seed].tolist()
        expected = [slow.tip(query, **cache, alpha=cache_weight, beta=sharpness) for query in queries]
        torch.testing.assert_close(logits[seed], torch.tensor(expected), atol=1e-4, rtol=0)  # float32 against float64


def test_without_cache_weight_it_is_zero_shot():
    adapter = make_adapter(TipConfig(cache_weight=0), DATA, EPISODES)
    expected = zero_shot_logits(EPISODES.validation, adapter.text, logit_scale=adapter.logit_scale)
    assert torch.equal(adapter(EPISODES.validation), expected)


def test_tip_f_before_training_is_tip():
    tip, tip_f = (make_adapter(kind(cache_weight=3, sharpness=2), DATA, EPISODES) for kind in (TipConfig, TipFConfig))
    assert torch.equal(tip(EPISODES.validation), tip_f(EPISODES.validation))
    assert (tip.trained_parameters, tip_f.trained_parameters) == (0, 12 * 8)


def test_trained_keys_are_not_normalised_again():
    adapter = make_adapter(TipFConfig(), DATA, EPISODES)
    before = adapter(EPISODES.validation)
    with torch.no_grad():
        adapter.keys *= 2
    assert (adapter(EPISODES.validation) - before).abs().max() > 1e-2


@pytest.mark.parametrize("sharpness", [0.1, 5.5, 50.0])
def test_on_the_unit_sphere_an_affinity_is_an_rbf_kernel(sharpness: float):
    left, right = EPISODES.keys[0, :4], EPISODES.keys[0, 4:8]
    affinity = sharpened((left * right).sum(dim=-1), sharpness)
    expected = [
        math.exp(-sharpness / 2 * math.dist(u, v) ** 2) for u, v in zip(left.tolist(), right.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        affinity, torch.tensor(expected), atol=1e-5, rtol=0
    )  # 50 times a cosine's last float32 bit


def test_a_class_without_support_gets_no_vote():
    votes = cache_votes(torch.ones(1, 2, 3), torch.tensor([0, 2, 2]), classes=4)
    assert votes[0].tolist() == [[1, 0, 2, 0]] * 2
