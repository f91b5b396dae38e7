"""Zero-shot: the text classifier, the baseline every table starts with."""

from jaxtyping import Float
from torch import Tensor

from xmadapter.adapters.base import FeatureAdapter, Memory, zero_shot_logits

__all__ = ["ZeroShot"]


class ZeroShot(FeatureAdapter):
    """Ignore the support images.

    Args:
        memory: Text classifier; the keys only say how many seeds there are.
    """

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory)
        self._seeds = memory.keys.shape[0]

    def forward(self, image: Float[Tensor, "#seeds batch dim"]) -> Float[Tensor, "seeds batch classes"]:
        """Classify by similarity to the class texts."""
        logits = zero_shot_logits(image, self.text, logit_scale=self.logit_scale)
        return logits.expand(self._seeds, -1, -1)
