"""What an encoder is, and how a config value becomes one.

Specs travel between processes, encoders do not: each process builds its own. The modules behind a spec are imported only
when it is built, so that Tiny needs neither open_clip nor transformers, and who builds none does not wait for torchvision.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn

from xmadapter.config.encode import EmbeddedSpec, EncoderSpec, ImageConfig, OpenClipSpec, TinySpec
from xmadapter.errors import FingerprintMismatch

__all__ = ["ImageTextEncoder", "TowerEncoder", "build_augment", "build_encoder", "build_preprocess", "resolve_encoder"]


@runtime_checkable
class ImageTextEncoder(Protocol):
    """Maps images and texts into one space, without gradients.

    Features are float32 on the CPU and *not* normalised: their norm is stored beside the direction. Rows depend on the batch
    they are in only in the last bits. Not safe to share between threads.

    Attributes:
        spec: What was built, with its hashes filled in.
        dim: Width of the joint space.
        logit_scale: Multiplier from cosine to logit (about 30 or 100), not its logarithm.
        logit_bias: Added to every logit by models trained with a sigmoid loss (about -10 to -17), else 0. It decides whether
            one pair matches: sigmoid(logit_scale · cosine + logit_bias). Choosing among classes needs no bias, since neither
            softmax nor argmax changes when every logit does by the same amount.
    """

    spec: EncoderSpec
    dim: int
    logit_scale: float
    logit_bias: float

    def encode_image(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """Encode pixels in [0, 255], as `build_preprocess` makes them; normalisation happens here, on the device."""
        ...

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Encode texts; what is longer than the model's context is cut off."""
        ...


@runtime_checkable
class TowerEncoder(ImageTextEncoder, Protocol):
    """An encoder whose towers can be entered, to train what is put inside.

    Attributes:
        model: An open_clip module; its `encode_image` and `encode_text` take what the methods below give, with gradients.
    """

    model: nn.Module

    def normalise(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Bring pixels into the form the image tower takes, on its device."""
        ...

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "batch context"]:
        """Turn texts into the ids the text tower takes, on its device."""
        ...


def resolve_encoder(spec: EncoderSpec) -> EncoderSpec:
    """Find the weights and fill in their hash, without building a model; for open_clip also that of its settings.

    The first call for an open_clip tag or an `hf-hub:` model downloads the checkpoint and the tokenizer.

    Raises:
        FingerprintMismatch: `spec` already carries another hash than what is found here has.
        ConfigError: There is no such model, tag or file.
        MissingExtra: A package that the spec needs is absent.
        IntegrityError: The embedded model's packages hold other bytes than expected.
    """
    found = _hashes(spec)
    for field, sha256 in found.items():
        recorded = getattr(spec, field)
        if recorded not in (None, sha256):
            part = field.removesuffix("_sha256")
            raise FingerprintMismatch(
                f"encoder {_name(spec)} was recorded with {part} {recorded}, here they are {sha256}; "
                f"nothing was encoded. Install or name the recorded {part}, or encode again into a new folder."
            )
    return spec.model_copy(update=found)


def build_encoder(spec: EncoderSpec) -> ImageTextEncoder:
    """Build the encoder in the process that uses it, on a GPU if this process sees one.

    The embedded model is assembled in the user's cache folder on first use, which takes seconds. Thread counts are left as
    they are. Build from one thread at a time: open_clip's log output and hub lookups are switched off meanwhile.

    Raises:
        XMAdapterError: As for `resolve_encoder`; or the checkpoint does not fit the architecture.
    """
    resolved = resolve_encoder(spec)
    match resolved:
        case TinySpec():
            from xmadapter.encoders.tiny import TinyEncoder

            return TinyEncoder(resolved)
        case OpenClipSpec():
            from xmadapter.encoders.open_clip import OpenClipEncoder

            return OpenClipEncoder(resolved)
        case EmbeddedSpec():
            from xmadapter.encoders.embedded import build_embedded

            return build_embedded(resolved)


def build_preprocess(spec: EncoderSpec, image: ImageConfig) -> Callable[[Image.Image], UInt8[Tensor, "3 height width"]]:
    """Build view 0, the model's test transform up to but without normalisation; loads no weights.

    Raises:
        ConfigError: There is no such model.
        MissingExtra: A package that the spec needs is absent.
    """
    from xmadapter.encoders.views import shortest_side, transformed_view

    match spec:
        case OpenClipSpec():
            from xmadapter.encoders.open_clip import pixel_transform

            transform = pixel_transform(spec)
        case EmbeddedSpec() | TinySpec():
            transform = shortest_side(_image_size(spec)[0])
    return partial(transformed_view, transform=transform, invert=image.invert)


def build_augment(
    spec: EncoderSpec, image: ImageConfig
) -> Callable[[Image.Image, int], UInt8[Tensor, "3 height width"]]:
    """Build augmented views: a function of the image and an integer seed, equal in every process.

    A crop of at least `image.crop` of the area (0.5 in Tip-Adapter; Zhang et al., 2022), resized (bicubic) to the model's input,
    flipped left to right half of the time.

    Raises:
        ConfigError: There is no such model.
        MissingExtra: A package that the spec needs is absent.
    """
    from xmadapter.encoders.views import augmented_view

    return partial(augmented_view, size=_image_size(spec), crop=image.crop, invert=image.invert)


def _hashes(spec: EncoderSpec) -> dict[str, str]:
    """Hash of everything that decides the features, by the field of the spec that records it."""
    match spec:
        case TinySpec():
            from xmadapter.encoders.tiny import tiny_sha256

            return {"weights_sha256": tiny_sha256(spec)}
        case OpenClipSpec():
            from xmadapter.encoders.open_clip import checkpoint_sha256, settings_sha256

            return {"weights_sha256": checkpoint_sha256(spec), "settings_sha256": settings_sha256(spec)}
        case EmbeddedSpec():
            from xmadapter.encoders.embedded import check_parts, find_parts

            return {"weights_sha256": check_parts(find_parts())}


def _image_size(spec: EncoderSpec) -> tuple[int, int]:
    """Height and width of the model's input."""
    match spec:
        case TinySpec():
            from xmadapter.encoders.tiny import IMAGE_SIZE

            return IMAGE_SIZE, IMAGE_SIZE
        case OpenClipSpec():
            from xmadapter.encoders.open_clip import image_size

            return image_size(spec)
        case EmbeddedSpec():
            from xmadapter.encoders.embedded import IMAGE_SIZE

            return IMAGE_SIZE, IMAGE_SIZE


def _name(spec: EncoderSpec) -> str:
    return f"{spec.model} ({spec.pretrained})" if isinstance(spec, OpenClipSpec) else spec.kind
