"""LoRA, bias tuning and full tuning: what adapters are compared with."""

from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from tests.unit.encoder_adapters.hosts import encode, make_host
from tests.unit.encoder_adapters.test_cross_modal import move_weights
from xmadapter.config import BiasTuningConfig, FullTuningConfig, LoraConfig
from xmadapter.encoder_adapters import attach
from xmadapter.errors import ConfigError, IntegrityError

TUNINGS = [BiasTuningConfig(), FullTuningConfig()]
EACH_TUNING = pytest.mark.parametrize("config", TUNINGS, ids=lambda config: config.kind)


def features(model: Any) -> Tensor:
    with torch.no_grad():
        return torch.cat(encode(model))


def test_lora_is_a_change_of_the_weights():
    model, merged = make_host("CLIP ViT"), make_host("CLIP ViT")
    bank = move_weights(attach(model, LoraConfig(rank=3, alpha=6)))
    for tower, blocks in (("image", merged.visual.transformer.resblocks), ("text", merged.transformer.resblocks)):
        for slot, block in enumerate(blocks):
            for number, layer in enumerate((block.mlp.c_fc, block.mlp.c_proj)):
                update = bank.adapters[f"{tower}-{slot}-{number}"]
                layer.weight += 2 * (update.down @ update.up).T.detach()
    torch.testing.assert_close(features(model), features(merged), atol=1e-5, rtol=1e-5)
    assert bank.trained_parameters == 2 * 2 * 2 * 3 * (32 + 128)


@pytest.mark.parametrize("host", ["EVA", "BERT"])
def test_lora_reaches_every_linear_layer_of_an_mlp(host):
    bank = attach(make_host(host), LoraConfig(first_block=1))
    ends = {site.rsplit(".", 2)[-2] + "." + site.rsplit(".", 1)[-1] for site in bank.sites}
    own = {"mlp.c_fc", "mlp.c_proj"}
    assert ends == own | ({"intermediate.dense", "output.dense"} if host == "BERT" else {"mlp.fc1", "mlp.fc2"})


@EACH_TUNING
def test_tuned_weights_act_until_they_are_disabled_or_detached(config):
    model = make_host("CustomTextCLIP")
    keys, frozen = list(model.state_dict()), features(model)
    bank = attach(model, config)
    torch.testing.assert_close(
        features(model), frozen, atol=1e-5, rtol=0
    )  # other routes through torch where weights train
    move_weights(bank)
    tuned = features(model)
    assert (tuned - frozen).abs().max() > 1e-2
    state = bank.state()
    bank.enabled = False
    assert torch.equal(features(model), frozen)
    assert all(torch.equal(state[name], tensor) for name, tensor in bank.state().items())
    bank.enabled = True
    assert torch.equal(features(model), tuned)
    bank.detach()
    assert torch.equal(features(model), frozen)
    assert list(model.state_dict()) == keys
    assert not any(parameter.requires_grad for parameter in model.parameters())


@EACH_TUNING
@pytest.mark.parametrize("towers", ["both", "image", "text"])
def test_the_weights_asked_for_learn_and_no_others(config, towers):
    model = make_host("CLIP ViT")
    bank = attach(model, config.model_copy(update={"towers": towers}))
    image, text = encode(model)
    loss = image.square().sum() + text.square().sum()
    loss.backward()
    learnt = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learnt == set(bank.sites) == set(bank.state())
    assert {name.startswith("visual.") for name in learnt} == {"both": {True, False}, "image": {True}, "text": {False}}[
        towers
    ]
    assert all(name.endswith("bias") for name in learnt) == (config.kind == "bias")
    assert bank.trained_parameters == sum(model.get_parameter(name).numel() for name in learnt)


def test_full_tuning_trains_all_but_the_scale_of_the_logits():
    model = make_host("CLIP ViT")
    bank = attach(model, FullTuningConfig())
    assert set(dict(model.named_parameters())) - set(bank.sites) == {"logit_scale"}


@EACH_TUNING
def test_a_tuned_state_survives_safetensors_and_another_is_refused(config):
    model, other = make_host("CLIP ViT"), make_host("CLIP ViT")
    bank, second = attach(model, config), attach(other, config)
    move_weights(bank)
    second.load(load(save(bank.state())))
    assert torch.equal(features(model), features(other))
    with pytest.raises(IntegrityError, match="nothing was loaded"):
        second.load({"visual.conv1.weight": torch.zeros(1)})


@EACH_TUNING
def test_weights_in_half_precision_are_not_tuned(config):
    with pytest.raises(ConfigError, match="precision to fp32"):
        attach(make_host("CLIP ViT").to(torch.bfloat16), config)
