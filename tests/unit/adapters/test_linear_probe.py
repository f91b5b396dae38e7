"""The linear probe that starts as the text classifier."""

import torch

from tests.factories import make_adapter, make_episodes, make_tuning_data
from tests.reference import slow_adapters as slow
from xmadapter.adapters import LinearProbe
from xmadapter.config import LinearProbeConfig, ZeroShotConfig

DATA = make_tuning_data()
EPISODES = make_episodes(DATA)


def moved_probe() -> LinearProbe:
    """A probe whose weights have left the texts, other ones for each seed."""
    probe = make_adapter(LinearProbeConfig(), DATA, EPISODES)
    with torch.no_grad():
        probe.weight += 0.5 * torch.randn(probe.weight.shape, generator=torch.Generator().manual_seed(0))
    return probe


def test_before_training_it_is_zero_shot():
    probe, zero_shot = (make_adapter(config, DATA, EPISODES) for config in (LinearProbeConfig(), ZeroShotConfig()))
    torch.testing.assert_close(
        probe(EPISODES.validation), zero_shot(EPISODES.validation), atol=1e-5, rtol=0
    )  # one more rounding


def test_logits_follow_the_equation_for_any_weights():
    probe = moved_probe()
    for seed, weight in enumerate(probe.weight.tolist()):
        expected = [
            slow.linear_probe(row, weight=weight, scale=DATA.logit_scale) for row in EPISODES.validation[seed].tolist()
        ]
        torch.testing.assert_close(probe(EPISODES.validation)[seed], torch.tensor(expected), atol=1e-4, rtol=0)


def test_scaling_a_class_weight_changes_no_logit():
    probe = moved_probe()
    before = probe(EPISODES.validation)
    with torch.no_grad():
        probe.weight[:, 1] *= 7
    torch.testing.assert_close(probe(EPISODES.validation), before, atol=1e-5, rtol=0)  # 7 is no power of 2


def test_it_trains_one_number_per_class_and_dimension():
    assert make_adapter(LinearProbeConfig(), DATA, EPISODES).trained_parameters == 3 * 8
