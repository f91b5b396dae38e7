"""Features in memory, in two kinds that cannot be confused: what tunes, and what is looked at once."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from xmadapter.config import SelectionProtocol

__all__ = ["FeatureSet", "Provenance", "TestSet", "TextBank", "TuningData", "base_classes"]


@dataclass(frozen=True)
class FeatureSet:
    """Image features of one split.

    Args:
        features: L2-normalised; view 0 is the test transform, others are augmentations.
        norms: Length of each feature before normalisation.
        labels: Index into the class names.
        ids: Sample ids, unique.
    """

    features: Float[np.ndarray, "n views dim"]
    norms: Float[np.ndarray, "n views"]
    labels: Int[np.ndarray, " n"]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        """Count samples."""
        return len(self.ids)

    def take(self, rows: Int[np.ndarray, " kept"]) -> "FeatureSet":
        """Keep some rows, in the order given."""
        ids = tuple(self.ids[row] for row in rows)
        return FeatureSet(self.features[rows], self.norms[rows], self.labels[rows], ids)

    def of_classes(self, first: int, end: int) -> "FeatureSet":
        """Keep the samples of classes `first` to `end`, this one excluded, with labels counted from `first`."""
        kept = self.take(np.flatnonzero((self.labels >= first) & (self.labels < end)))
        return replace(kept, labels=kept.labels - first)


@dataclass(frozen=True)
class TextBank:
    """Text features of every class under every prompt, L2-normalised."""

    features: Float[np.ndarray, "classes prompts dim"]
    class_names: tuple[str, ...]

    @cached_property
    def class_features(self) -> Float[np.ndarray, "classes dim"]:
        """Mean over prompts, normalised again: the zero-shot classifier."""
        mean = self.features.mean(axis=1)
        return (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)

    def of_classes(self, first: int, end: int) -> "TextBank":
        """Keep classes `first` to `end`, this one excluded."""
        return TextBank(self.features[first:end], self.class_names[first:end])


@dataclass(frozen=True)
class Provenance:
    """Which features these are; part of every record."""

    plan_fingerprint: str
    encoder_fingerprint: str
    split_hash: str


@dataclass(frozen=True)
class TuningData:
    """All that a trial may see. It holds no test row, but under the protocol `oracle`, whose validation is the test split.

    Without validation under `no-val`.
    """

    protocol: SelectionProtocol
    train: FeatureSet
    validation: FeatureSet
    text: TextBank
    logit_scale: float
    provenance: Provenance

    @property
    def base(self) -> "TuningData":
        """The same of the base classes alone."""
        end = base_classes(len(self.text.class_names))
        train, validation, text = (part.of_classes(0, end) for part in (self.train, self.validation, self.text))
        return replace(self, train=train, validation=validation, text=text)


def base_classes(classes: int) -> int:
    """Count the base classes: the first half, the larger one where there is a middle (Zhou et al., CoCoOp, 2022)."""
    return (classes + 1) // 2


@dataclass(frozen=True)
class TestSet:
    """The test split; opened by the final evaluation and nowhere else."""

    __test__ = False  # pytest would collect the class by its name

    data: FeatureSet
    provenance: Provenance

    def of_classes(self, first: int, end: int) -> "TestSet":
        """Keep classes `first` to `end`, this one excluded, with labels counted from `first`."""
        return TestSet(self.data.of_classes(first, end), self.provenance)

    @cached_property
    def digest(self) -> str:
        """Hash of the ids and labels it holds."""
        lines = "\n".join(f"{name}\t{label}" for name, label in zip(self.data.ids, self.data.labels, strict=True))
        return hashlib.sha256(lines.encode()).hexdigest()
