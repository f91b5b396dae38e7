"""How the frames of a video become one side of a pair."""

from typing import Annotated, Literal

from pydantic import Field

from xmadapter.config.base import Frozen

__all__ = ["MeanPooling", "Pooling", "TextPooling"]


class MeanPooling(Frozen):
    """The mean of a video's frames, the same for every text."""

    kind: Literal["mean"] = "mean"


class TextPooling(Frozen):
    """A mean that each text weights: frames that are near to it count more (Jiang et al., arXiv 2211.09623, section 3.3)."""

    kind: Literal["text"] = "text"
    temperature: float = Field(
        default=5.0,
        gt=0,
        description="Frame j weighs softmax(logit scale · cosine / temperature); the larger, the closer to the mean. The paper's τ, "
        "which there divides products of CLIP's features, whose lengths of about 10 multiply to CLIP's logit scale of 100.",
    )


Pooling = Annotated[MeanPooling | TextPooling, Field(discriminator="kind")]
