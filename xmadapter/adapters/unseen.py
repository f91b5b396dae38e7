"""What an adapter says of classes of which it has seen no image."""

import torch
from jaxtyping import Float
from torch import Tensor

from xmadapter.adapters.base import FeatureAdapter, zero_shot_logits
from xmadapter.adapters.clip_adapter import ClipAdapter
from xmadapter.adapters.fused import FusedAdapter
from xmadapter.adapters.multimodal import MultiModalAdapter

__all__ = ["unseen_logits"]


def unseen_logits(
    adapter: FeatureAdapter, image: Float[Tensor, "#seeds batch dim"], text: Float[Tensor, "novel dim"]
) -> Float[Tensor, "#seeds batch novel"]:
    """Classify among other classes, by what the adapter learned that belongs to no class.

    CLIP-Adapter and Multi-Modal Adapter change features and take any texts. Everything else keeps its knowledge class by class,
    as cache entries, texts or weights, and has none of these classes: it is zero-shot.

    Args:
        adapter: Fitted on its own classes; not changed.
        image: Queries, L2-normalised.
        text: Texts of the other classes, L2-normalised.
    """
    zero_shot = zero_shot_logits(image, text, logit_scale=adapter.logit_scale)
    match adapter:
        case ClipAdapter() | MultiModalAdapter():
            return torch.func.functional_call(adapter, {"text": text}, (image,))
        case FusedAdapter():
            parts = zip(adapter.fused_parts, adapter.config.parts, strict=True)
            changes = [one.weight * (unseen_logits(part, image, text) - zero_shot) for part, one in parts]
            return sum(changes, start=zero_shot)
        case _:
            return zero_shot
