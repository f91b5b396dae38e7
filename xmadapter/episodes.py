"""Episodes: which images are the shots, and the tensors of several episodes side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from xmadapter.errors import EpisodeError, some
from xmadapter.features import FeatureSet, TuningData
from xmadapter.seeding import derive_seed

__all__ = ["Episode", "EpisodeBatch", "place_in_class", "sample_episode", "stack_episodes"]

VALIDATION_SHOTS = 4
"""Protocol fewshot-val takes min(shots, 4) validation images a class (Zhou et al., CoOp)."""


@dataclass(frozen=True)
class Episode:
    """One draw of shots.

    Args:
        shots: Images a class; a class may have fewer.
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
        shots: Images a class; a class may have fewer.
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

    def to(self, device: torch.device | str) -> "EpisodeBatch":
        """Copy to a device; adapters are built, fitted and asked where their episodes are."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)

    @property
    def keys(self) -> Float[Tensor, "seeds support dim"]:
        """One key per support image: the mean of its un-normalised views, normalised once (Tip-Adapter).

        The test view is one of them (ours): queries will come in that view.
        """
        raw = self.views * self.norms[..., None]
        return F.normalize(raw.mean(dim=2), dim=-1)


def sample_episode(data: TuningData, *, shots: int, seed: int, take_all: bool = False) -> Episode:
    """Draw shots for every class.

    Images are ranked by a hash of seed and sample id, so a draw does not depend on row order or on other classes, and with one
    seed 4 shots contain 2.

    Args:
        data: What tuning may see.
        shots: Images a class, at least 1.
        seed: Which draw.
        take_all: Whether a class with fewer images gives all it has, at least one to train on.

    Raises:
        EpisodeError: A class has fewer training images than `shots`, or too few validation images.
    """
    names = data.text.class_names
    support = _draw(data.train, shots, seed, names, purpose="training", least=1 if take_all else shots)
    if data.protocol != "fewshot-val":  # all there are: under `no-val` none
        validation = np.argsort(data.validation.labels, kind="stable")
    else:
        asked = min(shots, VALIDATION_SHOTS)
        validation = _draw(data.validation, asked, seed, names, purpose="validation", least=0 if take_all else asked)
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


def place_in_class(labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Count rows of a class before each row, for rows grouped by class.

    Example:
        >>> place_in_class(torch.tensor([0, 0, 1, 2, 2, 2]))
        tensor([0, 1, 0, 0, 1, 2])
    """
    images = torch.bincount(labels)
    return torch.arange(len(labels), device=labels.device) - (images.cumsum(0) - images)[labels]


def _draw(
    rows: FeatureSet, count: int, seed: int, class_names: tuple[str, ...], *, purpose: str, least: int
) -> Int[np.ndarray, " drawn"]:
    available = np.bincount(rows.labels, minlength=len(class_names))
    short = [f"{name} has {have}" for name, have in zip(class_names, available, strict=True) if have < least]
    if short:
        lower = f"lower `shots` to {available.min()}, or set `short_classes: take-all`, or " if available.min() else ""
        raise EpisodeError(f"{least} {purpose} images a class are needed; {some(short)}; {lower}add images")
    rank = np.array([derive_seed(seed, sample_id) for sample_id in rows.ids])
    order = np.lexsort((rank, rows.labels))
    starts = np.cumsum(available) - available
    taken = np.minimum(available, count)
    return np.concatenate([order[start : start + some_of] for start, some_of in zip(starts, taken, strict=True)])
