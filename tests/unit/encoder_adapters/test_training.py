"""Adapters trained on pairs: from pixels through whole towers, and from cached tokens through the upper blocks."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from tests.unit.encoder_adapters.hosts import make_host, make_ids, make_pixels
from xmadapter.config import (
    BiasTuningConfig,
    ContrastiveConfig,
    CrossModalConfig,
    EncoderAdapterConfig,
    FullTuningConfig,
    LoraConfig,
    UniAdapterConfig,
)
from xmadapter.encoder_adapters import attach, image_features, image_tokens, text_features, text_tokens
from xmadapter.evaluation.retrieval import evaluate_retrieval
from xmadapter.training.contrastive import ContrastiveEpoch, cosine_logits, fit_contrastive

FIT = ContrastiveConfig(epochs=6, batch_size=8, learning_rate=0.01)
KINDS = [CrossModalConfig(), UniAdapterConfig(width=16), LoraConfig(), BiasTuningConfig(), FullTuningConfig()]


@dataclass
class PixelPairs:
    model: Any
    items: Tensor
    pixels: Tensor
    ids: Tensor

    def logits(self, rows: Tensor, /) -> Tensor:
        image = self.model.encode_image(self.pixels[self.items[rows]])
        return cosine_logits(self.model.encode_text(self.ids[rows]), image, logit_scale=20.0)


@dataclass
class TokenPairs:
    model: Any
    items: Tensor
    images: Tensor
    texts: Tensor
    lengths: Tensor

    def logits(self, rows: Tensor, /) -> Tensor:
        image = image_features(self.model, self.images[self.items[rows]], block=1)
        text = text_features(self.model, self.texts[rows], self.lengths[rows], block=1)
        return cosine_logits(text, image, logit_scale=20.0)


def make_pairs(model: Any, *, images: int = 12) -> PixelPairs:
    """Two texts for every image."""
    items = torch.arange(images).repeat(2)
    return PixelPairs(model, items, make_pixels(model, count=images), make_ids(model, count=len(items)))


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
def test_training_lifts_recall_and_leaves_the_encoder_as_it_was(config):
    model = make_host("CLIP ViT")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bank, pairs = attach(model, config), make_pairs(model)
    reports: list[ContrastiveEpoch] = []
    fit_contrastive(
        bank,
        pairs,
        FIT.model_copy(update={"epochs": 12, "learning_rate": 0.03}),
        on_epoch=lambda one, _: reports.append(one),
    )
    assert reports[-1].loss < 0.8 * reports[0].loss
    with torch.no_grad():
        text, image = model.encode_text(pairs.ids), model.encode_image(pairs.pixels)
        bank.detach()
        start = [model.encode_text(pairs.ids), model.encode_image(pairs.pixels)]
    assert (
        evaluate_retrieval(text, image, pairs.items).recall_sum
        > 100 + evaluate_retrieval(*start, pairs.items).recall_sum
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_cached_tokens_train_the_same_adapters_as_pixels():
    states = []
    for cached in (False, True):
        model = make_host("CLIP ViT")
        pairs = make_pairs(model)
        bank = attach(model, CrossModalConfig(first_block=1, dropout=0.1))
        if cached:
            images = image_tokens(model, pairs.pixels, block=bank.first_blocks["image"])
            texts, lengths = text_tokens(model, pairs.ids, block=bank.first_blocks["text"])
            fit_contrastive(bank, TokenPairs(model, pairs.items, images, texts, lengths), FIT)
        else:
            fit_contrastive(bank, pairs, FIT)
        states.append(bank.state())
    moved = attach(make_host("CLIP ViT"), CrossModalConfig(first_block=1)).state()
    for name in states[0]:
        # Products of shorter texts are summed in another order, and AdamW divides by small gradients.
        torch.testing.assert_close(states[0][name], states[1][name], atol=1e-3, rtol=0)
        assert (states[0][name] - moved[name]).abs().max() > 1e-2


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
def test_a_config_is_read_back_as_it_was_written(config):
    reader = TypeAdapter[Any](EncoderAdapterConfig)
    assert reader.validate_json(config.model_dump_json()) == config
    with pytest.raises(ValueError, match="Extra inputs"):
        reader.validate_python(config.model_dump() | {"more": 1})
