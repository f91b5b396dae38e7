"""Folds: support images held out in turn, so that the shots themselves help to choose hyperparameters.

Four validation images a class cannot tell hundreds of settings apart: the best of many is then the luckiest. Every shot is one
more image to ask, of a model that was fitted without it.
"""

import torch

from xmadapter.episodes import EpisodeBatch, place_in_class

__all__ = ["FOLDS", "fold_episodes"]

FOLDS = 2
"""Two halves together cost no more than one more fit of the whole; four folds would cost three."""


def fold_episodes(episodes: EpisodeBatch, *, folds: int = FOLDS) -> EpisodeBatch:
    """Hold out each fold of the support in turn; folds ride on the leading axis, so that one fit trains all of them.

    The images of a class are cut into equal folds, and what is left over always trains, as does the only image of a class.
    An image is held out with all its views, and asked in view 0, as a query would come.

    Args:
        episodes: At least `folds` shots, grouped by class; classes may have fewer; their validation images play no part.
        folds: At least 2.

    Returns:
        Episodes of fewer shots, fold by fold and in each the seeds in order; their validation images are the held-out ones.
    """
    labels = episodes.labels
    shot, size = place_in_class(labels), (torch.bincount(labels) // folds)[labels]
    held_out = [(fold * size <= shot) & (shot < (fold + 1) * size) for fold in range(folds)]
    return EpisodeBatch(
        shots=episodes.shots - episodes.shots // folds,
        seeds=episodes.seeds * folds,
        views=torch.cat([episodes.views[:, ~held] for held in held_out]),
        norms=torch.cat([episodes.norms[:, ~held] for held in held_out]),
        labels=episodes.labels[~held_out[0]],
        validation=torch.cat([episodes.views[:, held, 0] for held in held_out]),
        validation_labels=episodes.labels[held_out[0]],
    )
