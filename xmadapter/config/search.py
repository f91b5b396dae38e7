"""How hyperparameters are searched: who draws them, how many at once, and which trials are stopped early."""

from collections.abc import Mapping
from itertools import product
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, JsonValue, model_validator

from xmadapter.config.base import Frozen
from xmadapter.config.space import Choice, Range, SpaceEntry

__all__ = [
    "CMAESConfig",
    "GridConfig",
    "NSGA2Config",
    "PruningConfig",
    "RandomConfig",
    "SamplerConfig",
    "SearchConfig",
    "TPEConfig",
    "WarmStartConfig",
    "grid_points",
]


class TPEConfig(Frozen):
    """Tree-structured Parzen estimator: where good trials are dense and bad ones are not (Bergstra et al., 2011)."""

    kind: Literal["tpe"] = "tpe"


class RandomConfig(Frozen):
    """Independent draws."""

    kind: Literal["random"] = "random"


class GridConfig(Frozen):
    """Every combination; `trials` of a method then is at most how many of them are tried."""

    kind: Literal["grid"] = "grid"
    points: int = Field(default=5, ge=2, le=100, description="Values of each continuous range.")


class CMAESConfig(Frozen):
    """CMA-ES (Hansen, 2016) over the continuous ranges; choices are drawn at random."""

    kind: Literal["cma-es"] = "cma-es"
    population: int = Field(default=8, ge=3, le=1000, description="Trials a generation; they run side by side.")


class NSGA2Config(Frozen):
    """NSGA-II (Deb et al., 2002): accuracy against what it costs."""

    kind: Literal["nsga2"] = "nsga2"
    population: int = Field(default=10, ge=2, le=1000, description="Trials a generation; they run side by side.")
    against: Literal["trained_parameters", "stored_bytes", "latency_us"] = Field(
        default="trained_parameters", description="What is to be small."
    )


SamplerConfig = Annotated[
    TPEConfig | RandomConfig | GridConfig | CMAESConfig | NSGA2Config, Field(discriminator="kind")
]


class PruningConfig(Frozen):
    """Successive halving (ASHA, Li et al., 2020): a trained head goes on where it is among the best at that epoch.

    It is compared with trials that were finished when it was drawn, so that what is stopped does not depend on how many run at once.
    """

    first_epoch: int = Field(default=3, ge=1, description="Validation accuracy is first compared after this epoch.")
    factor: int = Field(default=3, ge=2, description="One in so many goes on; the next comparison is so much later.")

    def epochs(self, last: int) -> list[int]:
        """List the epochs of comparison before the last epoch."""
        epochs, epoch = [], self.first_epoch
        while epoch < last:
            epochs.append(epoch)
            epoch *= self.factor
        return epochs


class WarmStartConfig(Frozen):
    """Try first what was best in an earlier sweep, of the same method at the same or the nearest shot count.

    Only its hyperparameters are taken over: every accuracy of a sweep is measured in that sweep.
    """

    sweep: str = Field(description="Output folder of the earlier sweep.")
    draws: int = Field(default=3, ge=1, le=1000, description="How many of its trials, the best first.")


class SearchConfig(Frozen):
    """The hyperparameter search of every study of a sweep."""

    sampler: SamplerConfig = TPEConfig()
    seed: int = 0
    parallel: int = Field(
        default=1,
        ge=1,
        description="Trials of one study that may run side by side once draws depend on earlier ones. "
        "Studies always run side by side, and so do draws that depend on nothing.",
    )
    pruning: PruningConfig | None = None
    warm_start: WarmStartConfig | None = None

    @model_validator(mode="after")
    def _one_goal(self) -> "SearchConfig":
        if self.pruning is not None and self.sampler.kind == "nsga2":
            raise ValueError("pruning knows one goal, nsga2 has two; choose another sampler, or no pruning")
        return self


def grid_points(space: Mapping[str, SpaceEntry], points: int) -> list[dict[str, JsonValue]]:
    """List every combination of choices and of `points` values a range, the last name varying fastest."""
    values = {name: _values(entry, points) for name, entry in space.items()}
    return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]


def _values(entry: SpaceEntry, points: int) -> list[JsonValue]:
    match entry:
        case Choice(choices=choices):
            return list(choices)
        case Range(low=low, high=high, log=log):
            spaced = np.geomspace(low, high, points) if log else np.linspace(low, high, points)
            return [float(value) for value in np.clip(spaced, low, high)]
