"""OpenClipEncoder: any open_clip model, with its own transform, tokenizer and logit scale."""

import difflib
import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from pydantic import JsonValue
from safetensors import SafetensorError
from torch import Tensor, nn
from torchvision.transforms import Compose, Normalize, ToTensor

from xmadapter.config.encode import EncoderSpec, OpenClipSpec
from xmadapter.encoders.folding import fold_batch_norms
from xmadapter.errors import ConfigError, IntegrityError, MissingExtra, some
from xmadapter.fingerprint import sha256_file
from xmadapter.strict import parse_json

try:
    import open_clip
    from open_clip import factory, pretrained, transform
except ImportError as error:
    raise MissingExtra(
        f"{error.name} is not installed, and open_clip models need it; pip install 'xmadapter[clip]'"
    ) from error

__all__ = ["OpenClipEncoder", "checkpoint_sha256", "image_size", "pixel_transform"]

_CONFIG_FILE = "open_clip_config.json"
_LOCAL, _HUB = "local-dir:", "hf-hub:"
_TEXTS_AT_ONCE = 64  # bounds memory: a ViT-L text tower with 64 by 77 tokens needs about 0.5 GB


class OpenClipEncoder:
    """Run an open_clip model without gradients, on a GPU if this process sees one.

    On a CPU it computes in float32 whatever `precision` says, with batch norms folded into the convolutions and those in
    channels-last order: 2 to 2.5 times faster for the embedded model (benchmarks/encoder_folding.py), equal to 1e-5.

    Args:
        spec: What the features are recorded under, resolved.
        source: The model to load, where it is not `spec` itself: the embedded model is an open_clip folder underneath.

    Attributes:
        model: The open_clip module, in `eval` mode. Encoder-level adapters hook it.

    Raises:
        ConfigError: There is no such model or checkpoint, or they do not fit each other.
    """

    def __init__(self, spec: EncoderSpec, source: OpenClipSpec | None = None) -> None:
        if source is None:
            if not isinstance(spec, OpenClipSpec):
                raise ConfigError(f"an encoder of kind {spec.kind} needs a source: the open_clip model to load")
            source = spec
        self.spec = spec
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        precision = "fp32" if self._device.type == "cpu" else source.precision
        self.dim = int(cast("int", _configuration(source)[0]["embed_dim"]))
        self.model = _load(source, precision=precision, device=self._device)
        with _quiet():
            self._tokenizer = cast("Callable[[list[str]], Tensor]", open_clip.get_tokenizer(source.model))
        self.logit_scale = float(cast("Tensor", self.model.logit_scale).float().exp().item())
        self._dtype: torch.dtype = open_clip.get_input_dtype(precision) or torch.float32
        shape = cast("dict[str, Any]", open_clip.get_model_preprocess_cfg(self.model))
        self._mean, self._std = (
            torch.tensor(shape[key], device=self._device).view(1, 3, 1, 1) for key in ("mean", "std")
        )
        self._layout = torch.contiguous_format
        if self._device.type == "cpu" and fold_batch_norms(cast("nn.Module", self.model.visual)):
            self._layout = torch.channels_last
            cast("nn.Module", self.model.visual).to(memory_format=self._layout)

    @torch.inference_mode()
    def encode_image(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """Normalise pixels with the model's own mean and deviation, on the device, and encode them in one batch."""
        scaled = pixels.to(self._device).float().div(255)
        normalised = (scaled - self._mean) / self._std
        features = self.model.encode_image(  # pyright: ignore[reportCallIssue]  as above
            normalised.to(dtype=self._dtype, memory_format=self._layout), normalize=False
        )
        return features.float().cpu()

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Encode texts with the model's own tokenizer, 64 at once."""
        rows = [torch.zeros(0, self.dim)]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            tokens = self._tokenizer(list(texts[start : start + _TEXTS_AT_ONCE])).to(self._device)
            # CoCa's encode_* normalise unless told not to; CLIP's do not.
            rows.append(self.model.encode_text(tokens, normalize=False).float().cpu())  # pyright: ignore[reportCallIssue]  as above
        return torch.cat(rows)


def checkpoint_sha256(spec: OpenClipSpec) -> str:
    """Hash the checkpoint file of a model, fetching it first where it is a tag or `hf-hub:`.

    Raises:
        ConfigError: There is no such model, tag or file, or it cannot be fetched.
    """
    _configuration(spec)
    return sha256_file(_checkpoint(spec))


def image_size(spec: OpenClipSpec) -> tuple[int, int]:
    """Height and width that the image tower takes."""
    model, _ = _configuration(spec)
    match cast("dict[str, JsonValue]", model["vision_cfg"]).get("image_size", 224):
        case [int(height), int(width)]:
            return height, width
        case int(side):
            return side, side
        case other:
            raise ConfigError(f"{spec.model}: image_size is {other!r}, neither a number nor a pair of numbers")


def pixel_transform(spec: OpenClipSpec) -> Callable[[Image.Image], Image.Image]:
    """The model's test transform as far as the result is still an image: resize and crop."""
    _, preprocess = _configuration(spec)
    settings = transform.merge_preprocess_dict(
        asdict(transform.PreprocessCfg()), preprocess | {"size": image_size(spec)}
    )
    whole = cast("Compose", transform.image_transform_v2(transform.PreprocessCfg(**settings), is_train=False))
    return Compose([step for step in whole.transforms if not isinstance(step, ToTensor | Normalize)])


def _configuration(spec: OpenClipSpec) -> tuple[dict[str, JsonValue], dict[str, JsonValue]]:
    """Configuration of the model and of its preprocessing, without weights."""
    if spec.model.startswith(_LOCAL):
        return _read_configuration(Path(spec.model.removeprefix(_LOCAL)) / _CONFIG_FILE)
    if spec.model.startswith(_HUB):
        from huggingface_hub import hf_hub_download

        with _fetching(spec):
            return _read_configuration(Path(hf_hub_download(spec.model.removeprefix(_HUB), _CONFIG_FILE)))
    model = open_clip.get_model_config(spec.model.replace("/", "-"))
    if model is None:
        near = difflib.get_close_matches(spec.model, open_clip.list_models(), n=3, cutoff=0.3)
        raise ConfigError(f"open_clip has no model {spec.model!r}; nearest: {', '.join(near) or 'none'}")
    return model, pretrained.get_pretrained_cfg(spec.model.replace("/", "-"), spec.pretrained or "")


def _read_configuration(path: Path) -> tuple[dict[str, JsonValue], dict[str, JsonValue]]:
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}; local-dir: names a folder that holds {_CONFIG_FILE}"
        ) from error
    except (IntegrityError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    match value:
        case {"model_cfg": {"embed_dim": int(), "vision_cfg": dict(), "text_cfg": dict()} as model}:
            return model, cast("dict[str, JsonValue]", value.get("preprocess_cfg", {}))
        case _:
            raise ConfigError(f"{path}: needs model_cfg with embed_dim, vision_cfg and text_cfg")


def _checkpoint(spec: OpenClipSpec) -> Path:
    """The very file that open_clip will load."""
    if spec.model.startswith(_LOCAL):
        folder = Path(spec.model.removeprefix(_LOCAL))
        found = factory._find_checkpoint_in_dir(folder)  # pyright: ignore[reportPrivateUsage]  its order of preference is not public
        if found is None:
            raise ConfigError(
                f"{folder} holds no .safetensors, .bin or .pth checkpoint; put the weights beside {_CONFIG_FILE}"
            )
        return Path(found)
    if spec.model.startswith(_HUB):
        with _fetching(spec):
            return Path(pretrained.download_pretrained_from_hf(spec.model.removeprefix(_HUB)))
    if tag := pretrained.get_pretrained_cfg(spec.model.replace("/", "-"), spec.pretrained or ""):
        with _fetching(spec):
            return Path(pretrained.download_pretrained(tag))
    path = Path(spec.pretrained or "").expanduser()
    if not spec.pretrained or not path.is_file():
        tags = open_clip.list_pretrained_tags_by_model(spec.model.replace("/", "-"))
        named = f"{spec.pretrained!r} is neither a tag nor a file" if spec.pretrained else "`pretrained` is empty"
        raise ConfigError(
            f"{spec.model}: {named}; name a checkpoint file or one of the tags {some(tags) or '(there are none)'}"
        )
    return path


@contextmanager
def _fetching(spec: OpenClipSpec) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{spec.model} ({spec.pretrained}) could not be fetched: {_first_line(error)}; "
            "check the name and the connection, or give a checkpoint file"
        ) from error


def _load(source: OpenClipSpec, *, precision: str, device: torch.device) -> nn.Module:
    path = _checkpoint(source)
    is_tag = bool(pretrained.get_pretrained_cfg(source.model.replace("/", "-"), source.pretrained or ""))
    schema = source.model.startswith((_LOCAL, _HUB))
    try:
        with _quiet():
            model = open_clip.create_model(
                source.model,
                # A tag also decides mean, deviation and activation; a schema brings its own weights.
                pretrained=None if schema else source.pretrained if is_tag else str(path),
                precision=precision,
                device=device,
                pretrained_text=False,
                require_pretrained=True,
            )
    except torch.OutOfMemoryError:
        raise
    except (
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        AssertionError,
        EOFError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise ConfigError(
            f"{path} cannot be loaded as {source.model}: {_first_line(error)}; "
            "name the architecture it was saved from, or convert it to safetensors"
        ) from error
    return model.eval().requires_grad_(False)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip's progress notes off the terminal, and its handler off the root logger."""
    before, handlers = logging.root.manager.disable, logging.root.handlers[:]
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        logging.root.handlers[:] = handlers
