"""Meta-Adapter: class texts read the support of their class; a training query leaves its own image out."""

import pytest
import torch

from tests.factories import make_adapter, make_episodes, make_tuning_data
from tests.reference import slow_trained as slow
from xmadapter.adapters import MetaAdapter, class_members
from xmadapter.adapters.base import Memory
from xmadapter.config import FitConfig, MetaConfig, ZeroShotConfig
from xmadapter.training import fit

DATA = make_tuning_data(classes=4, per_class=8)
EPISODES = make_episodes(DATA, shots=3)
TEXT = torch.tensor(DATA.text.class_features)
UNEQUAL = torch.tensor([2, 0, 0, 3, 2, 0, 0, 3, 3])
"""Four rows, none, two and three; in no order."""


def make() -> MetaAdapter:
    adapter = make_adapter(MetaConfig(), DATA, EPISODES)
    assert isinstance(adapter, MetaAdapter)
    return adapter


def make_unequal(labels: torch.Tensor = UNEQUAL) -> MetaAdapter:
    rows = torch.arange(len(labels))
    adapter = MetaAdapter(MetaConfig(), Memory(TEXT, EPISODES.keys[:, rows], labels, DATA.logit_scale, seeds=(1, 2)))
    return sharper(adapter)


def sharper(adapter: MetaAdapter) -> MetaAdapter:
    """Attention that prefers some rows: at the start it is nearly a mean."""
    with torch.no_grad():
        adapter.query *= 12
        adapter.key *= 12
    return adapter


def slow_weights(adapter: MetaAdapter, seed: int) -> dict[str, object]:
    return {
        "query": adapter.query[seed].tolist(),
        "key": adapter.key[seed].tolist(),
        "gate": adapter.gate[seed, :, 0].tolist(),
        "bias": adapter.gate_bias[seed].item(),
        "keys": adapter.keys[seed].tolist(),
        "labels": adapter.labels.tolist(),
        "text": adapter.text.tolist(),
        "scale": DATA.logit_scale,
    }


def assert_is_its_reference(adapter: MetaAdapter) -> None:
    for seed, logits in enumerate(adapter(EPISODES.validation)):
        weights = slow_weights(adapter, seed)
        expected = [slow.meta_logits(image, **weights) for image in EPISODES.validation[seed].tolist()]
        torch.testing.assert_close(logits, torch.tensor(expected), atol=1e-4, rtol=0)


def test_it_is_its_slow_reference_before_and_after_training():
    adapter = make()
    start = adapter(EPISODES.validation)
    assert_is_its_reference(adapter)
    assert_is_its_reference(sharper(make()))
    fit(adapter, EPISODES, FitConfig(epochs=5, learning_rate=0.05, batch_size=5))
    assert (adapter(EPISODES.validation) - start).abs().max() > 0.1
    assert_is_its_reference(adapter)


@pytest.mark.parametrize("labels", [UNEQUAL, torch.tensor([1, 1, 1, 1]), torch.tensor([3])])
def test_classes_may_have_any_number_of_support_rows(labels: torch.Tensor):
    assert_is_its_reference(make_unequal(labels))


@pytest.mark.parametrize("adapter", [make_unequal(), sharper(make())], ids=["unequal", "equal"])
def test_the_loss_is_that_of_lists_without_the_query_s_own_row(adapter: MetaAdapter):
    count = len(adapter.labels)
    rows = torch.stack([torch.arange(count), torch.arange(count).flip(0)])
    image = EPISODES.views[torch.arange(2)[:, None], rows, 1]
    loss = adapter.loss(image, adapter.labels[rows], rows)
    for seed in range(2):
        expected = slow.meta_loss(image[seed].tolist(), rows[seed].tolist(), **slow_weights(adapter, seed))
        assert loss[seed].item() == pytest.approx(expected, abs=1e-4)


def test_a_training_query_does_not_meet_its_own_image():
    adapter, other = sharper(make()), sharper(make())
    other.keys = adapter.keys.clone()
    other.keys[:, 4] = -adapter.keys[:, 4]
    batch = EPISODES.views[:, 4:5, 0], EPISODES.labels[4].expand(2, 1), torch.full((2, 1), 4)
    assert torch.equal(adapter.loss(*batch), other.loss(*batch))
    elsewhere = (*batch[:2], torch.full((2, 1), 5))
    assert (adapter.loss(*elsewhere) - other.loss(*elsewhere)).abs().max() > 1e-3


def test_with_one_shot_a_training_query_reads_its_own_image():
    episodes = make_episodes(DATA, shots=1)
    adapter = make_adapter(MetaConfig(), DATA, episodes)
    rows = torch.arange(4).expand(2, -1)
    image = episodes.views[:, :, 0]
    expected = torch.stack([torch.nn.functional.cross_entropy(one, rows[0]) for one in adapter(image)])
    torch.testing.assert_close(adapter.loss(image, episodes.labels[rows], rows), expected, atol=1e-5, rtol=0)


def test_a_closed_gate_is_zero_shot():
    adapter, zero_shot = make(), make_adapter(ZeroShotConfig(), DATA, EPISODES)
    with torch.no_grad():
        adapter.gate_bias -= 1e4
    torch.testing.assert_close(adapter(EPISODES.validation), zero_shot(EPISODES.validation), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("dim", "count"), [(512, 524_801), (1024, 2_098_177)])
def test_it_has_the_paper_s_number_of_parameters(dim: int, count: int):
    data = make_tuning_data(dim=dim, classes=2)
    assert make_adapter(MetaConfig(), data, make_episodes(data, seeds=(1,))).trained_parameters == count


def test_seeds_start_at_different_weights_and_a_seed_always_at_the_same():
    again = make_adapter(MetaConfig(), DATA, make_episodes(DATA, seeds=(2,)))
    for name in ("query", "key", "gate"):
        first, second = getattr(make(), name)
        assert not torch.equal(first, second)
        assert torch.equal(second, getattr(again, name)[0])


def test_members_of_each_class_are_listed_and_filled_up():
    members = class_members(UNEQUAL, classes=5).tolist()
    assert members == [[1, 2, 5, 6], [-1] * 4, [0, 4, -1, -1], [3, 7, 8, -1], [-1] * 4]
