"""UniAdapter: its equations in every host, what it shares, its size."""

from typing import Any

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import ResPostBlock
from torch import Tensor, nn

from tests.unit.encoder_adapters.hosts import encode, make_host, make_ids, make_pixels
from tests.unit.encoder_adapters.test_cross_modal import move_weights
from xmadapter.config import UniAdapterConfig
from xmadapter.encoder_adapters import AdapterBank, attach
from xmadapter.errors import ConfigError

CONFIG = UniAdapterConfig(width=8, scale=0.5)
ALL = CONFIG.model_copy(update={"towers": "all"})


def slow_path(
    rows: Tensor, weights: dict[str, Tensor], *up: str, normalise: str = "none", scale: float = 0.5
) -> Tensor:
    """Down, and up along one or two ways, as the equations say."""

    def norm(values: Tensor) -> Tensor:
        centred = values - values.mean(dim=-1, keepdim=True)
        return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()

    inner = norm(rows) * weights["norm.weight"] + weights["norm.bias"]
    inner = (inner @ weights["down.weight"].T + weights["down.bias"]).clamp_min(0)
    if normalise == "before":
        inner = norm(inner)
    added = sum(inner @ weights[f"up.{one}.weight"].T + weights[f"up.{one}.bias"] for one in up)
    return scale * (norm(added) if normalise == "after" else added)


def adapted(host: str, config: UniAdapterConfig = CONFIG) -> tuple[Any, AdapterBank]:
    model = make_host(host)
    return model, move_weights(attach(model, config))


def weights_of(bank: AdapterBank, name: str) -> dict[str, Tensor]:
    return dict(bank.adapters[name].state_dict())


@torch.no_grad()
def test_an_image_block_adds_beside_its_mlp():
    model, bank = adapted("CLIP ViT")
    block, state = model.visual.transformer.resblocks[1], torch.randn(2, 7, 32)
    found = block(state)
    bank.detach()
    rows = block.ln_1(state)
    between = state + block.attn(rows, rows, rows, need_weights=False)[0]
    expected = block(state) + slow_path(between, weights_of(bank, "1-image-text"), "image")
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_a_layer_of_bert_adds_after_its_last_norm():
    model, bank = adapted("BERT")
    layer, state = model.text.transformer.encoder.layer[0], torch.randn(2, 7, 32)
    found = layer(state)
    bank.detach()
    between = layer.attention(state)[0]
    expected = layer(state) + slow_path(between, weights_of(bank, "0-image-text"), "text")
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("normalise", ["none", "before", "after"])
@torch.no_grad()
def test_fusion_adds_a_way_of_its_own_and_the_residual_of_the_query(normalise):
    model, bank = adapted("CoCa", ALL.model_copy(update={"normalise": normalise}))
    block, query, seen = model.text_decoder.cross_attn[0], torch.randn(2, 5, 32), torch.randn(2, 6, 32)
    found = block(query, k_x=seen, v_x=seen)
    bank.detach()
    keys = block.ln_1_kv(seen)
    between = query + block.attn(block.ln_1(query), keys, keys, need_weights=False)[0]
    weights = weights_of(bank, "1-image-text-fusion")  # the decoder's only block stands beside the towers' last ones
    expected = (
        block(query, k_x=seen, v_x=seen)
        + slow_path(query, weights, "text")
        + slow_path(between, weights, "fusion", "text", normalise=normalise)
    )
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=1e-5)


class TimmHost(nn.Module):
    """An image tower of blocks that normalise a branch at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Module()
        self.visual.trunk = timm.create_model("test_vit", block_fn=ResPostBlock).eval()


@torch.no_grad()
def test_a_block_that_normalises_its_branches_at_their_end_adds_beside_its_mlp():
    model = TimmHost()
    bank = move_weights(attach(model, CONFIG.model_copy(update={"towers": "image"})))
    block, state = model.visual.trunk.blocks[0], torch.randn(2, 7, 64)
    found = block(state)
    bank.detach()
    between = state + block.norm1(block.attn(state))
    expected = block(state) + slow_path(between, weights_of(bank, "0-image"), "image")
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_a_start_at_zero_leaves_the_decoder_of_coca_as_it_is():
    for host in ("decoding CoCa", "wide CoCa"):
        for normalise in ("none", "before", "after"):
            model = make_host(host)
            pixels, ids = make_pixels(model), make_ids(model)
            frozen = model(pixels, ids)["logits"]
            attach(model, ALL.model_copy(update={"normalise": normalise}))
            assert torch.equal(model(pixels, ids)["logits"], frozen)
            assert frozen.isfinite().all()


def test_every_weight_learns_in_coca_and_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointed in (False, True):
        model, bank = adapted("wide CoCa", ALL)
        model.set_grad_checkpointing(checkpointed)
        output = model(make_pixels(model), make_ids(model))
        (output["logits"].square().mean() + (output["image_features"] @ output["text_features"].T).sum()).backward()
        gradients.append([parameter.grad for parameter in bank.parameters()])
    assert all(one.abs().max() > 0 for one in gradients[0])
    assert all(map(torch.equal, *gradients))


@torch.no_grad()
def test_the_way_of_a_text_is_part_of_the_way_of_fusion():
    _, bank = adapted("CoCa", ALL)
    adapter, rows = bank.adapters["1-image-text-fusion"], torch.randn(3, 32)
    before = adapter.fuse(rows)
    adapter.up["text"].weight.add_(1)
    assert not torch.equal(adapter.fuse(rows), before)


def test_towers_of_one_width_share_their_way_down_and_others_do_not():
    assert [*attach(make_host("CoCa"), ALL).adapters] == ["0-image-text", "1-image-text-fusion"]
    apart = attach(make_host("wide CoCa"), ALL)
    assert [*apart.adapters] == ["0-image", "0-text", "1-image", "1-text-fusion"]
    assert [*attach(make_host("deeper images"), CONFIG).adapters] == [
        "0-image",
        "1-image",
        "2-image-text",
        "3-image-text",
    ]
    downs = [name for name in apart.state() if name.endswith("down.weight")]
    assert len(downs) == 4


def test_the_shared_way_down_collects_the_gradients_of_both_towers():
    model, bank = adapted("CLIP ViT")
    image, text = encode(model)
    down = bank.adapters["1-image-text"].down.weight
    parts = [torch.autograd.grad(features.square().sum(), down, retain_graph=True)[0] for features in (image, text)]
    both = torch.autograd.grad(image.square().sum() + text.square().sum(), down)[0]
    torch.testing.assert_close(both, sum(parts), atol=1e-5, rtol=1e-4)
    assert all(part.abs().max() > 0 for part in parts)


@pytest.mark.parametrize(("width", "parameters"), [(128, 4_766_208), (512, 18_926_592)])
def test_the_sizes_are_those_of_the_released_shapes(width: int, parameters: int):
    """BLIP's towers, 12 layers of 768, stood in for by a CoCa of these shapes on the meta device."""
    tower: dict[str, Any] = {"width": 768, "layers": 12, "heads": 12, "context_length": 35}
    with torch.device("meta"):
        model = open_clip.CoCa(
            embed_dim=768,
            multimodal_cfg=tower,
            text_cfg=tower | {"embed_cls": True, "output_tokens": True},
            vision_cfg={"width": 768, "layers": 12, "patch_size": 32, "attentional_pool": True, "output_tokens": True},
        )
    bank = attach(model, UniAdapterConfig(width=width, towers="all"))
    assert bank.trained_parameters == parameters


def test_from_zero_the_norm_comes_before_the_way_up_as_after_it_the_first_step_would_be_300_times_larger():
    sizes = {}
    for normalise in ("before", "after"):
        model = make_host("decoding CoCa")
        bank = attach(model, ALL.model_copy(update={"normalise": normalise}))
        model(make_pixels(model), make_ids(model))["logits"].square().mean().backward()
        sizes[normalise] = bank.adapters["1-image-text-fusion"].up["fusion"].weight.grad.norm()
    assert sizes["after"] > 50 * sizes["before"]


def test_a_decoder_is_asked_for_only_where_there_is_one():
    with pytest.raises(ConfigError, match="no decoder"):
        attach(make_host("CLIP ViT"), ALL)


def test_an_encoder_called_in_part_is_noticed():
    model, _ = adapted("CLIP ViT")
    block = model.visual.transformer.resblocks[0]
    with pytest.raises(RuntimeError, match="called in part"):
        block.ls_2(F.relu(torch.zeros(1, 32)))
