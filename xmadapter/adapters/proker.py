"""ProKeR: kernel ridge regression on the residual of zero-shot (Bendou et al., CVPR 2025).

The paper's f(x) = zs(x) + k(x, S)(K + λI)⁻¹(L - zs(S)) needs zero-shot scores and one-hot labels on one scale. Scores are
cosines, as in the paper's code: their differences are small beside a label's, so the support decides where it has something to say.
Logits would leave residuals of tens that the labels hardly change, and probabilities give up how sure zero-shot is.
"""

from collections.abc import Iterator, Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from xmadapter.adapters.base import Memory, SolvableAdapter
from xmadapter.adapters.ridge import Ridge, condensed, fit_ridge, zero_shot_residual
from xmadapter.adapters.tip import sharpened
from xmadapter.config import ProKeRConfig

__all__ = ["ProKeR"]


class ProKeR(SolvableAdapter[ProKeRConfig]):
    """Zero-shot logits corrected by a kernel ridge regression, all times logit_scale.

    Args:
        config: Kernel and ridge.
        memory: Keys and their classes.
    """

    keys: Tensor
    coefficients: Tensor

    def __init__(self, config: ProKeRConfig, memory: Memory) -> None:
        super().__init__(memory)
        self.config = config
        keys, labels = condensed(memory.keys, memory.labels)
        self.register_buffer("keys", keys)
        self.register_buffer("coefficients", keys.new_zeros(*keys.shape[:2], len(memory.text)))
        self._residual: Tensor | None = None
        self._ridges: dict[float, Ridge] = {}
        if memory.views is not None:
            self._residual = zero_shot_residual(keys, labels, memory.text)
            self.coefficients = self._solved(config.sharpness, config.regularisation)

    def settle(self, parameters: Mapping[str, float]) -> None:
        """Replace parameters of the config, and compute the coefficients anew."""
        super().settle(parameters)
        self.coefficients = self._solved(self.config.sharpness, self.config.regularisation)
        self._ridges.clear()

    def vote_grid(
        self, image: Float[Tensor, "#seeds batch dim"], grid: Mapping[str, Sequence[float]]
    ) -> Iterator[Float[Tensor, "seeds batch classes"]]:
        """Yield the corrections over sharpness and regularisation; each kernel is decomposed once, for all queries."""
        cosine = image @ self.keys.mT
        for sharpness in grid.get("sharpness", (self.config.sharpness,)):
            affinity = sharpened(cosine, sharpness)
            for regularisation in grid.get("regularisation", (self.config.regularisation,)):
                coefficients = self._solved(sharpness, regularisation) if grid else self.coefficients
                yield self.logit_scale * (affinity @ coefficients)

    def _solved(self, sharpness: float, regularisation: float) -> Float[Tensor, "seeds support classes"]:
        if self._residual is None:
            return self.coefficients
        if sharpness not in self._ridges:
            self._ridges[sharpness] = fit_ridge(self.keys, self._residual, sharpness=sharpness)
        return self._ridges[sharpness].coefficients(regularisation)
