"""Configuration of encoders and of the encode job."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from xmadapter.config.base import ClusterConfig, Frozen
from xmadapter.config.data import DataConfig

__all__ = [
    "EmbeddedSpec",
    "EncodeConfig",
    "EncoderSpec",
    "ImageConfig",
    "OpenClipSpec",
    "TinySpec",
]


class EmbeddedSpec(Frozen):
    """The default model, assembled from weights that pip packages ship: weak, but real and always at hand."""

    kind: Literal["embedded"] = "embedded"
    weights_sha256: str | None = Field(default=None, description="Filled in when the weights are found.")


class OpenClipSpec(Frozen):
    """An open_clip model with its own transform, tokenizer and logit scale."""

    kind: Literal["open_clip"] = "open_clip"
    model: str = Field(description="Architecture, such as ViT-B-32; or local-dir:FOLDER or hf-hub:ORG/NAME.")
    pretrained: str | None = Field(default=None, description="open_clip tag, or a checkpoint file.")
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    weights_sha256: str | None = Field(default=None, description="Filled in when the weights are found.")
    settings_sha256: str | None = Field(
        default=None, description="Filled in likewise: architecture, preprocessing and tokenizer."
    )


class TinySpec(Frozen):
    """A seeded projection of coarse pixels and letter counts; for tests and smoke runs."""

    kind: Literal["tiny"] = "tiny"
    dim: int = Field(default=32, ge=2, le=4096)
    seed: int = 0
    weights_sha256: str | None = None


EncoderSpec = Annotated[EmbeddedSpec | OpenClipSpec | TinySpec, Field(discriminator="kind")]


class ImageConfig(Frozen):
    """What happens to an image before the encoder's own transform, and how training views differ from it."""

    invert: bool = Field(default=False, description="Turn light on dark into dark on light: 255 minus each value.")
    crop: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Smallest share of the area that a training view shows; raise it where objects fill the image.",
    )


class EncodeConfig(Frozen):
    """One encode job: a data set through an encoder into a feature store."""

    data: DataConfig
    output: str = Field(description="Folder of the feature store.")
    encoder: EncoderSpec = EmbeddedSpec()
    image: ImageConfig = ImageConfig()
    prompts: tuple[str, ...] = Field(
        default=(), description="Templates; {} is the class name. Empty: the data set's own, or 'a photo of a {}.'."
    )
    images_per_class: int | None = Field(
        default=None,
        ge=1,
        description="Training images a class that are encoded, and as many for validation, chosen by a hash of their ids; "
        "empty: all. Test images are never left out.",
    )
    views: int = Field(
        default=10, ge=0, le=1000, description="Augmented views of each training image, beside the test transform."
    )
    seed: int = Field(default=0, description="Of the augmented views.")
    rows_per_shard: int = Field(
        default=256, ge=1, le=4096, description="Upper bound of encoded rows in a shard; the unit of retry."
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = Field(
        default="auto",
        description="Images per forward pass; part of the plan, as it touches the last bits. "
        "auto: that of the store, or found by trying on a GPU, or 16 on CPU.",
    )
    max_skip_fraction: float = Field(default=0.0, ge=0, le=1, description="Share of images that may be unreadable.")
    replan: bool = Field(
        default=False, description="Accept that samples were removed or changed since the store was begun."
    )
    max_actors: int | None = Field(
        default=None, ge=1, description="Upper bound of the encoder pool; empty means what the cluster holds."
    )
    cluster: ClusterConfig = ClusterConfig()

    @field_validator("prompts")
    @classmethod
    def _one_slot_each(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in prompts:
            if prompt.count("{}") != 1 or prompt.count("{") != 1 or prompt.count("}") != 1:
                raise ValueError(f"{prompt!r} needs exactly one {{}} for the class name")
        return prompts
