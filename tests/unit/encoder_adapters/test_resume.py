"""Starting a tower at block L: the numbers of the whole tower, from tokens that are computed once."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.encoder_adapters.hosts import make_host, make_ids, make_pixels
from tests.unit.encoder_adapters.test_cross_modal import move_weights
from xmadapter.config import CrossModalConfig, LoraConfig, UniAdapterConfig
from xmadapter.encoder_adapters import (
    AdapterBank,
    attach,
    check_resumable,
    checkpoint_gradients,
    image_features,
    image_tokens,
    text_features,
    text_tokens,
)
from xmadapter.errors import ConfigError

OWN_TEXT = ["CLIP ViT", "CustomTextCLIP", "qk-norm and LayerScale", "wide images, long texts", "end by its id"]
BERT_LIKE = ["BERT", "RoBERTa", "BERT by its first token"]
RESUMABLE = pytest.mark.parametrize("host", OWN_TEXT + BERT_LIKE)


def full_ids(model: Any) -> Tensor:
    """Ids of which one text fills the context, so that a batch has the shape it has in the whole tower."""
    ids = make_ids(model)
    ids[0] = ids[0].clamp(1, ids.max() - 1)
    ids[0, -1] = ids.max()
    return ids


def make_top(host: str) -> tuple[Any, AdapterBank]:
    model = make_host(host)
    check_resumable(model, "image")
    check_resumable(model, "text")
    return model, move_weights(attach(model, CrossModalConfig(first_block=1)))


def resumed(model: Any, pixels: Tensor, ids: Tensor, *, block: int) -> tuple[Tensor, Tensor]:
    image = image_features(model, image_tokens(model, pixels, block=block), block=block)
    return image, text_features(model, *text_tokens(model, ids, block=block), block=block)


@RESUMABLE
@pytest.mark.parametrize("block", [0, 1])
def test_features_are_bitwise_those_of_the_whole_tower(host, block):
    model, _ = make_top(host)
    pixels, ids = make_pixels(model), full_ids(model)
    with torch.no_grad():
        image, text = resumed(model, pixels, ids, block=block)
        assert torch.equal(image, model.encode_image(pixels, normalize=False))
        assert torch.equal(text, model.encode_text(ids, normalize=False))


@pytest.mark.parametrize("host", ["CLIP ViT", "BERT"])
@pytest.mark.parametrize(
    "config", [UniAdapterConfig(width=16, first_block=1), LoraConfig(first_block=1)], ids=lambda config: config.kind
)
def test_other_adapters_act_in_the_upper_blocks_too(host, config):
    model = make_host(host)
    bank = move_weights(attach(model, config))
    pixels, ids = make_pixels(model), full_ids(model)
    with torch.no_grad():
        features = resumed(model, pixels, ids, block=1)
        assert torch.equal(features[0], model.encode_image(pixels, normalize=False))
        assert torch.equal(features[1], model.encode_text(ids, normalize=False))
        bank.enabled = False
        frozen = resumed(model, pixels, ids, block=1)
    assert min((one - other).abs().max() for one, other in zip(features, frozen, strict=True)) > 1e-3


@RESUMABLE
def test_gradients_are_those_of_the_whole_tower(host):
    model, bank = make_top(host)
    pixels, ids = make_pixels(model), full_ids(model)
    gradients = []
    for image, text in (
        resumed(model, pixels, ids, block=1),
        (model.encode_image(pixels, normalize=False), model.encode_text(ids, normalize=False)),
    ):
        loss = image.square().sum() + text.square().sum()
        gradients.append(torch.autograd.grad(loss, list(bank.parameters())))
    assert all(map(torch.equal, *gradients))
    assert all(one.abs().max() > 0 for one in gradients[0])


@RESUMABLE
def test_tokens_up_to_the_end_give_the_features_of_the_padded_text(host):
    model, _ = make_top(host)
    ids = make_ids(model, count=6)
    with torch.no_grad():
        tokens, lengths = text_tokens(model, ids, block=1)
        features = text_features(model, tokens, lengths, block=1)
        expected = model.encode_text(ids, normalize=False)
    last = ids.argmax(dim=-1)
    assert lengths.tolist() == (last + 1).tolist()
    assert tokens.shape[1] == int(last.max()) + 1
    # Products of fewer rows are summed in another order.
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)


@RESUMABLE
def test_what_stands_behind_the_end_has_no_effect(host):
    model, _ = make_top(host)
    with torch.no_grad():
        tokens, lengths = text_tokens(model, make_ids(model, count=6), block=1)
        spoilt = tokens.clone()
        for row, length in enumerate(lengths.tolist()):
            spoilt[row, length:] = 1e3
        features = [text_features(model, one, lengths, block=1) for one in (tokens, spoilt)]
    assert not torch.equal(tokens, spoilt)
    assert torch.equal(*features)


def test_the_blocks_of_the_model_itself_are_all_still_there():
    model, _ = make_top("CLIP ViT")
    keys = list(model.state_dict())
    resumed(model, make_pixels(model), make_ids(model), block=1)
    assert list(model.state_dict()) == keys
    assert len(model.visual.transformer.resblocks) == len(model.transformer.resblocks) == 2


def test_gradient_checkpointing_holds_in_the_upper_blocks_too():
    gradients = []
    for prepare in (lambda _: None, checkpoint_gradients):
        model, bank = make_top("CustomTextCLIP")
        prepare(model)
        image, text = resumed(model, make_pixels(model), full_ids(model), block=1)
        gradients.append(torch.autograd.grad((image.sum() + text.square().sum()), list(bank.parameters())))
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize("host", BERT_LIKE)
def test_a_bert_like_tower_goes_on_to_the_same_features_however_its_texts_are_padded(host):
    model, _ = make_top(host)
    ids = make_ids(model, count=6)
    ids[:, 9:] = 0
    padded = torch.nn.functional.pad(ids, (0, 6))
    with torch.no_grad():
        one, other = (text_tokens(model, some, block=1) for some in (ids, padded))
        assert all(map(torch.equal, one, other))
        # With padding behind the longest text, as in a batch of others.
        wide = torch.nn.functional.pad(one[0], (0, 0, 0, 5))
        features = [text_features(model, tokens, one[1], block=1) for tokens in (one[0], wide)]
        features += [model.encode_text(some) for some in (ids, padded)]
    for other_features in features[1:]:
        torch.testing.assert_close(features[0], other_features, atol=1e-5, rtol=1e-5)  # sums in another order


def test_a_text_tower_starts_at_a_block_beside_an_image_tower_that_cannot():
    model = make_host("images without blocks, BERT")
    with pytest.raises(ConfigError, match="image tower is not open_clip's own ViT"):
        check_resumable(model, "image")
    check_resumable(model, "text")
    bank = move_weights(attach(model, CrossModalConfig(first_block=1, towers="text", shared=0)))
    ids = full_ids(model)
    with torch.no_grad():
        adapted = text_features(model, *text_tokens(model, ids, block=1), block=1)
        assert torch.equal(adapted, model.encode_text(ids))
        bank.enabled = False
        assert (adapted - model.encode_text(ids)).abs().max() > 0.1


def test_an_image_tower_starts_at_a_block_beside_a_text_tower_that_cannot():
    model = make_host("CoCa")
    check_resumable(model, "image")
    move_weights(attach(model, CrossModalConfig(first_block=1)))
    pixels = make_pixels(model)
    with torch.no_grad():
        features = image_features(model, image_tokens(model, pixels, block=1), block=1)
        assert torch.equal(features, model.encode_image(pixels, normalize=False))


def test_padding_before_the_end_of_a_text_is_refused():
    model = make_host("BERT")
    ids = make_ids(model)
    ids[1, 0] = 0
    with pytest.raises(ConfigError, match="padding before its end"):
        text_tokens(model, ids, block=1)


@pytest.mark.parametrize(
    ("host", "tower", "reason"),
    [
        ("SigLIP", "image", "image tower is not open_clip's own ViT"),
        ("CLIP ResNet", "image", "image tower is not open_clip's own ViT"),
        ("mT5", "text", "neither open_clip's own nor BERT-like"),
        ("CoCa", "text", "appends a class token"),
        ("SigLIP", "text", "attends to padding"),
        ("texts both ways", "text", "attends to padding"),
    ],
)
def test_other_towers_are_refused_with_the_reason(host, tower, reason):
    with pytest.raises(ConfigError, match=reason):
        check_resumable(make_host(host), tower)
