"""Contrastive training: its loss by definition, its steps, and going on after a stop."""

import math
from dataclasses import dataclass, field

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from xmadapter.config import ContrastiveConfig
from xmadapter.errors import IntegrityError
from xmadapter.training.contrastive import (
    ContrastiveEpoch,
    FitState,
    cosine_logits,
    fit_contrastive,
    symmetric_contrastive,
)
from xmadapter.training.loop import Diverged

CONFIG = ContrastiveConfig(epochs=4, batch_size=4, learning_rate=0.01)


class Towers(nn.Module):
    """Two linear towers with a dropout, as small as a bank can be."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.image, self.text = (nn.Parameter(torch.randn(6, 5, generator=generator)) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(5))
        self.idle = nn.Parameter(torch.ones(3))
        self.dropout = nn.Dropout(0.2)


@dataclass
class TowerPairs:
    towers: Towers
    items: Tensor
    scale: float = 20.0
    asked: list[list[int]] = field(default_factory=list)

    def logits(self, rows: Tensor, /) -> Tensor:
        self.asked.append(rows.tolist())
        generator = torch.Generator().manual_seed(3)
        source = torch.randn(len(self.items), 6, generator=generator)
        image = self.towers.dropout(source[rows]) @ self.towers.image
        return cosine_logits(source[rows] @ self.towers.text + self.towers.bias, image, logit_scale=self.scale)


def make_pairs(count: int = 10, **settings: float) -> TowerPairs:
    return TowerPairs(Towers(), torch.arange(count), **settings)


def slow_loss(logits: list[list[float]], items: list[int]) -> float:
    """Mean over queries and directions of the mean log-probability of the right answers."""
    transposed = [list(column) for column in zip(*logits, strict=True)]
    total = 0.0
    for table in (logits, transposed):
        for row, item in zip(table, items, strict=True):
            whole = math.log(sum(map(math.exp, row)))
            right = [whole - score for score, other in zip(row, items, strict=True) if other == item]
            total += sum(right) / len(right)
    return total / (2 * len(items))


@pytest.mark.parametrize("items", [[0, 1, 2, 3], [0, 0, 1, 2], [5, 7, 5, 5]])
def test_the_loss_follows_its_definition(items):
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(len(set(items))))
    found = symmetric_contrastive(logits, torch.tensor(items))
    assert float(found) == pytest.approx(slow_loss(logits.tolist(), items), abs=1e-6)


def test_the_captions_of_one_image_are_not_each_others_negatives():
    logits = torch.zeros(3, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(symmetric_contrastive(logits, torch.tensor([4, 4, 9])), logits)
    assert gradient[0, 1] < 0  # the other caption of the same image is drawn nearer, not pushed off
    assert gradient[0, 2] > 0


def test_it_learns_pairs_and_leaves_the_bank_in_eval_mode():
    pairs, reports = make_pairs(), []
    fit_contrastive(
        pairs.towers,
        pairs,
        CONFIG.model_copy(update={"epochs": 30, "learning_rate": 0.1}),
        on_epoch=lambda one, _: reports.append(one),
    )
    assert reports[-1].loss < 0.5 * reports[0].loss
    assert [one.epoch for one in reports] == list(range(1, 31))
    assert not pairs.towers.training


def test_an_epoch_takes_whole_batches_in_another_order_each_time():
    pairs = make_pairs(10)
    fit_contrastive(pairs.towers, pairs, CONFIG)
    epochs = [pairs.asked[start] + pairs.asked[start + 1] for start in range(0, 8, 2)]
    assert len(pairs.asked) == 8
    assert all(len(set(rows)) == 8 for rows in epochs)
    assert len(set(map(tuple, epochs))) == 4


def test_the_learning_rate_rises_and_then_falls_along_a_cosine(monkeypatch):
    pairs, rates = make_pairs(4), []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), step(self))[1]
    )
    fit_contrastive(pairs.towers, pairs, CONFIG.model_copy(update={"epochs": 8, "warm_up": 0.25}))
    done = [(epoch + 0.5) / 8 for epoch in range(8)]
    expected = [0.01 * (p / 0.25 if p < 0.25 else (1 + math.cos(math.pi * (p - 0.25) / 0.75)) / 2) for p in done]
    assert rates == pytest.approx(expected)


def test_only_matrices_decay():
    pairs = make_pairs(scale=0.0)  # no logit depends on a weight: what moves, moves by decay alone
    before = {name: one.detach().clone() for name, one in pairs.towers.named_parameters()}
    with torch.no_grad():
        pairs.towers.bias.fill_(1)
    fit_contrastive(pairs.towers, pairs, CONFIG.model_copy(update={"weight_decay": 1.0}))
    assert torch.equal(pairs.towers.bias, torch.ones(5))
    assert torch.equal(pairs.towers.idle, before["idle"])
    for name in ("image", "text"):
        shrink = getattr(pairs.towers, name) / before[name]
        torch.testing.assert_close(shrink, shrink[0, 0].expand_as(shrink), atol=1e-5, rtol=0)
        assert 0.9 < shrink[0, 0] < 0.99


def test_the_gradient_is_clipped(monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def watched(self):
        gradients = [one.grad for group in self.param_groups for one in group["params"] if one.grad is not None]
        norms.append(float(torch.cat([one.flatten() for one in gradients]).norm()))
        return step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    pairs = make_pairs()
    fit_contrastive(pairs.towers, pairs, CONFIG.model_copy(update={"clip": 1e-3}))
    assert norms == pytest.approx([1e-3] * 8, rel=1e-2)


@pytest.mark.parametrize("stop", [1, 3])
def test_a_run_that_was_stopped_ends_where_it_would_have_ended(stop):
    whole, half, states = make_pairs(), make_pairs(), []
    fit_contrastive(whole.towers, whole, CONFIG, seed=5, on_epoch=lambda _, state: states.append(state()))
    kept = FitState(stop, load(save(states[stop - 1].tensors)))
    reports: list[ContrastiveEpoch] = []
    fit_contrastive(half.towers, half, CONFIG, seed=5, start=kept, on_epoch=lambda one, _: reports.append(one))
    assert [one.epoch for one in reports] == list(range(stop + 1, 5))
    for ours, theirs in zip(half.towers.parameters(), whole.towers.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_state_of_other_weights_is_refused():
    pairs = make_pairs()
    with pytest.raises(IntegrityError, match="epoch 2"):
        fit_contrastive(pairs.towers, pairs, CONFIG, start=FitState(2, {"weights.other": torch.zeros(1)}))


def test_training_leaves_torchs_generator_alone_and_depends_on_the_seed_only():
    runs = []
    for seed, noise in ((1, 0), (1, 99), (2, 0)):
        torch.manual_seed(noise)
        expected = torch.rand(1, generator=torch.Generator().manual_seed(noise))
        pairs = make_pairs()
        fit_contrastive(pairs.towers, pairs, CONFIG, seed=seed)
        assert torch.equal(torch.rand(1), expected)
        runs.append(pairs.towers.image.detach())
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_a_loss_that_is_not_finite_stops_training():
    pairs = make_pairs(scale=float("nan"))
    with pytest.raises(Diverged, match="loss nan"):
        fit_contrastive(pairs.towers, pairs, CONFIG)


def test_one_pair_is_no_contrast():
    pairs = make_pairs(1)
    with pytest.raises(ValueError, match="at least 2 pairs, got 1"):
        fit_contrastive(pairs.towers, pairs, CONFIG)


def test_logits_stay_in_float32_under_autocast():
    features = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        inside = cosine_logits(features, features, logit_scale=100.0)
    assert torch.equal(inside, cosine_logits(features, features, logit_scale=100.0))
    assert inside.dtype == torch.float32
