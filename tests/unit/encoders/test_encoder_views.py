"""Views: the test view is what it says, augmented views are a function of image and seed."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from xmadapter.config.encode import EmbeddedSpec, ImageConfig, TinySpec
from xmadapter.encoders import build_augment, build_preprocess

PLAIN, INVERTED = ImageConfig(), ImageConfig(invert=True)


def picture(width: int = 60, height: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize(("spec", "size"), [(TinySpec(), 32), (EmbeddedSpec(), 224)])
def test_every_view_is_bytes_of_the_models_size(spec, size):
    for view in (build_preprocess(spec, PLAIN)(picture()), build_augment(spec, PLAIN)(picture(), 7)):
        assert view.shape == (3, size, size)
        assert view.dtype == torch.uint8


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_every_image_mode_becomes_three_channels(mode):
    assert build_preprocess(TinySpec(), INVERTED)(picture().convert(mode)).shape == (3, 32, 32)


def test_invert_is_255_minus_each_value():
    square = picture(32, 32)
    plain, inverted = (build_preprocess(TinySpec(), config)(square) for config in (PLAIN, INVERTED))
    assert torch.equal(plain.int() + inverted.int(), torch.full_like(plain, 255).int())


def test_the_test_view_keeps_the_centre():
    image = Image.new("RGB", (96, 32))
    image.paste((255, 0, 0), (32, 0, 64, 32))
    assert torch.equal(build_preprocess(TinySpec(), PLAIN)(image)[0], torch.full((32, 32), 255, dtype=torch.uint8))


def test_an_augmented_view_depends_on_its_seed_alone():
    augment = build_augment(TinySpec(), PLAIN)
    first = augment(picture(), 3)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert torch.equal(augment(picture(), 3), first)
    assert len({augment(picture(), seed).numpy().tobytes() for seed in range(20)}) == 20


def test_an_augmented_view_leaves_global_generators_alone():
    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    build_augment(TinySpec(), PLAIN)(picture(), 3)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tobytes() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_another_process_makes_the_same_augmented_view():
    program = (
        "import numpy as np; from PIL import Image; from xmadapter.encoders import build_augment;"
        "from xmadapter.config.encode import TinySpec, ImageConfig;"
        "image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8));"
        "print(build_augment(TinySpec(), ImageConfig())(image, 11).numpy().tobytes().hex())"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == build_augment(TinySpec(), PLAIN)(picture(), 11).numpy().tobytes().hex()


def test_about_half_of_the_views_are_flipped():
    ramp = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[:, None] * 4, (64, 1, 1)).reshape(64, 64), "L")
    views = [build_augment(TinySpec(), PLAIN)(ramp, seed).float() for seed in range(200)]
    flipped = sum(bool(view[:, :, 0].mean() > view[:, :, -1].mean()) for view in views)
    assert 70 <= flipped <= 130  # four standard deviations around 100


@pytest.mark.parametrize("size", [(1, 1), (500, 3), (3, 500)])
def test_odd_shapes_give_views_too(size):
    assert build_augment(TinySpec(), PLAIN)(picture(*size), 0).shape == (3, 32, 32)
