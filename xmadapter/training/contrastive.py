"""fit_contrastive: train an encoder's adapters on pairs of image and text."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xmadapter.config import ContrastiveConfig
from xmadapter.errors import IntegrityError
from xmadapter.seeding import derive_seed
from xmadapter.training.loop import Diverged

__all__ = ["ContrastiveEpoch", "FitState", "Pairs", "cosine_logits", "fit_contrastive", "symmetric_contrastive"]


@runtime_checkable
class Pairs(Protocol):
    """Training pairs, as an encoder with trained weights sees them.

    Whether it runs whole towers over pixels, upper blocks over cached tokens, or pools frames as a text sees them, is its own
    affair: a gradient has to reach the weights from what it returns.
    """

    @property
    def items(self) -> Int[Tensor, " pairs"]:
        """Which image or video each pair shows."""
        ...

    def logits(self, rows: Int[Tensor, " batch"], /) -> Float[Tensor, "batch batch"]:
        """Compare each text with each image of the pairs in these rows: scaled cosines, texts by images.

        Args:
            rows: Indices into the pairs, on the CPU.
        """
        ...


@dataclass(frozen=True)
class ContrastiveEpoch:
    """What an epoch reports: its number from 1, the mean loss of its steps, and where its learning rate ended."""

    epoch: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class FitState:
    """Where training stands after an epoch; all it takes to go on as if nothing had happened.

    Random numbers are derived from the seed and the epoch, so that no generator has to be kept.

    Args:
        epoch: Epochs done.
        tensors: Weights under `weights.NAME` and moments of the optimiser under `optimiser.NAME.MOMENT`, for safetensors.
    """

    epoch: int
    tensors: dict[str, Tensor]


OnEpoch = Callable[[ContrastiveEpoch, Callable[[], FitState]], None]
"""Takes what an epoch reports, and a function that copies the state for whom it is worth its time."""


def _ignore(_: ContrastiveEpoch, __: Callable[[], FitState]) -> None:
    pass


def cosine_logits(
    text: Float[Tensor, "texts dim"], image: Float[Tensor, "images dim"], *, logit_scale: float
) -> Float[Tensor, "texts images"]:
    """Scale the cosines of features of any length.

    In float32 also under autocast: times 100, bfloat16 would leave a cosine's logit an error of 0.4.
    """
    with torch.autocast(text.device.type, enabled=False):
        return logit_scale * F.normalize(text.float(), dim=-1) @ F.normalize(image.float(), dim=-1).T


def symmetric_contrastive(logits: Float[Tensor, "batch batch"], items: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Score pairs of a batch against each other: the mean of text-to-image and image-to-text cross-entropy (CLIP's loss).

    Where an item stands in a batch several times, with several captions, all its pairs are right answers of equal weight. As
    negatives they would push captions away from their own image.

    Args:
        logits: Scaled similarities, texts by images; pair i is on the diagonal.
        items: Which image or video each pair shows.

    Example:
        >>> round(symmetric_contrastive(torch.zeros(4, 4), torch.arange(4)).exp().item(), 4)
        4.0
    """
    right = (items[:, None] == items).to(logits)
    targets = right / right.sum(
        dim=1, keepdim=True
    )  # which pairs match is symmetric, so that rows serve both directions
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def fit_contrastive(
    bank: nn.Module,
    pairs: Pairs,
    config: ContrastiveConfig,
    *,
    seed: int = 0,
    start: FitState | None = None,
    on_epoch: OnEpoch = _ignore,
) -> None:
    """Train a bank in place, to the last epoch: AdamW, a linear warm-up, then a cosine to zero.

    Each epoch takes all pairs in another order; those that do not fill a last batch sit it out, as a smaller batch would have
    fewer negatives. Matrices decay, biases and norms do not. A stop after any epoch and a start from its state give the numbers
    of a run that was never stopped.

    Args:
        bank: Whose parameters are trained, in float32; an `AdapterBank` for instance.
        pairs: Scored under these parameters.
        config: Length and step size.
        seed: Of the order and of dropout.
        start: Where to go on.
        on_epoch: Called after each epoch.

    Raises:
        Diverged: The loss is not finite; the bank is of no use.
        IntegrityError: The state to start from is another bank's.
        ValueError: There are fewer than two pairs.
    """
    count = len(pairs.items)
    if count < 2:
        raise ValueError(f"contrast needs at least 2 pairs, got {count}")
    weights = dict(bank.named_parameters())
    optimiser = _optimiser(weights, config)
    if start is not None:
        _restore(start, weights, optimiser)
    batch = min(config.batch_size, count)
    steps = count // batch
    for epoch in range(start.epoch + 1 if start else 1, config.epochs + 1):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed("pairs", seed, epoch)))
        losses: list[float] = []
        with _training(bank, derive_seed("dropout", seed, epoch)):
            for step, rows in enumerate(order[: steps * batch].split(batch)):
                _set_rate(optimiser, config, progress=(epoch - 1 + (step + 0.5) / steps) / config.epochs)
                losses.append(_step(optimiser, pairs, rows, config))
        reported = ContrastiveEpoch(epoch, math.fsum(losses) / steps, optimiser.param_groups[0]["lr"])
        on_epoch(reported, partial(_state, epoch, weights, optimiser))


def _optimiser(weights: Mapping[str, nn.Parameter], config: ContrastiveConfig) -> torch.optim.AdamW:
    matrices = [parameter for parameter in weights.values() if parameter.ndim > 1]
    vectors = [parameter for parameter in weights.values() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate)


def _set_rate(optimiser: torch.optim.Optimizer, config: ContrastiveConfig, *, progress: float) -> None:
    """Set the learning rate. `progress` is the share of training done in the middle of the step: no step has rate 0."""
    if progress < config.warm_up:
        factor = progress / config.warm_up
    else:
        factor = (1 + math.cos(math.pi * (progress - config.warm_up) / (1 - config.warm_up))) / 2
    for group in optimiser.param_groups:
        group["lr"] = config.learning_rate * factor


def _step(
    optimiser: torch.optim.Optimizer, pairs: Pairs, rows: Int[Tensor, " batch"], config: ContrastiveConfig
) -> float:
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    with torch.autocast(
        "cuda", torch.bfloat16, enabled=config.precision == "bf16" and parameters[0].device.type == "cuda"
    ):
        logits = pairs.logits(rows).float()
    loss = symmetric_contrastive(logits, pairs.items[rows].to(logits.device))
    if not torch.isfinite(loss):
        raise Diverged(f"loss {loss.item()} at learning rate {optimiser.param_groups[0]['lr']:g}")
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, config.clip)
    optimiser.step()
    return loss.item()


@contextmanager
def _training(bank: nn.Module, seed: int) -> Iterator[None]:
    """Put a bank in training mode, with a dropout of its own that leaves torch's generators as they were."""
    devices = {parameter.device for parameter in bank.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        bank.train()
        try:
            yield
        finally:
            bank.eval()


def _state(epoch: int, weights: Mapping[str, nn.Parameter], optimiser: torch.optim.Optimizer) -> FitState:
    tensors = {f"weights.{name}": parameter.detach() for name, parameter in weights.items()}
    for name, parameter in weights.items():
        # A weight that no gradient reached has no moments.
        for moment, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{name}.{moment}"] = value
    return FitState(epoch, {name: tensor.cpu().clone() for name, tensor in tensors.items()})


def _restore(start: FitState, weights: Mapping[str, nn.Parameter], optimiser: torch.optim.Optimizer) -> None:
    kept = {key.removeprefix("weights.") for key in start.tensors if key.startswith("weights.")}
    if kept != weights.keys():
        raise IntegrityError(
            f"the state of epoch {start.epoch} is of {len(kept)} other weights than the {len(weights)} here; nothing was "
            "trained. Attach the adapters it was saved under, or start anew."
        )
    for name, parameter in weights.items():
        with torch.no_grad():
            parameter.copy_(start.tensors[f"weights.{name}"])
        prefix = f"optimiser.{name}."
        moments = {key.removeprefix(prefix): value for key, value in start.tensors.items() if key.startswith(prefix)}
        if moments:
            # AdamW counts steps on the CPU, wherever its moments are.
            optimiser.state[parameter] = {
                moment: value.clone() if moment == "step" else value.to(parameter.device, copy=True)
                for moment, value in moments.items()
            }
