"""What a set of predictions is worth."""

from xmadapter.evaluation.classification import accuracy, class_accuracy
from xmadapter.evaluation.intervals import Interval, paired_interval, seed_interval, wilson_interval

__all__ = ["Interval", "accuracy", "class_accuracy", "paired_interval", "seed_interval", "wilson_interval"]
