"""Small random open_clip models of every family that can host adapters, and inputs for them."""

import copy
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from transformers import MT5Config

from tests.unit.encoders.zoo import FAMILIES, TEXT, VIT, VOCABULARY, Family, _hf, _timm, make_family

_T5 = MT5Config(
    vocab_size=len(VOCABULARY),
    d_model=32,
    d_kv=16,
    d_ff=64,
    num_layers=2,
    num_heads=2,
    pad_token_id=0,
    dropout_rate=0.1,
)
# The decoder attends to pooled image tokens, which have the width of the joint space: that has to be its own.
_COCA = FAMILIES["CoCa"].model | {"embed_dim": 32}
MORE: dict[str, Family] = {
    "deeper images": Family({"embed_dim": 24, "vision_cfg": VIT | {"layers": 4}, "text_cfg": TEXT}),
    "wider images": Family({"embed_dim": 24, "vision_cfg": VIT | {"width": 48}, "text_cfg": TEXT}),
    "ViT with drop-path": Family(
        {
            "embed_dim": 24,
            "vision_cfg": _timm("test_vit", 160, timm_pool="token", timm_proj="linear", timm_drop_path=0.5),
            "text_cfg": TEXT,
            "custom_text": True,
        }
    ),
    "texts both ways": Family(
        {
            "embed_dim": 24,
            "vision_cfg": VIT,
            "text_cfg": TEXT | {"no_causal_mask": True, "pool_type": "last"},
            "custom_text": True,
        }
    ),
    "end by its id": Family(
        {
            "embed_dim": 24,
            "vision_cfg": VIT,
            "text_cfg": TEXT | {"pool_type": "eos", "eos_id": 49407, "proj_bias": True},
            "custom_text": True,
        }
    ),
    "mT5": Family(
        {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": _hf(hf_proj_type="mlp", hf_pooler_type="mean_pooler")},
        tower=_T5,  # type: ignore[arg-type]
    ),
    "images without blocks, BERT": Family(
        {
            "embed_dim": 24,
            "vision_cfg": _timm("test_convnext", 160, timm_pool="avg", timm_proj="linear"),
            "text_cfg": _hf(hf_proj_type="linear", hf_pooler_type="mean_pooler"),
        },
        tower=FAMILIES["BERT"].tower,
    ),
    "BERT by its first token": Family(
        {
            "embed_dim": 24,
            "vision_cfg": VIT,
            "text_cfg": _hf(hf_proj_type="mlp", hf_pooler_type="cls_last_hidden_state_pooler"),
        },
        tower=FAMILIES["BERT"].tower,
    ),
    "decoding CoCa": Family(_COCA),
    "wide CoCa": Family(_COCA | {"vision_cfg": _COCA["vision_cfg"] | {"width": 48}}),
}
HOSTS = (
    "CLIP ViT",
    "CustomTextCLIP",
    "SigLIP",
    "EVA",
    "BERT",
    "RoBERTa",
    "CoCa",
    "qk-norm and LayerScale",
    "wide images, long texts",
    *(name for name in MORE if name != "images without blocks, BERT"),
)


@cache
def _built(name: str) -> nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        path = make_family(Path(folder) / "model", (FAMILIES | MORE)[name])
        model: Any = open_clip.create_model(f"local-dir:{path}", pretrained_text=False).eval().requires_grad_(False)
    trunk = getattr(model.visual, "trunk", None)
    if hasattr(trunk, "blocks"):
        trunk.blocks = trunk.blocks[:3]  # a test learns nothing from nine more
    return model


def make_host(name: str) -> Any:
    """A model of its own for each test, as hooks and weights are changed."""
    return copy.deepcopy(_built(name))


def make_pixels(model: Any, *, count: int = 3, seed: int = 0) -> Tensor:
    size = model.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def make_ids(model: Any, *, count: int = 3, seed: int = 0) -> Tensor:
    """Token ids with an end in each row, where CLIP looks for it: the largest id; and padding behind it."""
    tower = getattr(model, "text", model)
    length = 12 if hasattr(tower, "config") else tower.context_length
    last = tower.vocab_size - 1
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, last, (count, length), generator=generator)
    for row, end in enumerate(torch.randint(2, length, (count,), generator=generator).tolist()):
        ids[row, end], ids[row, end + 1 :] = last, 0
    return ids


def encode(model: Any, *, count: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Image and text features, not normalised."""
    image = model.encode_image(make_pixels(model, count=count, seed=seed), normalize=False)
    return image, model.encode_text(make_ids(model, count=count, seed=seed), normalize=False)
