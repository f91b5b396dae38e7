"""Attaching to every family of hosts: what stays as it is, what learns, and what is refused."""

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from tests.unit.encoder_adapters.hosts import HOSTS, encode, make_host, make_ids, make_pixels
from tests.unit.encoder_adapters.test_cross_modal import move_weights
from tests.unit.encoders.zoo import FAMILIES, make_family
from xmadapter.config import CrossModalConfig, LoraConfig, OpenClipSpec, UniAdapterConfig
from xmadapter.encoder_adapters import attach, checkpoint_gradients
from xmadapter.encoders import build_encoder
from xmadapter.errors import ConfigError, IntegrityError

CONFIGS = [CrossModalConfig(), UniAdapterConfig(width=16), LoraConfig()]
# Hosts whose blocks differ; Cross-Modal adapters go through the others too.
DIFFERENT = ("CLIP ViT", "SigLIP", "EVA", "BERT", "mT5", "wide CoCa", "qk-norm and LayerScale", "deeper images")
PAIRS = [(CONFIGS[0], host) for host in HOSTS] + [(config, host) for config in CONFIGS[1:] for host in DIFFERENT]
EACH_KIND = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)


def same(left: tuple[torch.Tensor, ...], right: tuple[torch.Tensor, ...]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


@pytest.mark.parametrize(("config", "host"), PAIRS, ids=lambda one: getattr(one, "kind", one))
def test_a_zero_start_is_the_frozen_model_and_its_weights_alone_learn(config, host):
    model = make_host(host)
    keys = list(model.state_dict())
    with torch.no_grad():
        frozen = encode(model)
        bank = attach(model, config)
        assert same(encode(model), frozen)
    assert list(model.state_dict()) == keys
    image, text = encode(model)
    (image.square().sum() + text.square().sum()).backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    up = [one for name, one in bank.named_parameters() if {"up", "shared"} & set(name.split("."))]
    assert len(up) >= 4
    assert all(parameter.grad.abs().max() > 0 for parameter in up)


@EACH_KIND
@pytest.mark.parametrize("host", ["CustomTextCLIP", "ViT with drop-path", "BERT", "CoCa"])
def test_moved_weights_act_until_they_are_disabled_or_detached(host, config):
    model = make_host(host)
    with torch.no_grad():
        frozen = encode(model)
        bank = move_weights(attach(model, config))
        adapted = encode(model)
        assert all((one - other).abs().max() > 1e-2 for one, other in zip(adapted, frozen, strict=True))
        bank.enabled = False
        assert same(encode(model), frozen)
        bank.enabled = True
        assert same(encode(model), adapted)
        bank.detach()
        assert same(encode(model), frozen)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_detaching_makes_trainable_what_was_so_before():
    model = make_host("CLIP ViT").train()
    model.visual.requires_grad_(True)
    bank = attach(model, CrossModalConfig())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    bank.detach()
    assert all(parameter.requires_grad for parameter in model.visual.parameters())
    assert not model.text_projection.requires_grad
    assert all(module.training for module in model.modules())


@EACH_KIND
def test_a_state_survives_safetensors_bit_by_bit(config):
    model, other = make_host("wider images"), make_host("wider images")
    bank = move_weights(attach(model, config))
    written = save(bank.state())
    attach(other, config, seed=5).load(load(written))
    with torch.no_grad():
        assert same(encode(model), encode(other))


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_a_state_of_another_config_is_refused_and_changes_nothing(change):
    bank = attach(make_host("CLIP ViT"), CrossModalConfig())
    state, before = bank.state(), bank.state()
    name = next(iter(state))
    if change == "missing":
        del state[name]
    elif change == "unknown":
        state["more"] = torch.zeros(1)
    else:
        state[name] = torch.zeros(3)
    with pytest.raises(IntegrityError, match="nothing was loaded"):
        bank.load({key: tensor + 1 for key, tensor in state.items()})
    assert same(tuple(bank.state().values()), tuple(before.values()))


@EACH_KIND
@pytest.mark.parametrize("host", ["CustomTextCLIP", "ViT with drop-path", "CoCa"])
def test_gradient_checkpointing_changes_no_gradient(host, config):
    gradients = []
    for prepare in (lambda _: None, checkpoint_gradients):
        model = make_host(host)
        prepare(model)
        bank = move_weights(attach(model, config))
        image, text = encode(model)
        (image.square().sum() + text.square().sum()).backward()
        gradients.append([parameter.grad for parameter in bank.parameters()])
    assert all(map(torch.equal, *gradients))


def test_checkpointing_blocks_that_open_clip_cannot_checkpoint_is_refused():
    model = make_host("qk-norm and LayerScale")
    with pytest.raises(ConfigError, match="gradient checkpointing"):
        checkpoint_gradients(model)
    attach(model, CrossModalConfig()).detach()
    model.set_grad_checkpointing(True)
    with pytest.raises(ConfigError, match="gradient checkpointing"):
        attach(model, CrossModalConfig())


@pytest.mark.parametrize("host", ["CLIP ResNet", "timm ResNet", "ConvNeXt"])
def test_a_convolutional_image_tower_is_refused_and_its_text_tower_is_adapted(host):
    model = make_host(host)
    with pytest.raises(ConfigError, match=r"the image tower \(.*set towers to text"):
        attach(model, CrossModalConfig())
    with torch.no_grad():
        image, text = encode(model)
        bank = move_weights(attach(model, CrossModalConfig(towers="text", shared=0)))
        adapted_image, adapted_text = encode(model)
    assert torch.equal(image, adapted_image)
    assert (text - adapted_text).abs().max() > 1e-2
    assert not any("image" in name for name in bank.state())


def test_one_tower_alone_leaves_the_other_as_it_is():
    model = make_host("CLIP ViT")
    with torch.no_grad():
        image, text = encode(model)
        move_weights(attach(model, CrossModalConfig(towers="image", shared=0)))
        adapted_image, adapted_text = encode(model)
    assert torch.equal(text, adapted_text)
    assert (image - adapted_image).abs().max() > 1e-2


def test_sharing_with_one_tower_is_refused():
    with pytest.raises(ValueError, match="set shared to 0"):
        CrossModalConfig(towers="text")


@EACH_KIND
def test_a_half_precision_encoder_keeps_its_outputs_and_its_adapters_are_float32(config):
    model = make_host("CLIP ViT").to(torch.bfloat16)
    pixels, ids = make_pixels(model).to(torch.bfloat16), make_ids(model)
    with torch.no_grad():
        frozen = model.encode_image(pixels), model.encode_text(ids)
        bank = attach(model, config)
        assert same((model.encode_image(pixels), model.encode_text(ids)), frozen)
    assert {one.dtype for one in bank.state().values()} == {torch.float32}
    assert model.encode_image(pixels).dtype == torch.bfloat16
    model.encode_text(ids).float().square().sum().backward()
    assert any(parameter.grad is not None for parameter in bank.parameters())


@pytest.mark.parametrize(("host", "first", "below"), [("CLIP ViT", 1, (1, 1)), ("deeper images", 3, (3, 1))])
def test_blocks_below_the_first_are_left_alone(host, first, below):
    model = make_host(host)
    bank = attach(model, CrossModalConfig(first_block=first))
    assert bank.first_blocks == dict(zip(("image", "text"), below, strict=True))
    assert bank.sites == [
        f"{tower}.{block}.{end}"
        for tower, block in zip(("visual.transformer.resblocks", "transformer.resblocks"), below, strict=True)
        for end in ("ls_1", "ls_2")
    ]


def test_a_first_block_above_the_towers_is_refused():
    with pytest.raises(ConfigError, match="2 blocks; lower it below 2"):
        attach(make_host("CLIP ViT"), CrossModalConfig(first_block=2))


def test_the_encoder_of_this_package_encodes_with_the_adapters_in_its_model(tmp_path):
    encoder = build_encoder(OpenClipSpec(model=f"local-dir:{make_family(tmp_path / 'model', FAMILIES['CLIP ViT'])}"))
    frozen = encoder.encode_text(["a cat", "the dog"])
    bank = attach(encoder.model, CrossModalConfig())
    assert torch.equal(encoder.encode_text(["a cat", "the dog"]), frozen)
    move_weights(bank)
    assert (encoder.encode_text(["a cat", "the dog"]) - frozen).abs().max() > 1e-2
    bank.detach()
    assert torch.equal(encoder.encode_text(["a cat", "the dog"]), frozen)


def test_locking_the_towers_afterwards_cannot_freeze_the_adapters():
    model = make_host("CLIP ViT")
    bank = attach(model, CrossModalConfig())
    model.lock_image_tower(), model.lock_text_tower()
    assert all(parameter.requires_grad for parameter in bank.parameters())


def test_the_bank_does_not_own_the_encoder():
    model = make_host("CLIP ViT")
    bank = attach(model, CrossModalConfig())
    assert not {*map(id, bank.parameters())} & {*map(id, model.parameters())}
    assert not any(isinstance(module, type(model)) for module in bank.modules())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_compiled_model_is_refused():
    compiled = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(ConfigError, match="compiled"):
        attach(compiled, CrossModalConfig())
