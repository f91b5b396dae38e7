"""run_finetune: one configuration of an adapter inside the encoder, seed by seed. What a sweep over captions calls."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from pydantic import Field

from xmadapter.config import Frozen, RetrievalConfig, ZeroShotRetrievalConfig
from xmadapter.evaluation.retrieval import RetrievalReport, report_retrieval
from xmadapter.features import RetrievalData
from xmadapter.retrieval.model import RetrievalModel, retrieval_model
from xmadapter.retrieval.states import StateFile
from xmadapter.training.contrastive import ContrastiveEpoch, FitState, fit_contrastive
from xmadapter.trial import Pruned

__all__ = ["FinetuneResult", "FinetuneTrial", "mean_recall", "run_finetune", "trained"]


class FinetuneTrial(Frozen):
    """What a trial runs."""

    method: str = Field(description="Title of the method, as shown.")
    adapter: RetrievalConfig
    images: int = Field(description="Training images, drawn by seed.")
    seeds: tuple[int, ...]
    state: str = Field(description="Name under which its training states are kept.")
    states: str | None = Field(default=None, description="Folder or bucket of the states; empty: none are kept.")
    rungs: tuple[tuple[int, float | None], ...] = Field(
        default=(), description="Epochs at which the first seed is scored, and the mean recall it then must have."
    )


class FinetuneResult(Frozen):
    """What a trial found on the validation split."""

    method: str
    adapter: RetrievalConfig
    shots: int = Field(description="Training images.")
    seeds: tuple[int, ...]
    state: str = Field(description="Name under which its training states are kept.")
    validation: tuple[RetrievalReport, ...] = Field(description="Per seed.")
    trained_parameters: int
    stored_bytes: int
    seconds: float = Field(description="Wall time, training and scoring, all seeds.")
    latency_us: float = Field(
        default=0, description="Wall time per validation query, text or image to ranks, in microseconds."
    )
    rungs: dict[int, float] = Field(default_factory=dict, description="Mean recall of the first seed by epoch.")

    def trial(self, states: str | None) -> FinetuneTrial:
        """Configure the same training again; it ends at once where its states have reached the last epoch."""
        return FinetuneTrial(
            method=self.method,
            adapter=self.adapter,
            images=self.shots,
            seeds=self.seeds,
            state=self.state,
            states=states,
        )

    @property
    def score(self) -> float:
        """What trials are chosen by: `mean_recall`, over seeds."""
        return sum(map(mean_recall, self.validation)) / len(self.validation)

    @property
    def score_error(self) -> float:
        """Standard error of the score, as of independent images: seeds rank the same ones."""
        return math.sqrt(self.score * (1 - self.score) / self.validation[0].image_to_text.queries)


def mean_recall(report: RetrievalReport) -> float:
    """Average recall over both directions and all K, in [0, 1]."""
    count = len(report.text_to_image.recall) + len(report.image_to_text.recall)
    return report.recall_sum / (100 * count)


def run_finetune(data: RetrievalData, trial: FinetuneTrial, *, device: torch.device | str = "cpu") -> FinetuneResult:
    """Train one seed after another, and measure recall on the validation split.

    A trial that was lost goes on where its states end, with the numbers of one that never was.

    Args:
        data: What tuning may see; it holds no test row.
        trial: What to run.
        device: Where heads are trained; an encoder takes a GPU if its process sees one.

    Raises:
        EpisodeError: There are fewer training images.
        ConfigError: The encoder cannot host the adapters.
        Diverged: Training reached a loss that is not finite.
        Pruned: A rung was missed.
    """
    begun = time.perf_counter()
    reports: list[RetrievalReport] = []
    rungs: dict[int, float] = {}
    parameters, scoring = 0, 0.0
    for seed in trial.seeds:
        with trained(data, trial, seed=seed, device=device, rungs=None if reports else rungs) as model:
            asked = time.perf_counter()
            reports.append(report_retrieval(model.ranks(data.validation, data.media)))
            scoring += time.perf_counter() - asked
            parameters = model.trained_parameters
    queries = len(trial.seeds) * (len(data.validation) + len(data.validation.texts))
    return FinetuneResult(
        method=trial.method,
        adapter=trial.adapter,
        shots=trial.images,
        seeds=trial.seeds,
        state=trial.state,
        validation=tuple(reports),
        trained_parameters=parameters,
        stored_bytes=4 * parameters,
        seconds=time.perf_counter() - begun,
        latency_us=1e6 * scoring / queries,
        rungs=rungs,
    )


@contextmanager
def trained(
    data: RetrievalData,
    trial: FinetuneTrial,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    rungs: dict[int, float] | None = None,
) -> Iterator[RetrievalModel]:
    """Train a method on one seed, or load it where its states have reached the last epoch.

    Args:
        data: Trained on its training images; its validation split is looked at on rungs only.
        trial: What to train.
        seed: One of the trial's.
        device: As for `run_finetune`.
        rungs: Takes the recalls on the trial's rungs; None compares nothing.

    Raises:
        XMAdapterError: As for `run_finetune`.
    """
    train = data.drawn(trial.images, seed=seed)
    with retrieval_model(
        trial.adapter,
        data.space,
        seed=seed,
        device=device,
    ) as model:
        if not isinstance(trial.adapter, ZeroShotRetrievalConfig):
            fit = trial.adapter.fit
            # A trial that is compared on the way starts anew when it is lost, as its comparisons do.
            folder = None if trial.rungs else trial.states
            file = StateFile(folder, f"{trial.state}-{seed}", fit.epochs) if folder else None

            def watch(epoch: ContrastiveEpoch, state: Callable[[], FitState]) -> None:
                if file is not None:
                    file.note(epoch, state)
                if rungs is not None:
                    _compare(model, data, trial, epoch.epoch, rungs)

            start = file.read() if file else None
            sides = model.sides(train, data.media)
            fit_contrastive(model.weights, sides, fit, seed=seed, start=start, on_epoch=watch)
        yield model


def _compare(
    model: RetrievalModel, data: RetrievalData, trial: FinetuneTrial, epoch: int, rungs: dict[int, float]
) -> None:
    needed = dict(trial.rungs)
    if epoch not in needed:
        return
    rungs[epoch] = mean_recall(report_retrieval(model.ranks(data.validation, data.media)))
    bar = needed[epoch]
    if bar is not None and rungs[epoch] < bar:
        raise Pruned(rungs)
