"""What a set of predictions is worth."""

from xmadapter.evaluation.classification import accuracy, class_accuracy
from xmadapter.evaluation.intervals import Interval, image_interval, paired_interval, seed_interval, wilson_interval
from xmadapter.evaluation.ranks import Ranking, rank_methods

__all__ = [
    "Interval",
    "Ranking",
    "accuracy",
    "class_accuracy",
    "image_interval",
    "paired_interval",
    "rank_methods",
    "seed_interval",
    "wilson_interval",
]
