"""Report: everything a report says, checked, before any of it is laid out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from xmadapter.errors import FingerprintMismatch
from xmadapter.features import FeatureManifest, base_classes
from xmadapter.final import FinalResult
from xmadapter.reports.grid import Grid, make_grid
from xmadapter.reports.paired import Paired, compare
from xmadapter.trial import TrialResult

if TYPE_CHECKING:
    from xmadapter.reports.importance import Importance

__all__ = ["Report", "build_report"]


@dataclass(frozen=True)
class Report:
    """What was run, what came out, and where it comes from; `build_report` makes it.

    Args:
        title: Name of the data set or experiment.
        grid: Final results by method and shot count.
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
    grid: Grid
    trials: tuple[TrialResult, ...]
    manifest: FeatureManifest
    config_fingerprint: str
    looks: int
    failures: tuple[tuple[str, int], ...]
    stopped: int
    tracking_uri: str
    experiment_id: str | None

    @property
    def failed(self) -> int:
        """Number of trials that failed."""
        return sum(count for _, count in self.failures)

    @cached_property
    def importances(self) -> "tuple[Importance, ...]":
        """Which hyperparameters mattered."""
        from xmadapter.reports.importance import importances  # brings Optuna, which tables do without

        return tuple(importances(self.trials))

    @cached_property
    def pairs(self) -> tuple[Paired, ...]:
        """Differences of methods over the same episodes."""
        return compare(self.grid)


def build_report(  # noqa: PLR0913  one argument per fact; the caller has each in another place
    finals: Sequence[FinalResult],
    trials: Sequence[TrialResult],
    *,
    title: str,
    manifest: FeatureManifest,
    config_fingerprint: str,
    looks: int,
    failures: Sequence[tuple[str, int]],
    stopped: int,
    tracking_uri: str,
    experiment_id: str | None,
) -> Report:
    """Put the results of a sweep together, checked; see `Report` for the arguments.

    Raises:
        ConfigError: There is no result, or protocols, seeds or test splits differ between results.
        FingerprintMismatch: The features have another number of classes than the results.
    """
    grid = make_grid(finals)
    found = {len(final.class_accuracy) for final in finals}
    classes = len(manifest.recipe.class_names)
    if found not in ({classes}, {base_classes(classes)}):
        raise FingerprintMismatch(
            f"the results have {', '.join(map(str, sorted(found)))} classes, the features {classes}; nothing was written; "
            "report with the features that were swept"
        )
    return Report(
        title,
        grid,
        tuple(trials),
        manifest,
        config_fingerprint,
        looks,
        tuple(failures),
        stopped,
        tracking_uri,
        experiment_id,
    )
