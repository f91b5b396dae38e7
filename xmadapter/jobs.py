"""What pipelines and the CLI wrap, each one function: checking sources, final test, report, export."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from xmadapter.bundle import export_bundle
from xmadapter.config import EvaluateConfig, ExportConfig, ReportConfig, SweepConfig
from xmadapter.data import BadImage, read_media
from xmadapter.elsewhere import Elsewhere, check_elsewhere
from xmadapter.errors import ConfigError, DataError, FingerprintMismatch, some
from xmadapter.evaluation.retrieval import RetrievalReport, evaluate_retrieval
from xmadapter.features import FeatureStore, TestSet, TuningData, base_classes, load_plan, open_features
from xmadapter.final import FinalResult, predictions_table, run_final
from xmadapter.forecast import forecast
from xmadapter.ledger import Entry
from xmadapter.records import final_entry
from xmadapter.reports import Report, build_report, forecast_table, mlflow_steps, write_report
from xmadapter.results import SweepFolder, open_sweep_folder
from xmadapter.selection import choose, select_best
from xmadapter.storage import write_durably
from xmadapter.tracking import Tracker, tracking_uri
from xmadapter.trial import TrialResult

__all__ = [
    "WrittenReport",
    "check_sources",
    "evaluate_sweep",
    "export_choice",
    "forecast_sweeps",
    "measure_recall",
    "report_sweep",
    "sync",
]


def check_sources(store: FeatureStore) -> int:
    """Read every source image of a store again; returns how many are what was encoded.

    Raises:
        DataError: Images are gone or have other bytes; names some of them.
    """
    manifest = store.manifest
    plan = load_plan(store.root, manifest.recipe, manifest.plan_fingerprint)
    place = {sample.sample_id: sample.media for shard in plan.shards for sample in shard.samples}
    encoded = {}
    for info in manifest.shards:
        if info.modality == "image":
            table = store.read(info)
            encoded.update(zip(table["sample_id"].to_pylist(), table["source_sha256"].to_pylist(), strict=True))
    changed = [sample for sample, digest in tqdm(encoded.items(), unit="image") if _digest(place[sample]) != digest]
    if changed:
        raise DataError(
            f"{len(changed)} of {len(encoded)} source images changed since {store.root} was encoded: {some(changed)}; "
            "its features are kept; restore the images, or run pipelines.encode with replan=true"
        )
    return len(encoded)


def _digest(media: str) -> bytes | None:
    try:
        return hashlib.sha256(read_media(media)).digest()
    except BadImage:
        return None


def forecast_sweeps(configs: Sequence[SweepConfig]) -> str:
    """Say what sweeps would run and how long it would take on this machine; nothing is recorded.

    Raises:
        EpisodeError: A class has too few images.
        ConfigError: A method fails as it is configured.
    """
    return forecast_table(forecast(configs), slots=os.cpu_count() or 1)


def evaluate_sweep(config: EvaluateConfig) -> list[FinalResult]:
    """Choose by validation, refit, score the test split once, record.

    The look at the test split is counted before it happens; the report shows the count.

    Raises:
        ConfigError: No sweep, or it has no finished trial.
        TrackingError: The results are in the ledger, but MLflow has not received them.
    """
    folder = open_sweep_folder(config.sweep)
    store, best = _choices(folder)
    data = store.tuning(folder.config.protocol, folder.config.classes)
    shifted = _shifted(config, data)
    folder.append("look", str(folder.looks + 1), {"choices": [[result.method, result.shots] for result in best]})
    test, elsewhere = _open_tests(folder, store, shifted)
    results, tables = [], []
    device = "cuda" if folder.config.cluster.trial_gpus and torch.cuda.is_available() else "cpu"
    final = run_final(data, test, best, elsewhere, device=device)
    for result, predicted in tqdm(final, total=len(best), unit="method", desc="final test"):
        results.append(result)
        tables.append(predictions_table(test, result, predicted))
    path = folder.path / "predictions.parquet"
    write_durably(path, lambda file: pq.write_table(pa.concat_tables(tables), file, compression="zstd"))
    entry = final_entry(results, folder.studies(store.manifest.plan_fingerprint), looks=folder.looks)
    with _tracker(folder) as tracker:
        tracker.record(entry)
        _send_file(folder, tracker, store, path)
    return results


def measure_recall(features: str, split: str) -> tuple[RetrievalReport, int]:
    """Measure how captions find their images in a split of a store, and images their captions; also count its images.

    Raises:
        DataError: The store has no captions in the split.
    """
    store = open_features(features)
    data = store.captioned_test() if split == "test" else store.captioned("validation")
    text, image, own = (torch.from_numpy(part) for part in (data.text, data.image, data.image_of_text))
    return evaluate_retrieval(text, image, own), len(data)


def _shifted(config: EvaluateConfig, data: TuningData) -> dict[str, FeatureStore]:
    """Open the other stores and check that they can be compared, before any test split is looked at."""
    stores = {name: open_features(uri) for name, uri in config.shifted.items()}
    for name, store in stores.items():
        check_elsewhere(
            data,
            name,
            encoder_fingerprint=store.provenance.encoder_fingerprint,
            class_names=store.manifest.recipe.class_names,
        )
    return stores


def _open_tests(
    folder: SweepFolder, store: FeatureStore, shifted: Mapping[str, FeatureStore]
) -> tuple[TestSet, list[Elsewhere]]:
    """Open the test split, that of the novel classes apart, and those elsewhere."""
    test, others = store.test(), [Elsewhere(name, other.test(), other.texts()) for name, other in shifted.items()]
    if folder.config.classes == "all":
        return test, others
    classes = len(store.manifest.recipe.class_names)
    base = base_classes(classes)
    novel = Elsewhere("novel classes", test.of_classes(base, classes), store.texts().of_classes(base, classes))
    return test.of_classes(0, base), [novel, *others]


@dataclass(frozen=True)
class WrittenReport:
    """Where a report is, and how to compare the runs in MLflow: what starts it, and the page to open."""

    page: Path
    mlflow: str
    comparison: str


def report_sweep(config: ReportConfig) -> WrittenReport:
    """Write the report of an evaluated sweep: HTML, Markdown, CSV and the pictures.

    Raises:
        ConfigError: The sweep has not been evaluated.
        TrackingError: The report is written, but MLflow has not received it.
    """
    folder = open_sweep_folder(config.sweep)
    finals = folder.finals()
    if not finals:
        raise ConfigError(f"{config.sweep} has no final test; run pipelines.evaluate with sweep={config.sweep} first")
    store = _store(folder)
    trials = folder.results(store.manifest.plan_fingerprint)
    report = _report(folder, store, finals, trials)
    page = write_report(report, config.output)
    with _tracker(folder) as tracker:
        for name in (page.name, "results.csv", "accuracy.png"):
            _send_file(folder, tracker, store, page.with_name(name))
    return WrittenReport(page, *mlflow_steps(report))


def export_choice(config: ExportConfig) -> Path:
    """Export the chosen method as a bundle; by default the best by validation at the largest shot count.

    Raises:
        ConfigError: There is no such method, shot count or seed, or the output exists.
    """
    folder = open_sweep_folder(config.sweep)
    store, best = _choices(folder)
    choice = choose(best, method=config.method, shots=config.shots)
    tested = [final for final in folder.finals() if final.choice == choice]
    return export_bundle(
        store.tuning(folder.config.protocol, folder.config.classes),
        store.manifest,
        choice,
        seed=choice.seeds[0] if config.seed is None else config.seed,
        test=tested[-1].interval if tested else None,
        output=config.output,
    )


def sync(sweep: str) -> str:
    """Deliver what MLflow has not acknowledged; returns its address.

    Raises:
        TrackingError: The server is still not there; nothing is lost.
    """
    folder = open_sweep_folder(sweep)
    with _tracker(folder):
        return tracking_uri(folder.config.tracking)


@contextmanager
def _tracker(folder: SweepFolder) -> Iterator[Tracker]:
    tracker = Tracker(folder.config.tracking, folder.config.experiment, folder.ledger)
    yield tracker
    tracker.close()


def _send_file(folder: SweepFolder, tracker: Tracker, store: FeatureStore, path: Path) -> None:
    parents = sorted({study.parent for study in folder.studies(store.manifest.plan_fingerprint)})
    entry = Entry("artifact", f"{path.name}-{folder.looks}", {"parents": parents, "path": str(path.resolve())})
    tracker.record(entry)


def _store(folder: SweepFolder) -> FeatureStore:
    return open_features(folder.config.features)


def _choices(folder: SweepFolder) -> tuple[FeatureStore, list[TrialResult]]:
    store = _store(folder)
    best = select_best(folder.results(store.manifest.plan_fingerprint))
    if not best:
        known = {entry.body["tags"]["feature_manifest"] for entry in folder.ledger.entries("method")}
        if known and store.manifest.plan_fingerprint not in known:
            raise FingerprintMismatch(
                f"{folder.path} was swept on other features than {folder.config.features} holds now; nothing was scored; sweep again"
            )
        raise ConfigError(f"{folder.path} has no finished trial; run pipelines.sweep first")
    return store, best


def _report(folder: SweepFolder, store: FeatureStore, finals: list[FinalResult], trials: list[TrialResult]) -> Report:
    ended = [entry.body for entry in folder.ledger.entries("trial") if entry.body["result"] is None]
    failures = Counter(str(body["tags"]["failure"]) for body in ended if "failure" in body["tags"])
    return build_report(
        finals,
        trials,
        title=folder.config.experiment,
        manifest=store.manifest,
        config_fingerprint=folder.config.fingerprint,
        looks=folder.looks,
        failures=failures.most_common(),
        stopped=len(ended) - failures.total(),
        tracking_uri=tracking_uri(folder.config.tracking),
        experiment_id=_experiment_id(folder),
    )


def _experiment_id(folder: SweepFolder) -> str | None:
    ids = [entry.body.get("experiment") for entry in folder.ledger.entries("delivered")]
    return str(ids[-1]) if ids else None
