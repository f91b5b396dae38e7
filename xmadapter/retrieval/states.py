"""Training states in a folder or bucket: where a lost trial goes on, and what a trained method is loaded from."""

import time
from collections.abc import Callable

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from xmadapter.storage import join, read_bytes, write_bytes
from xmadapter.training.contrastive import ContrastiveEpoch, FitState

__all__ = ["StateFile"]

_EVERY_S = 30.0
"""A state is written at most so often, and after the last epoch: a lost process costs half a minute of training."""


class StateFile:
    """The latest state of one training.

    Args:
        folder: Folder or bucket prefix.
        name: Of the training; no two trainings may share one.
        epochs: The last epoch, after which only weights are kept.
    """

    def __init__(self, folder: str, name: str, epochs: int) -> None:
        self._uri, self._epochs = join(folder, f"{name}.safetensors"), epochs
        self._written = time.monotonic()

    def read(self) -> FitState | None:
        """Read the state; None where there is none, or none that is whole: training then starts anew."""
        try:
            tensors = load(read_bytes(self._uri))
            return FitState(int(tensors.pop("epoch")), tensors)
        except (FileNotFoundError, SafetensorError, KeyError):
            return None

    def note(self, epoch: ContrastiveEpoch, state: Callable[[], FitState]) -> None:
        """Write the state where it is time; for `fit_contrastive`'s `on_epoch`."""
        last = epoch.epoch == self._epochs
        if not last and time.monotonic() < self._written + _EVERY_S:
            return
        now = state()
        tensors = {name: one for name, one in now.tensors.items() if not last or name.startswith("weights.")}
        write_bytes(self._uri, save({**tensors, "epoch": torch.tensor(now.epoch)}))
        self._written = time.monotonic()
