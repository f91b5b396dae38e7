"""Kernel ridge regression on what zero-shot leaves unexplained, and what it says of images it was fitted without."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from xmadapter.adapters.tip import sharpened
from xmadapter.episodes import place_in_class

__all__ = ["MOST_ROWS", "Ridge", "condensed", "fit_ridge", "zero_shot_residual"]

MOST_ROWS = 4096
"""Rows of a kernel matrix that is decomposed: its time grows with their cube, and 4096 take 12 s a seed on two cores."""


def condensed(
    keys: Float[Tensor, "seeds support dim"], labels: Int[Tensor, " support"], *, most: int = MOST_ROWS
) -> tuple[Float[Tensor, "seeds rows dim"], Int[Tensor, " rows"]]:
    """Average shots of a class in groups, normalised again, until there are few enough rows; few are left as they are.

    Groups are as large as they must be and, within a class, as equal as they can be.

    Args:
        keys: Support image features, grouped by class.
        labels: Their classes.
        most: Rows to end with, unless there are more classes.
    """
    if len(labels) <= most:
        return keys, labels
    images = torch.bincount(labels)
    most_images = int(images.max())
    size = next((size for size in range(2, most_images) if _groups(images, size).sum() <= most), most_images)
    groups = _groups(images, size)
    group = (groups.cumsum(0) - groups)[labels] + place_in_class(labels) * groups[labels] // images[labels]
    sums = keys.new_zeros(len(keys), int(groups.sum()), keys.shape[-1]).index_add(1, group, keys)
    return F.normalize(sums, dim=-1), torch.arange(len(images), device=labels.device).repeat_interleave(groups)


def _groups(images: Int[Tensor, " classes"], size: int) -> Int[Tensor, " classes"]:
    return (images + size - 1) // size


def zero_shot_residual(
    keys: Float[Tensor, "seeds support dim"], labels: Int[Tensor, " support"], text: Float[Tensor, "classes dim"]
) -> Float[Tensor, "seeds support classes"]:
    """Subtract the cosines to the class texts from the one-hot labels: what the support adds to zero-shot."""
    return F.one_hot(labels, len(text)).to(keys) - keys @ text.mT


@dataclass(frozen=True)
class Ridge:
    """Kernel ridge regression in the eigenbasis of its kernel, so that every ridge costs one product.

    Args:
        eigenvalues: Of the kernel matrix, in double precision, as is the rest; at least 0 up to rounding.
        eigenvectors: One a column.
        targets: Residuals in the eigenbasis.
    """

    eigenvalues: Float[Tensor, "seeds support"]
    eigenvectors: Float[Tensor, "seeds support support"]
    targets: Float[Tensor, "seeds support classes"]

    def coefficients(self, regularisation: float) -> Float[Tensor, "seeds support classes"]:
        """Solve (K + λI) c = r for the weight of each support image on each class."""
        return (self.eigenvectors @ (self._gains(regularisation)[..., None] * self.targets)).float()

    def held_out(
        self,
        affinity: Float[Tensor, "seeds queries support"],
        regularisation: float,
        rows: Int[Tensor, "seeds queries"] | None = None,
    ) -> Float[Tensor, "seeds queries classes"]:
        """Predict support images by the regression that was fitted without them, exactly and without fitting again.

        Without image i the weights are c - H_i c_i / H_ii, H = (K + λI)⁻¹ (block inversion; for the residual itself: Allen, 1974).

        Args:
            affinity: Of other views of support images, one a row, to every key.
            regularisation: Ridge, λ.
            rows: Which support image each is a view of; None: each in turn, all of them.

        Returns:
            Corrections; exact as long as kernel and residual do not depend on the label of the image left out.
        """
        gains, query = self._gains(regularisation), affinity.double() @ self.eigenvectors
        weights = self.eigenvectors @ (gains[..., None] * self.targets)
        axes, left_out = self.eigenvectors, weights
        if rows is not None:
            axes, left_out = (torch.take_along_dim(one, rows[..., None], dim=1) for one in (axes, weights))
        own = (gains[:, None] * axes.square()).sum(dim=-1)  # H_ii
        reached = (query * gains[:, None] * axes).sum(dim=-1)  # what H_i gives to the query of image i
        return (affinity.double() @ weights - (reached / own)[..., None] * left_out).float()

    def _gains(self, regularisation: float) -> Float[Tensor, "seeds support"]:
        return 1 / (self.eigenvalues.clamp_min(0) + regularisation)


def fit_ridge(
    keys: Float[Tensor, "seeds support dim"], residual: Float[Tensor, "seeds support classes"], *, sharpness: float
) -> Ridge:
    """Decompose the kernel matrix of the support; time grows with the support cubed."""
    keys = keys.double()
    eigenvalues, eigenvectors = torch.linalg.eigh(sharpened(keys @ keys.mT, sharpness))
    return Ridge(eigenvalues, eigenvectors, eigenvectors.mT @ residual.double())
