"""OpenClipEncoder: any open_clip model, with its own transform, tokenizer, logit scale and bias."""

import difflib
import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from pydantic import JsonValue
from safetensors import SafetensorError
from torch import Tensor, nn
from torchvision.transforms import Compose, Normalize, ToTensor

from xmadapter.config.encode import EncoderSpec, OpenClipSpec
from xmadapter.encoders.configuration import CONFIG_FILE, check_preprocessing, read_configuration
from xmadapter.encoders.folding import fold_batch_norms
from xmadapter.encoders.hub import fetching, first_line, hash_files, hub_file
from xmadapter.encoders.precision import computing_dtype, exact_convolutions, move
from xmadapter.errors import ConfigError, MissingExtra, some
from xmadapter.fingerprint import fingerprint, sha256_file

try:
    import open_clip
    from open_clip import factory, pretrained, transform
except ImportError as error:
    raise MissingExtra(
        f"{error.name} is not installed, and open_clip models need it; pip install 'xmadapter[clip]'"
    ) from error

__all__ = ["OpenClipEncoder", "checkpoint_sha256", "settings_sha256", "image_size", "pixel_transform"]

_LOCAL, _HUB = "local-dir:", "hf-hub:"
_VOCABULARIES = (
    "tokenizer.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)
_TEXTS_AT_ONCE = 64  # bounds memory: a ViT-L text tower with 64 by 77 tokens needs about 0.5 GB


class OpenClipEncoder:
    """Run an open_clip model without gradients, on a GPU if this process sees one.

    On a CPU it computes in float32 whatever `precision` says. Batch norms are folded into the convolutions and those are put
    in channels-last order: 2 to 2.5 times faster for the embedded model on a CPU (benchmarks/encoder_folding.py), equal to 1e-5.

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
        self._dtype = computing_dtype(source.precision, self._device)
        self.dim = int(cast("int", _configuration(source)[0]["embed_dim"]))
        settings = _preprocessing(source)
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=self._device).view(1, 3, 1, 1)
            for values in (settings.mean, settings.std)
        )
        model = _load(source)
        # Before the cast: in bfloat16 a logit scale of 100 would be 98.9.
        self.logit_scale = float(cast("Tensor", model.logit_scale).exp().item())
        self.logit_bias = float(cast("Tensor", model.logit_bias).item()) if model.logit_bias is not None else 0.0
        self._layout = torch.channels_last if fold_batch_norms(cast("nn.Module", model.visual)) else None
        self.model = move(model, device=self._device, dtype=self._dtype)
        if self._layout:
            cast("nn.Module", self.model.visual).to(memory_format=self._layout)
        self._tokenizer = _tokenizer(source)

    @torch.inference_mode()
    def encode_image(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """Normalise pixels with the model's own mean and deviation, on the device, and encode them in one batch."""
        normalised = self.normalise(pixels)
        with exact_convolutions(self._device):
            # CoCa's encode_* normalise unless told not to; CLIP's do not.
            return self._rows(self.model.encode_image(normalised, normalize=False), len(pixels))  # pyright: ignore[reportCallIssue]  a module's attribute may be a tensor

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Encode texts with the model's own tokenizer, 64 at once."""
        rows = [torch.zeros(0, self.dim)]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            tokens = self.tokenize(texts[start : start + _TEXTS_AT_ONCE])
            rows.append(self._rows(self.model.encode_text(tokens, normalize=False), len(tokens)))  # pyright: ignore[reportCallIssue]  as above
        return torch.cat(rows)

    def normalise(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Bring pixels into the form `model.encode_image` takes, on its device and in its precision."""
        scaled = pixels.to(self._device).float().div(255)
        normalised = ((scaled - self._mean) / self._std).to(self._dtype)
        return normalised.contiguous(memory_format=self._layout) if self._layout else normalised

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "batch context"]:
        """Turn texts into the ids `model.encode_text` takes, on its device, padded to the model's context."""
        return self._tokenizer(list(texts)).to(self._device)

    def _rows(self, features: object, count: int) -> Float[Tensor, "batch dim"]:
        shape = tuple(features.shape) if isinstance(features, Tensor) else "several outputs"
        if not isinstance(features, Tensor) or shape != (count, self.dim):
            raise ConfigError(
                f"the encoder declares embed_dim {self.dim}, but a tower maps {count} inputs to {shape}; nothing was "
                "encoded. Correct embed_dim, the projection or the pooling in the model's configuration."
            )
        return features.float().cpu()


def checkpoint_sha256(spec: OpenClipSpec) -> str:
    """Hash the checkpoint file of a model, fetching it first where it is a tag or `hf-hub:`.

    Raises:
        ConfigError: There is no such model, tag or file, or it cannot be fetched.
    """
    _configuration(spec)
    return sha256_file(_checkpoint(spec))


def settings_sha256(spec: OpenClipSpec) -> str:
    """Hash what besides the weights decides the features: architecture, preprocessing, and the files of the text tower.

    Raises:
        ConfigError: There is no such model, or a file of its tokenizer cannot be fetched.
    """
    model, _ = _configuration(spec)
    text = cast("dict[str, JsonValue]", model["text_cfg"])
    tokenizer, tower = (str(text.get(key) or "") for key in ("hf_tokenizer_name", "hf_model_name"))
    if tokenizer and spec.model.startswith(
        _LOCAL
    ):  # open_clip then reads the tokenizer from the folder, whatever its name
        tokenizer = spec.model.removeprefix(_LOCAL)
    vocabulary = hash_files(tokenizer, _VOCABULARIES) if tokenizer else {}
    if tokenizer and not vocabulary:  # transformers would make up an empty tokenizer, to which all texts are alike
        raise ConfigError(
            f"{spec.model}: its tokenizer {tokenizer} holds none of {', '.join(_VOCABULARIES)} that can be had here; nothing "
            "was encoded. Put the tokenizer's files there, or go online once."
        )
    others = ((tokenizer, "tokenizer_config.json"), (tower, "config.json"))
    found = [hash_files(name, (file,)) for name, file in others if name]
    files: dict[str, JsonValue] = {name: sha256 for hashes in (vocabulary, *found) for name, sha256 in hashes.items()}
    preprocess = cast("dict[str, JsonValue]", asdict(_preprocessing(spec)))
    return fingerprint(
        {"model": model | {"quick_gelu": _quick_gelu(spec, model)}, "preprocess": preprocess, "files": files}
    )


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
    whole = cast("Compose", transform.image_transform_v2(_preprocessing(spec), is_train=False))
    return Compose([step for step in whole.transforms if not isinstance(step, ToTensor | Normalize)])


def _preprocessing(spec: OpenClipSpec) -> transform.PreprocessCfg:
    """What open_clip would apply: its defaults under the model's own values, with the tower's image size."""
    _, given = _configuration(spec)
    defaults = asdict(transform.PreprocessCfg())
    settings: dict[str, Any] = transform.merge_preprocess_dict(defaults, given | {"size": image_size(spec)})
    return transform.PreprocessCfg(**check_preprocessing(settings, name=spec.model))


def _configuration(spec: OpenClipSpec) -> tuple[dict[str, JsonValue], dict[str, JsonValue]]:
    """Configuration of the model and of its preprocessing, without weights."""
    if spec.model.startswith(_LOCAL):
        return read_configuration(Path(spec.model.removeprefix(_LOCAL)) / CONFIG_FILE)
    if spec.model.startswith(_HUB):
        repository = spec.model.removeprefix(_HUB)
        found = hub_file(repository, CONFIG_FILE)
        if found is None:
            raise ConfigError(f"{repository} holds no {CONFIG_FILE} that can be had here; name an open_clip repository")
        return read_configuration(found)
    model = open_clip.get_model_config(_architecture(spec))
    if model is None:
        near = difflib.get_close_matches(spec.model, open_clip.list_models(), n=3, cutoff=0.3)
        raise ConfigError(f"open_clip has no model {spec.model!r}; nearest: {', '.join(near) or 'none'}")
    return model, _tag(spec)


def _architecture(spec: OpenClipSpec) -> str:
    return spec.model if spec.model.startswith((_LOCAL, _HUB)) else spec.model.replace("/", "-")


def _tag(spec: OpenClipSpec) -> dict[str, Any]:
    """What open_clip knows of a tag: where its weights are, their preprocessing and activation; empty for a file."""
    return (
        {}
        if spec.model.startswith((_LOCAL, _HUB))
        else pretrained.get_pretrained_cfg(_architecture(spec), spec.pretrained or "")
    )


def _quick_gelu(spec: OpenClipSpec, model: dict[str, JsonValue]) -> bool:
    # The weights know which activation they were trained with; open_clip only warns where its architecture has another.
    return bool(model.get("quick_gelu") or _tag(spec).get("quick_gelu"))


def _checkpoint(spec: OpenClipSpec) -> Path:
    """The very file that open_clip will load."""
    if spec.model.startswith(_LOCAL):
        return _checkpoint_in(Path(spec.model.removeprefix(_LOCAL)))
    if spec.model.startswith(_HUB):
        with fetching(spec.model):
            return _checkpoint_in(Path(pretrained.download_pretrained_from_hf(spec.model.removeprefix(_HUB))).parent)
    if tag := _tag(spec):
        with fetching(f"{spec.model} ({spec.pretrained})"):
            return Path(pretrained.download_pretrained(tag))
    path = Path(spec.pretrained or "").expanduser()
    if not spec.pretrained or not path.is_file():
        tags = open_clip.list_pretrained_tags_by_model(_architecture(spec))
        named = f"{spec.pretrained!r} is neither a tag nor a file" if spec.pretrained else "`pretrained` is empty"
        raise ConfigError(
            f"{spec.model}: {named}; name a checkpoint file or one of the tags {some(tags) or '(there are none)'}"
        )
    return path


def _checkpoint_in(folder: Path) -> Path:
    found = factory._find_checkpoint_in_dir(folder)  # pyright: ignore[reportPrivateUsage]  its order of preference is not public
    if found is None:
        raise ConfigError(
            f"{folder} holds no .safetensors, .bin or .pth checkpoint; put the weights beside {CONFIG_FILE}"
        )
    return Path(found)


def _load(source: OpenClipSpec) -> nn.Module:
    """The model in float32 on the CPU, in `eval` mode."""
    path = _checkpoint(source)
    model, _ = _configuration(source)
    # A snapshot of the hub is a folder: read from there, the weights are those just hashed even if the hub moves on.
    schema = source.model.startswith((_LOCAL, _HUB))
    try:
        with _quiet():
            loaded = open_clip.create_model(
                f"{_LOCAL}{path.parent}" if schema else _architecture(source),
                pretrained=None if schema else source.pretrained if _tag(source) else str(path),
                force_quick_gelu=_quick_gelu(source, model),
                pretrained_text=False,
                require_pretrained=True,
            )
    except torch.OutOfMemoryError:
        raise
    except (
        RuntimeError,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        EOFError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise ConfigError(
            f"{path} cannot be loaded as {source.model}: {first_line(error)}; "
            "name the architecture it was saved from, or convert it to safetensors"
        ) from error
    return loaded.eval().requires_grad_(False)


def _tokenizer(source: OpenClipSpec) -> Callable[[list[str]], Tensor]:
    with fetching(f"the tokenizer of {source.model}"), _quiet():
        return cast("Callable[[list[str]], Tensor]", open_clip.get_tokenizer(_architecture(source)))


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
