"""OpenClipEncoder on a random two-layer model: the same numbers as open_clip itself, and errors that say what to do."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xmadapter.config.encode import ImageConfig, OpenClipSpec
from xmadapter.encoders import build_augment, build_encoder, build_preprocess, resolve_encoder
from xmadapter.errors import ConfigError, FingerprintMismatch
from xmadapter.fingerprint import sha256_file

open_clip = pytest.importorskip("open_clip")
safetensors_torch = pytest.importorskip("safetensors.torch")

TEXT = {"width": 64, "heads": 2, "layers": 2, "context_length": 16, "vocab_size": 49408}
SMALL = {"embed_dim": 24, "vision_cfg": {"width": 64, "layers": 2, "image_size": 32, "patch_size": 8}, "text_cfg": TEXT}
CONVOLUTIONAL = SMALL | {"vision_cfg": {"width": 16, "layers": [1, 1, 1, 1], "image_size": 64, "head_width": 64}}
COCA = SMALL | {
    "vision_cfg": SMALL["vision_cfg"] | {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
    "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True},
    "multimodal_cfg": TEXT | {"context_length": 16, "attn_pooler_heads": 2},
    "custom_text": True,
}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
TEXTS = ["a photo of a cat.", "a photo of a dog, " * 30]


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


def make_model(folder: Path, config: dict) -> Path:
    """Write a random model as an open_clip folder; its name is that of the folder."""
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": MEAN, "std": STD}})
    )
    (folder.parent / f"{folder.name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder.parent / f"{folder.name}.json")
    torch.manual_seed(0)
    state = open_clip.create_model(folder.name).state_dict()
    safetensors_torch.save_file(
        {name: tensor.contiguous() for name, tensor in state.items()}, folder / "open_clip_model.safetensors"
    )
    torch.save(state, folder.parent / f"{folder.name}.pt")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "small-clip", SMALL)


@pytest.mark.parametrize(
    ("name", "config"), [("small-vit", SMALL), ("small-resnet", CONVOLUTIONAL), ("small-coca", COCA)]
)
def test_features_equal_those_of_open_clip(tmp_path, name, config):
    model = f"local-dir:{make_model(tmp_path / name, config)}"
    spec, tokenizer = OpenClipSpec(model=model), open_clip.get_tokenizer(model)
    reference, _, preprocess = open_clip.create_model_and_transforms(model)
    encoder, pixels = build_encoder(spec), build_preprocess(spec, ImageConfig())(picture())
    with torch.no_grad():
        image = reference.eval().encode_image(preprocess(picture())[None], normalize=False)
        text = reference.encode_text(tokenizer(TEXTS), normalize=False)
    # Bytes are normalised here in another order than in open_clip; 1e-5 is some tens of float32 roundings.
    torch.testing.assert_close(encoder.encode_image(pixels[None]), image, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoder.encode_text(TEXTS), text, atol=1e-5, rtol=1e-5)
    assert encoder.dim == image.shape[1] == 24
    assert encoder.logit_scale == pytest.approx(reference.logit_scale.exp().item())


@pytest.mark.parametrize("ending", [".pt", "/open_clip_model.safetensors"])
def test_a_model_name_with_a_checkpoint_file_gives_the_same_model(small, ending):
    by_folder = build_encoder(OpenClipSpec(model=f"local-dir:{small}"))
    by_file = build_encoder(OpenClipSpec(model="small-clip", pretrained=f"{small}{ending}"))
    assert torch.equal(by_folder.encode_text(TEXTS), by_file.encode_text(TEXTS))
    assert by_file.spec.weights_sha256 == sha256_file(Path(f"{small}{ending}"))


def test_views_have_the_models_size(small):
    spec = OpenClipSpec(model=f"local-dir:{small}")
    for view in (build_preprocess(spec, ImageConfig())(picture()), build_augment(spec, ImageConfig())(picture(), 1)):
        assert view.shape == (3, 32, 32)
        assert view.dtype == torch.uint8


def test_many_texts_equal_few_at_a_time(small):
    encoder = build_encoder(OpenClipSpec(model=f"local-dir:{small}"))
    texts = [f"a photo of number {number}." for number in range(70)]
    few = torch.cat([encoder.encode_text([text]) for text in texts])
    torch.testing.assert_close(encoder.encode_text(texts), few, atol=1e-5, rtol=1e-5)  # other batches, other rounding
    assert encoder.encode_text([]).shape == (0, 24)


def test_half_precision_is_computed_in_float32_on_a_cpu(small):
    if torch.cuda.is_available():
        pytest.skip("this process sees a GPU")
    exact, half = (
        build_encoder(OpenClipSpec(model=f"local-dir:{small}", precision=precision)) for precision in ("fp32", "fp16")
    )
    assert torch.equal(exact.encode_text(TEXTS), half.encode_text(TEXTS))


def test_recorded_weights_that_are_not_here_are_refused(small):
    with pytest.raises(FingerprintMismatch, match="0{64}.*" + sha256_file(small / "open_clip_model.safetensors")):
        resolve_encoder(OpenClipSpec(model=f"local-dir:{small}", weights_sha256="0" * 64))


def test_resolving_builds_no_model(small, monkeypatch):
    monkeypatch.setattr(open_clip, "create_model", None)
    assert resolve_encoder(OpenClipSpec(model=f"local-dir:{small}")).weights_sha256


def test_building_leaves_logging_as_it_was(small, capsys):
    before = logging.root.handlers[:], logging.root.manager.disable
    build_encoder(OpenClipSpec(model=f"local-dir:{small}"))
    assert (logging.root.handlers, logging.root.manager.disable) == before
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (OpenClipSpec(model="ViT-B-23", pretrained="openai"), "no model 'ViT-B-23'; nearest: ViT-B-32"),
        (
            OpenClipSpec(model="ViT-B-32", pretrained="nowhere.pt"),
            "'nowhere.pt' is neither a tag nor a file.*one of the tags",
        ),
        (OpenClipSpec(model="ViT-B-32"), "`pretrained` is empty"),
        (OpenClipSpec(model="local-dir:nowhere"), "cannot read nowhere.*local-dir: names a folder"),
    ],
)
def test_what_is_not_there_is_named_in_one_line(spec, message):
    with pytest.raises(ConfigError, match=message) as caught:
        resolve_encoder(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_cfg": {}}', '{"model_cfg": {"embed_dim": "wide"}}'])
def test_a_folder_with_a_wrong_config_is_refused(tmp_path, content):
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"open_clip_config\.json"):
        build_preprocess(OpenClipSpec(model=f"local-dir:{tmp_path}"), ImageConfig())


def test_a_folder_without_weights_is_refused(small, tmp_path):
    (tmp_path / "open_clip_config.json").write_bytes((small / "open_clip_config.json").read_bytes())
    with pytest.raises(ConfigError, match=r"holds no \.safetensors"):
        build_encoder(OpenClipSpec(model=f"local-dir:{tmp_path}"))


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_damaged_checkpoint_is_refused(tmp_path, small, ending):
    damaged = tmp_path / f"damaged{ending}"
    damaged.write_bytes(b"not weights at all" * 100)
    with pytest.raises(ConfigError, match="cannot be loaded as small-clip") as caught:
        build_encoder(OpenClipSpec(model="small-clip", pretrained=str(damaged)))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_architecture_is_refused(small):
    with pytest.raises(ConfigError, match="cannot be loaded as ViT-B-32"):
        build_encoder(OpenClipSpec(model="ViT-B-32", pretrained=str(small / "open_clip_model.safetensors")))
