"""Predictor: a bundle and its encoder, from images to class names."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image

from xmadapter.bundle import AdapterBundle
from xmadapter.encoders import build_encoder, build_preprocess, resolve_encoder

__all__ = ["Prediction", "Predictor"]


@dataclass(frozen=True)
class Prediction:
    """What an image shows: the class, its probability, and the probabilities of all classes in the bundle's order."""

    label: str
    probability: float
    probabilities: tuple[float, ...]


class Predictor:
    """Classify images as the bundle was fitted to.

    Args:
        bundle: From `load_bundle`.

    Raises:
        FingerprintMismatch: The encoder found here has other weights than the one the bundle was fitted on.
    """

    def __init__(self, bundle: AdapterBundle) -> None:
        self._bundle = bundle
        spec = resolve_encoder(bundle.card.encoder)
        self._encoder = build_encoder(spec)
        self._preprocess = build_preprocess(spec, bundle.card.image)

    @torch.no_grad()
    def classify(self, images: Sequence[Image.Image]) -> list[Prediction]:
        """Predict one class per image.

        The probabilities are a softmax of the logits; few-shot adapters are not calibrated, so read them as an order.
        """
        if not images:
            return []
        pixels = torch.stack([self._preprocess(image) for image in images])
        features = F.normalize(self._encoder.encode_image(pixels), dim=-1)
        probabilities = self._bundle.adapter(features[None])[0].softmax(dim=-1)
        names = self._bundle.card.class_names
        return [Prediction(names[int(row.argmax())], float(row.max()), tuple(row.tolist())) for row in probabilities]
