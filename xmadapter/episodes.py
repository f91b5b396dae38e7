"""Episodes: which images are the shots, and the tensors of several episodes side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from xmadapter.errors import EpisodeError, some
from xmadapter.features import FeatureSet, TuningData
from xmadapter.seeding import derive_seed

__all__ = ["Episode", "EpisodeBatch", "sample_episode", "stack_episodes"]

VALIDATION_SHOTS = 4
"""Protocol fewshot-val takes min(shots, 4) validation images a class (Zhou et al., CoOp)."""


@dataclass(frozen=True)
class Episode:
    """One draw of shots.

    Args:
        shots: Images a class.
        seed: Which draw.
        support: Rows of the training set, grouped by class.
        validation: Rows of the validation set, grouped by class.
    """

    shots: int
    seed: int
    support: Int[np.ndarray, " support"]
    validation: Int[np.ndarray, " validation"]


@dataclass(frozen=True)
class EpisodeBatch:
    """Episodes of one shot count, stacked over seeds.

    Args:
        shots: Images a class.
        seeds: One per episode, in the order of the leading axis.
        views: Support features, L2-normalised; view 0 is the test transform.
        norms: Their lengths before normalisation.
        labels: Class of each support row, the same for all seeds.
        validation: Validation features, L2-normalised.
        validation_labels: Their classes.
    """

    shots: int
    seeds: tuple[int, ...]
    views: Float[Tensor, "seeds support views dim"]
    norms: Float[Tensor, "seeds support views"]
    labels: Int[Tensor, " support"]
    validation: Float[Tensor, "seeds validation dim"]
    validation_labels: Int[Tensor, " validation"]

    @property
    def keys(self) -> Float[Tensor, "seeds support dim"]:
        """One key per support image: the mean of its un-normalised views, normalised once (Tip-Adapter).

        The test view is one of them (ours): queries will come in that view.
        """
        raw = self.views * self.norms[..., None]
        return F.normalize(raw.mean(dim=2), dim=-1)


def sample_episode(data: TuningData, *, shots: int, seed: int) -> Episode:
    """Draw shots for every class.

    Images are ranked by a hash of seed and sample id, so a draw does not depend on row order or on other classes, and with one
    seed 4 shots contain 2.

    Args:
        data: What tuning may see.
        shots: Images a class, at least 1.
        seed: Which draw.

    Raises:
        EpisodeError: A class has fewer training images than `shots`, or no validation image.
    """
    support = _draw(data.train, shots, seed, data.text.class_names, "training")
    if data.protocol != "fewshot-val":  # all there are: under `no-val` none
        validation = np.argsort(data.validation.labels, kind="stable")
    else:
        validation = _draw(data.validation, min(shots, VALIDATION_SHOTS), seed, data.text.class_names, "validation")
    return Episode(shots, seed, support, validation)


def stack_episodes(data: TuningData, episodes: Sequence[Episode]) -> EpisodeBatch:
    """Gather the tensors of episodes of one shot count; only their rows are copied."""
    support = np.stack([episode.support for episode in episodes])
    validation = np.stack([episode.validation for episode in episodes])
    return EpisodeBatch(
        shots=episodes[0].shots,
        seeds=tuple(episode.seed for episode in episodes),
        views=torch.from_numpy(data.train.features[support]),
        norms=torch.from_numpy(data.train.norms[support]),
        labels=torch.from_numpy(data.train.labels[support[0]]),
        validation=torch.from_numpy(data.validation.features[validation][:, :, 0]),
        validation_labels=torch.from_numpy(data.validation.labels[validation[0]]),
    )


def _draw(
    rows: FeatureSet, count: int, seed: int, class_names: tuple[str, ...], purpose: str
) -> Int[np.ndarray, " drawn"]:
    available = np.bincount(rows.labels, minlength=len(class_names))
    short = [f"{name} has {have}" for name, have in zip(class_names, available, strict=True) if have < count]
    if short:
        lower = f"lower `shots` to {available.min()}, or " if available.min() else ""
        raise EpisodeError(f"{count} {purpose} images a class are needed; {some(short)}; {lower}add images")
    rank = np.array([derive_seed(seed, sample_id) for sample_id in rows.ids])
    order = np.lexsort((rank, rows.labels))
    starts = np.cumsum(available) - available
    return np.concatenate([order[start : start + count] for start in starts])
