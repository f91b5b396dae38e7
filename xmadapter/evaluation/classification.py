"""Accuracy of classifiers, per seed and per class."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["accuracy", "class_accuracy"]


def accuracy(logits: Float[Tensor, "seeds n classes"], labels: Int[Tensor, " n"]) -> Float[Tensor, " seeds"]:
    """Share of correct rows per seed, in [0, 1]; a tie goes to the lower class."""
    return (logits.argmax(dim=-1) == labels).double().mean(dim=-1)


def class_accuracy(
    predicted: Int[Tensor, "seeds n"], labels: Int[Tensor, " n"], *, classes: int
) -> Float[Tensor, " classes"]:
    """Share of correct rows of each class, in [0, 1], over all seeds; NaN where a class has no row."""
    correct = (predicted == labels).double().mean(dim=0)
    totals = torch.bincount(labels, minlength=classes)
    return torch.bincount(labels, weights=correct, minlength=classes) / totals
