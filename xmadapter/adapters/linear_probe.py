"""Linear probe that starts as the text classifier (ZS-LP; Silva-Rodriguez et al., CLAP, CVPR 2024)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from xmadapter.adapters.base import FeatureAdapter, Memory

__all__ = ["LinearProbe"]


class LinearProbe(FeatureAdapter):
    """One weight per class, L2-normalised in every pass, so that only its direction is learned.

    Args:
        memory: Text classifier, where the weights start; the keys only say how many seeds there are.
    """

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory)
        self.weight = nn.Parameter(memory.text.expand(memory.keys.shape[0], -1, -1).clone())

    def forward(self, image: Float[Tensor, "#seeds batch dim"]) -> Float[Tensor, "seeds batch classes"]:
        """Classify by similarity to the class weights."""
        return self.logit_scale * (image @ F.normalize(self.weight, dim=-1).mT)
