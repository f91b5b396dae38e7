"""Accuracy, over all rows and per class."""

import math

import torch

from xmadapter.evaluation import accuracy, class_accuracy


def test_accuracy_is_the_share_of_correct_rows_per_seed():
    logits = torch.tensor([[[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]], [[1.0, 2.0], [0.0, 1.0], [1.0, 2.0]]])
    assert accuracy(logits, torch.tensor([0, 1, 1])).tolist() == [2 / 3, 2 / 3]


def test_a_tie_goes_to_the_lower_class():
    logits = torch.ones(1, 2, 3)
    assert accuracy(logits, torch.tensor([0, 1])).tolist() == [0.5]


def test_class_accuracy_pools_the_seeds():
    predicted, labels = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0]]), torch.tensor([0, 0, 1, 1])
    assert class_accuracy(predicted, labels, classes=2).tolist() == [0.75, 0.75]


def test_a_class_without_rows_has_no_accuracy():
    found = class_accuracy(torch.tensor([[0]]), torch.tensor([0]), classes=3).tolist()
    assert found[0] == 1
    assert all(math.isnan(value) for value in found[1:])
