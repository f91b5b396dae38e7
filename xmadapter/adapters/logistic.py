"""Multinomial logistic regression on frozen features (the linear probe of Radford et al., 2021; recipe of CoOp's `lpclip`)."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor

from xmadapter.adapters.base import Memory, SolvableAdapter
from xmadapter.config import LogisticConfig

__all__ = ["LogisticRegression", "fit_logistic"]


def fit_logistic(
    features: Float[np.ndarray, "n dim"],
    labels: Int[np.ndarray, " n"],
    *,
    classes: int,
    inverse_regularisation: float,
) -> tuple[Float[np.ndarray, "classes dim"], Float[np.ndarray, " classes"]]:
    """Minimise C · summed cross-entropy + half the squared weights by L-BFGS; the intercept is free.

    The weights lie in the span of the rows, so the search runs there: few shots have fewer rows than `dim`.

    Args:
        features: One row per image.
        labels: Their classes.
        classes: Number of classes.
        inverse_regularisation: C.

    Returns:
        Weight and intercept of each class.
    """
    left, singular, basis = np.linalg.svd(features.astype(np.float64), full_matrices=False)
    rows = np.column_stack([left * singular, np.ones(len(features))])
    ridge = np.r_[np.ones(len(singular)), 0.0] / (inverse_regularisation * len(features))
    members = np.eye(classes)[labels]

    def loss(flat: Float[np.ndarray, " numbers"]) -> tuple[float, Float[np.ndarray, " numbers"]]:
        weight = flat.reshape(classes, -1)
        log_share = log_softmax(rows @ weight.T, axis=1)
        gradient = (np.exp(log_share) - members).T @ rows / len(rows) + ridge * weight
        value = -(members * log_share).sum() / len(rows) + 0.5 * (ridge * weight**2).sum()
        return float(value), gradient.ravel()

    options = {"maxiter": 1000, "maxfun": 2000, "gtol": 1e-7, "ftol": 1e-12}
    found = minimize(loss, np.zeros(classes * rows.shape[1]), jac=True, method="L-BFGS-B", options=options)
    weight = found.x.reshape(classes, -1)
    return weight[:, :-1] @ basis, weight[:, -1]


class LogisticRegression(SolvableAdapter[LogisticConfig]):
    """Logits of a logistic regression; texts play no part.

    Args:
        config: How far the weights are held back.
        memory: Keys and their classes, which the regression is fitted on, seed by seed.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, config: LogisticConfig, memory: Memory) -> None:
        super().__init__(memory)
        self.config = config
        self.register_buffer("weight", memory.text.new_zeros(memory.keys.shape[0], *memory.text.shape))
        self.register_buffer("bias", memory.text.new_zeros(memory.keys.shape[0], len(memory.text)))
        self._support: tuple[Tensor, Tensor] | None = None
        self._fits: dict[float, tuple[Tensor, Tensor]] = {}
        if memory.views is not None:
            self._support = memory.keys, memory.labels
            self.weight, self.bias = self._fitted(config.inverse_regularisation)

    def settle(self, parameters: Mapping[str, float]) -> None:
        """Replace parameters of the config, and take the regression fitted with them."""
        super().settle(parameters)
        self.weight, self.bias = self._fitted(self.config.inverse_regularisation)

    def base_logits(self, image: Float[Tensor, "#seeds batch dim"]) -> Float[Tensor, "#seeds batch classes"]:
        """Know nothing without the support: zeros."""
        return torch.zeros_like(super().base_logits(image))

    def vote_grid(
        self, image: Float[Tensor, "#seeds batch dim"], grid: Mapping[str, Sequence[float]]
    ) -> Iterator[Float[Tensor, "seeds batch classes"]]:
        """Yield the logits of a regression at every inverse regularisation; each is fitted once, for all queries."""
        for inverse_regularisation in grid.get("inverse_regularisation", (self.config.inverse_regularisation,)):
            weight, bias = self._fitted(inverse_regularisation) if grid else (self.weight, self.bias)
            yield image @ weight.mT + bias[:, None]

    def _fitted(self, inverse_regularisation: float) -> tuple[Tensor, Tensor]:
        if self._support is None:
            return self.weight, self.bias
        if inverse_regularisation not in self._fits:
            keys, labels = (part.numpy(force=True) for part in self._support)
            fits = [
                fit_logistic(one, labels, classes=len(self.text), inverse_regularisation=inverse_regularisation)
                for one in keys
            ]
            weight, bias = (torch.from_numpy(np.stack(part)).to(self.weight) for part in zip(*fits, strict=True))
            self._fits[inverse_regularisation] = weight, bias
        return self._fits[inverse_regularisation]
