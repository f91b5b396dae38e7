"""Views of an image as pixels: the test view, and augmented ones that a seed determines."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize
from torchvision.transforms.functional import pil_to_tensor

from xmadapter.seeding import derive_seed

__all__ = ["augmented_view", "shortest_side", "transformed_view"]

_ASPECT = (3 / 4, 4 / 3)


def transformed_view(
    image: Image.Image, *, transform: Callable[[Image.Image], Image.Image], invert: bool
) -> UInt8[Tensor, "3 height width"]:
    """Apply a model's own geometric transform and return pixels in [0, 255]."""
    return pil_to_tensor(transform(_prepared(image, invert=invert)))


def shortest_side(size: int) -> Callable[[Image.Image], Image.Image]:
    """Resize the shortest side to `size` (bicubic), then crop the centre: the usual test transform."""
    return Compose([Resize(size, InterpolationMode.BICUBIC), CenterCrop(size)])


def augmented_view(
    image: Image.Image, seed: int, *, size: tuple[int, int], crop: float, invert: bool
) -> UInt8[Tensor, "3 {size[0]} {size[1]}"]:
    """Crop at random, resize (bicubic), flip half of the time; the seed alone decides.

    Args:
        image: Any mode; turned into RGB.
        seed: Any integer. Neither a global generator nor the process plays a part.
        size: Height and width of the result.
        crop: Smallest share of the area that is kept, in (0, 1].
        invert: Replace each value by 255 minus it.
    """
    rgb = _prepared(image, invert=invert)
    rng = np.random.default_rng(derive_seed(seed, "augmented view"))
    area = rng.uniform(crop, 1.0) * rgb.width * rgb.height
    aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
    # Cut to the image rather than drawn again: one draw each, so a view never depends on how often a draw was refused.
    width = max(1, min(rgb.width, round(math.sqrt(area * aspect))))
    height = max(1, min(rgb.height, round(math.sqrt(area / aspect))))
    left = int(rng.integers(rgb.width - width + 1))
    top = int(rng.integers(rgb.height - height + 1))
    view = rgb.crop((left, top, left + width, top + height)).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return pil_to_tensor(ImageOps.mirror(view) if rng.random() < 0.5 else view)


def _prepared(image: Image.Image, *, invert: bool) -> Image.Image:
    # RGB first: Pillow resizes palette images without interpolation and cannot invert them.
    rgb = image.convert("RGB")
    return ImageOps.invert(rgb) if invert else rgb
