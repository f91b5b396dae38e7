"""Cross-Modal Adapter: its equation, what it shares, its size."""

from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from tests.unit.encoder_adapters.hosts import encode, make_host
from xmadapter.config import CrossModalConfig
from xmadapter.encoder_adapters import AdapterBank, attach
from xmadapter.errors import ConfigError


def move_weights(bank: AdapterBank, *, seed: int = 0) -> AdapterBank:
    """Put the adapters where training would: off their start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in bank.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return bank


def slow_quick_gelu(values: Tensor) -> Tensor:
    return values / (1 + torch.exp(-1.702 * values))


def slow_adapter(rows: Tensor, weights: dict[str, Tensor], tower: str) -> Tensor:
    """A(h) with its residual, as in the paper: own channels first, shared ones last."""
    inner = slow_quick_gelu(rows @ weights[f"down.{tower}.weight"].T + weights[f"down.{tower}.bias"])
    own = inner @ weights[f"up.{tower}.weight"].T + weights[f"up.{tower}.bias"]
    shared = inner @ weights["shared.weight"].T + weights["shared.bias"]
    return rows + torch.cat([own, shared], dim=-1)


def slow_block(block: Any, state: Tensor, attention: dict[str, Tensor], mlp: dict[str, Tensor]) -> Tensor:
    rows = block.ln_1(state)
    state = state + slow_adapter(block.attn(rows, rows, rows, need_weights=False)[0], attention, "image")
    return state + slow_adapter(block.mlp(block.ln_2(state)), mlp, "image")


@torch.no_grad()
def test_a_block_follows_the_equation():
    model = make_host("CLIP ViT")
    bank = move_weights(attach(model, CrossModalConfig(width=4, shared=5)))
    block, state = model.visual.transformer.resblocks[1], torch.randn(2, 7, 32)
    adapted = block(state)
    bank.detach()
    weights = [dict(bank.adapters[f"1-{branch}"].state_dict()) for branch in ("attention", "mlp")]
    torch.testing.assert_close(adapted, slow_block(block, state, *weights), atol=2e-6, rtol=1e-5)
    assert (adapted - block(state)).abs().max() > 0.1


def paper_vit_b_32() -> Any:
    config = open_clip.get_model_config("ViT-B-32")
    with torch.device("meta"):
        return open_clip.CLIP(**config)


@pytest.mark.parametrize(
    ("width", "shared", "parameters"),
    [(8, 16, 519_168), (8, 8, 520_896), (16, 16, 1_008_000), (16, 64, 988_416), (16, 512, 805_632), (8, 0, 522_624)],
)
def test_the_sizes_are_those_of_the_paper(width: int, shared: int, parameters: int):
    model = paper_vit_b_32()
    assert sum(parameter.numel() for parameter in model.parameters()) == 151_277_313
    assert attach(model, CrossModalConfig(width=width, shared=shared)).trained_parameters == parameters


def test_the_shared_weights_collect_the_gradients_of_both_towers():
    model = make_host("wider images")
    bank = move_weights(attach(model, CrossModalConfig()))
    image, text = encode(model)
    shared = bank.adapters["1-mlp"].shared.weight
    parts = [torch.autograd.grad(features.square().sum(), shared, retain_graph=True)[0] for features in (image, text)]
    both = torch.autograd.grad(image.square().sum() + text.square().sum(), shared)[0]
    torch.testing.assert_close(both, parts[0] + parts[1], atol=1e-6, rtol=1e-5)
    assert all(part.abs().max() > 0 for part in parts)


@torch.no_grad()
def test_the_last_channels_of_both_towers_come_from_the_shared_weights():
    bank = attach(make_host("wider images"), CrossModalConfig(shared=5))
    adapter = bank.adapters["0-mlp"]
    adapter.shared.bias.fill_(1)
    for tower, width in (("image", 48), ("text", 32)):
        added = adapter(torch.randn(2, width), tower=tower)
        assert added.tolist() == [[0.0] * (width - 5) + [1.0] * 5] * 2


def names(bank: AdapterBank) -> str:
    return " ".join(bank.state())


def test_sharing_all_channels_of_the_narrower_tower_leaves_it_none_of_its_own():
    bank = attach(make_host("wider images"), CrossModalConfig(shared=32))
    assert "up.image" in names(bank)
    assert "up.text" not in names(bank)
    with pytest.raises(ConfigError, match="32 channels"):
        attach(make_host("wider images"), CrossModalConfig(shared=33))


def test_sharing_no_channel_leaves_the_plain_adapter():
    assert "shared" not in names(attach(make_host("CLIP ViT"), CrossModalConfig(shared=0)))


def test_blocks_without_a_counterpart_share_nothing():
    bank = attach(make_host("deeper images"), CrossModalConfig())
    shared = [name for name, adapter in bank.adapters.items() if adapter.shared is not None]
    assert shared == ["2-attention", "2-mlp", "3-attention", "3-mlp"]
    assert [len(adapter.down) for adapter in bank.adapters.values()] == [1] * 4 + [2] * 4


def test_from_zero_only_what_leads_up_learns_first_and_then_all():
    model = make_host("CLIP ViT")
    bank = attach(model, CrossModalConfig())
    optimiser = torch.optim.SGD(bank.parameters(), lr=0.1)
    moving = []
    for _ in range(2):
        optimiser.zero_grad()
        image, text = encode(model)
        (image * text).sum().backward()
        moving.append({name for name, one in bank.adapters.named_parameters() if one.grad.abs().max() > 0})
        optimiser.step()
    assert moving[0] == {name for name in bank.state() if "up." in name or "shared." in name}
    assert moving[1] == set(bank.state())


@torch.no_grad()
def test_the_papers_start_is_near_the_frozen_model():
    model = make_host("CLIP ViT")
    frozen = encode(model)
    bank = attach(model, CrossModalConfig(init="paper"))
    for before, after in zip(frozen, encode(model), strict=True):
        assert 0 < (after - before).abs().max() < 0.05 * before.abs().max()
    weights = torch.cat([one.flatten() for name, one in bank.state().items() if "weight" in name])
    assert float(weights.std()) == pytest.approx(0.01, rel=0.05)
    assert all(not one.any() for name, one in bank.state().items() if "bias" in name)


def test_one_seed_means_one_start():
    first, second, third = (attach(make_host("CLIP ViT"), CrossModalConfig(), seed=seed).state() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], third[name]) for name in first)


def test_dropout_acts_in_training_only():
    model = make_host("CLIP ViT")
    bank = move_weights(attach(model, CrossModalConfig(dropout=0.5)))
    with torch.no_grad():
        trained = [encode(model)[0] for _ in range(2)]
        bank.eval()
        used = [encode(model)[0] for _ in range(2)]
    assert not torch.equal(*trained)
    assert torch.equal(*used)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_other_activations_are_other_functions(activation: str):
    config = CrossModalConfig(activation=activation)
    model = make_host("CLIP ViT")
    bank = move_weights(attach(model, config))
    rows = torch.randn(2, 32)
    adapter = bank.adapters["0-mlp"]
    function = {"gelu": torch.nn.GELU(), "relu": torch.nn.ReLU()}[activation]
    inner = function(adapter.down["text"](rows))
    expected = torch.cat([adapter.up["text"](inner), adapter.shared(inner)], dim=-1)
    assert torch.equal(adapter(rows, tower="text"), expected)
