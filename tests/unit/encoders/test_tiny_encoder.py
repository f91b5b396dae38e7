"""TinyEncoder: deterministic, never of norm zero, found by its hash."""

import subprocess
import sys

import pytest
import torch

from xmadapter.config.encode import TinySpec
from xmadapter.encoders import build_encoder, resolve_encoder
from xmadapter.errors import FingerprintMismatch

PIXELS = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TEXTS = ["a photo of a cat.", "a photo of a dog.", ""]


def test_features_are_float32_rows_of_the_width_asked_for():
    encoder = build_encoder(TinySpec(dim=17))
    for features, rows in ((encoder.encode_image(PIXELS), 5), (encoder.encode_text(TEXTS), 3)):
        assert features.shape == (rows, encoder.dim) == (rows, 17)
        assert features.dtype == torch.float32


@pytest.mark.parametrize("value", [0, 127, 128, 255])
def test_no_feature_has_norm_zero(value):
    encoder = build_encoder(TinySpec(dim=2))
    constant = torch.full((1, 3, 32, 32), value, dtype=torch.uint8)
    assert encoder.encode_image(constant).norm() > 0.2
    assert encoder.encode_text([""]).norm() > 0.2


def test_equal_specs_give_equal_features_and_other_seeds_others():
    first, again, other = (build_encoder(TinySpec(seed=seed)).encode_image(PIXELS) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_another_process_gives_equal_text_features():
    program = (
        "from xmadapter.encoders import build_encoder; from xmadapter.config.encode import TinySpec;"
        "print(build_encoder(TinySpec()).encode_text(['a cat'])[0, :5].tolist())"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert eval(other.stdout) == pytest.approx(build_encoder(TinySpec()).encode_text(["a cat"])[0, :5].tolist())


def test_no_images_and_no_texts_give_no_rows():
    encoder = build_encoder(TinySpec(dim=8))
    assert encoder.encode_text([]).shape == encoder.encode_image(PIXELS[:0]).shape == (0, 8)


def test_similar_pictures_get_similar_features():
    encoder = build_encoder(TinySpec())
    shades = torch.tensor([10, 20, 240], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 32, 32)
    dark, darkish, light = encoder.encode_image(shades)
    assert torch.cosine_similarity(dark, darkish, dim=0) > torch.cosine_similarity(dark, light, dim=0)


def test_resolving_fills_in_a_hash_of_width_and_seed():
    hashes = {resolve_encoder(spec).weights_sha256 for spec in (TinySpec(), TinySpec(seed=1), TinySpec(dim=8))}
    assert len(hashes) == 3
    resolved = resolve_encoder(TinySpec())
    assert build_encoder(TinySpec()).spec == resolved == resolve_encoder(resolved)


def test_recorded_weights_that_are_not_here_are_refused():
    with pytest.raises(FingerprintMismatch, match=f"{'0' * 64}.*{resolve_encoder(TinySpec()).weights_sha256}"):
        build_encoder(TinySpec(weights_sha256="0" * 64))
