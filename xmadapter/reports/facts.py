"""What a report says in words: what was run, how to read the intervals, and where the numbers come from."""

import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import quote, urlencode

from xmadapter.config import EmbeddedSpec, EncoderSpec, OpenClipSpec, SelectionProtocol, TinySpec
from xmadapter.features import FeatureManifest
from xmadapter.final import FinalResult
from xmadapter.reports.grid import Grid
from xmadapter.reports.report import Report
from xmadapter.reports.tables import accuracy_cell
from xmadapter.reports.wording import count_of, listed, percent, shots_title, visible

__all__ = [
    "Delivered",
    "Fact",
    "IMPORTANCE_NOTE",
    "failures",
    "headline",
    "image_counts",
    "importance_lines",
    "interval_notes",
    "looks_sentence",
    "mlflow_steps",
    "provenance",
    "skips",
    "summary",
]

_PROTOCOLS: Mapping[SelectionProtocol, str] = {
    "fewshot-val": "hyperparameters are chosen on min(shots, 4) validation images per class, drawn anew for each seed, "
    "and from two shots on also on the support, each half held out in turn",
    "full-val": "hyperparameters are chosen on the whole validation split, which holds more labels than the shots do",
    "no-val": "hyperparameters are chosen on the support alone, held out in turn; at one shot nothing is chosen",
    "oracle": "hyperparameters are chosen on the test split itself, to reproduce published numbers that were; they are too high",
}
_MOST_SKIPS = 50
IMPORTANCE_NOTE = (
    "How far each searched hyperparameter sets the best quarter of a method's trials apart (PED-ANOVA, as Optuna computes it); "
    "trials count by their rank among those of the same shot count. Of few trials this is a hint, not a finding."
)


class Fact(NamedTuple):
    """A named value of the provenance."""

    name: str
    value: str


class Delivered(Protocol):
    """What is asked of a report to find its runs in MLflow; see `Report`."""

    @property
    def title(self) -> str:
        """Name of the experiment."""
        ...

    @property
    def tracking_uri(self) -> str:
        """Address of MLflow."""
        ...

    @property
    def experiment_id(self) -> str | None:
        """Of the MLflow experiment; None while nothing was delivered."""
        ...


def headline(grid: Grid) -> str:
    """Name the method that choosing prefers at the largest shot count, with its test accuracy."""
    best = grid.best
    interval, held_out = best.interval, best.choice.validation_rows + best.choice.held_out_rows
    spread = f" ({100 * interval.level:.0f} % interval over seeds)" if interval.high > interval.low else ""
    return (
        f"At {shots_title(best.choice.shots)}, {visible(best.choice.method)} does best on the images held out for choosing: "
        f"{accuracy_cell(best)} % on the test split{spread}, {percent(best.choice.score)} % on "
        f"{count_of(held_out, 'such image')}{' per seed' if len(grid.seeds) > 1 else ''}."
    )


def summary(report: Report) -> str:
    """Say in one paragraph what was run."""
    grid, images = report.grid, image_counts(report.manifest)
    return (
        f"{count_of(len(grid.methods), 'method')} at {listed(grid.shots)} shots per class on {visible(report.title)}: "
        f"{_class_count(report)}, {images['train']:,} training, "
        f"{images['validation']:,} validation and {images['test']:,} test images, all encoded by one frozen encoder. "
        f"Under the protocol {grid.protocol}, {_PROTOCOLS[grid.protocol]}; {_test_labels(grid)}. "
        f"Every number is a mean over {count_of(len(grid.seeds), 'seed')} ({listed(grid.seeds)}); "
        f"a seed decides which training images are the shots. {count_of(len(report.trials), 'trial')} finished, "
        f"{f'{report.stopped:,} were stopped early, ' if report.stopped else ''}{report.failed:,} failed."
    )


def _class_count(report: Report) -> str:
    """Count the classes; of a half, say so."""
    classes, tested = len(report.manifest.recipe.class_names), len(report.grid.best.class_accuracy)
    base = "" if tested == classes else f", of which the first {tested} are base classes that methods are fitted to"
    return f"{count_of(classes, 'class', 'classes')}{base}"


def _test_labels(grid: Grid) -> str:
    return "every choice saw the test labels" if grid.protocol == "oracle" else "no test label takes part in any choice"


def looks_sentence(looks: int) -> str:
    """Say how often the test split was looked at, and what more than once means."""
    if looks <= 1:
        return f"The test split was looked at {count_of(looks, 'time')} in this sweep."
    return (
        f"Warning: the test split was looked at {looks:,} times in this sweep. If anything was changed after an earlier look, "
        "these test accuracies are too high by an unknown amount."
    )


def interval_notes(report: Report) -> list[str]:
    """Define every interval of the report."""
    grid = report.grid
    level = f"{100 * grid.finals[0].interval.level:.0f} %"
    first = grid.best
    differences = (
        f"Differences: the {level} interval by Student's t of the difference per seed, on the same shots and the same test images. "
        "Another test split would add a spread of its own."
    )
    return [
        f"After ±: half the {level} interval of the mean over seeds, by Student's t. It says how much the draw of the shots matters, "
        "on this test split. There is none for one seed, nor for a method whose result is the same in every seed.",
        *([differences] if report.pairs else []),
        f"How much the choice of test images matters, results.csv says twice: by a bootstrap over images, with all seeds of an image "
        f"together, and by Wilson's interval of the first seed. For {visible(first.choice.method)} at "
        f"{shots_title(first.choice.shots)}: {_other_images(first)} ({count_of(first.test_rows, 'test image')}).",
    ]


def _other_images(final: FinalResult) -> str:
    """Write the two intervals over test images; results of earlier versions have no bootstrap."""
    wilson, bootstrap = final.wilson[0], final.bootstrap
    first = f"{percent(bootstrap.low)} to {percent(bootstrap.high)} %, and " if bootstrap else ""
    return f"{first}{percent(wilson.low)} to {percent(wilson.high)} % for seed {final.choice.seeds[0]}"


def failures(reasons: Sequence[tuple[str, int]]) -> list[str]:
    """List why trials failed, the commonest reason first; of many, the first."""
    lines = [f"{count_of(count, 'trial')}: {visible(reason[:300])}" for reason, count in reasons[:_MOST_SKIPS]]
    rest = len(reasons) - _MOST_SKIPS
    return [*lines, f"and {rest:,} more reasons, in the ledger"] if rest > 0 else lines


def importance_lines(report: Report) -> list[str]:
    """Say method by method which hyperparameters mattered."""
    return [
        f"{visible(one.method)} ({count_of(one.trials, 'trial')}): "
        + listed(f"{visible(name)} {percent(share)} %" for name, share in one.shares.items())
        for one in report.importances
    ]


def provenance(manifest: FeatureManifest, *, config_fingerprint: str) -> list[Fact]:
    """List what identifies the encoder, the data and the config."""
    recipe, encoder = manifest.recipe, manifest.recipe.encoder
    return [
        Fact("encoder", _encoder_name(encoder)),
        Fact("encoder fingerprint", encoder.fingerprint),
        Fact("weights sha256", encoder.weights_sha256 or "not recorded"),
        *([Fact("prompts", " | ".join(map(visible, recipe.prompts)))] if recipe.class_names else []),
        Fact("views per training image", f"1 by the test transform, {recipe.views} augmented"),
        Fact("split hash", manifest.split_hash),
        Fact("feature manifest", manifest.plan_fingerprint),
        Fact("config fingerprint", config_fingerprint),
        Fact("skipped samples", f"{len(manifest.skipped):,}"),
    ]


def skips(manifest: FeatureManifest) -> list[str]:
    """List samples that could not be read, with their reasons; of many, the first."""
    lines = [f"{visible(skip.sample_id)}: {visible(skip.reason)}" for skip in manifest.skipped[:_MOST_SKIPS]]
    rest = len(manifest.skipped) - _MOST_SKIPS
    return [*lines, f"and {rest:,} more, in the manifest of the features"] if rest > 0 else lines


def mlflow_steps(report: Delivered) -> tuple[str, str]:
    """Say how to compare the methods in MLflow: what starts it or where it runs, and the page to open.

    The page shows the method runs alone, as charts over shots; without the filter MLflow lists trials first.
    """
    uri = visible(_without_password(report.tracking_uri))
    remote = uri.startswith(("http://", "https://"))
    start = uri if remote else f"mlflow server --backend-store-uri {shlex.quote(uri)} --host 127.0.0.1 --port 5000"
    if report.experiment_id is None:
        return start, f"experiment {visible(report.title)}, once its runs are delivered"
    query = urlencode(
        {"searchFilter": "tags.level = 'method'", "compareRunsMode": "CHART", "workflowType": "machine_learning"},
        quote_via=quote,
    )
    base = uri.rstrip("/") if remote else "http://127.0.0.1:5000"
    return start, f"{base}/#/experiments/{report.experiment_id}/runs?{query}"


def image_counts(manifest: FeatureManifest) -> dict[str, int]:
    """Count the images of each split."""
    splits = ("train", "validation", "test")
    return {split: sum(shard.rows // shard.views for shard in manifest.of(split)) for split in splits}


def _encoder_name(encoder: EncoderSpec) -> str:
    match encoder:
        case OpenClipSpec(model=model, pretrained=pretrained, precision=precision):
            return visible(f"open_clip {model}, {pretrained or 'no pretrained tag'}, {precision}")
        case TinySpec(dim=dim):
            return f"tiny, {dim} dimensions (a random projection for tests)"
        case EmbeddedSpec():
            return "embedded"


def _without_password(uri: str) -> str:
    """Hide what stands between `://` and `@`: a report is passed on."""
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}***@{rest.rpartition('@')[2]}" if separator and "@" in rest else uri
