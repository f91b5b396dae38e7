"""RecallReport: everything the report of a retrieval sweep says, before any of it is laid out."""

from dataclasses import dataclass
from functools import cached_property

from xmadapter.features import FeatureManifest
from xmadapter.reports.grid import Grid, make_recall_grid
from xmadapter.retrieval import FinetuneResult, RetrievalFinal

__all__ = ["RecallReport"]


@dataclass(frozen=True)
class RecallReport:
    """What was run, what came out, and where it comes from.

    Args:
        title: Name of the data set or experiment.
        finals: One per method and number of training images, which is `choice.shots`.
        trials: All trials that finished.
        manifest: Of the features that everything was run on.
        config_fingerprint: Of the sweep's resolved config.
        looks: How often the test split was looked at in this sweep.
        failures: Reasons of failed trials and how often each, the commonest first.
        stopped: Number of trials that were stopped early.
        tracking_uri: Address of MLflow.
        experiment_id: Of the MLflow experiment; None while nothing was delivered.
    """

    title: str
    finals: tuple[RetrievalFinal, ...]
    trials: tuple[FinetuneResult, ...]
    manifest: FeatureManifest
    config_fingerprint: str
    looks: int
    failures: tuple[tuple[str, int], ...]
    stopped: int
    tracking_uri: str
    experiment_id: str | None

    @cached_property
    def grid(self) -> Grid[RetrievalFinal]:
        """The results by method and number of training images.

        Raises:
            ConfigError: They were not measured in the same way.
        """
        return make_recall_grid(self.finals)

    @property
    def failed(self) -> int:
        """Number of trials that failed."""
        return sum(count for _, count in self.failures)
