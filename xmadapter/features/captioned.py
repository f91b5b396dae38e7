"""Images of one split and what their captions say, as features: what retrieval is measured and trained on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

__all__ = ["CaptionedImages"]


@dataclass(frozen=True)
class CaptionedImages:
    """Images in view 0 and their captions, one or more each, of one split.

    Args:
        image: L2-normalised.
        image_ids: Sample ids, unique.
        text: L2-normalised.
        texts: The captions themselves.
        image_of_text: Row of each caption's image.
    """

    image: Float[np.ndarray, "images dim"]
    image_ids: tuple[str, ...]
    text: Float[np.ndarray, "texts dim"]
    texts: tuple[str, ...]
    image_of_text: Int[np.ndarray, " texts"]

    def __len__(self) -> int:
        """Count images."""
        return len(self.image_ids)
