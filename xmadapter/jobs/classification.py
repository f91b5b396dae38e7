"""A classification sweep after its trials: final test, report, export."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Int
from tqdm import tqdm

from xmadapter.bundle import export_bundle
from xmadapter.config import ClusterConfig, EvaluateConfig, ExportConfig, SweepConfig
from xmadapter.elsewhere import Elsewhere, check_elsewhere
from xmadapter.features import FeatureStore, TestSet, TuningData, base_classes, open_features
from xmadapter.final import PREDICTIONS, FinalResult, predictions_table, run_final
from xmadapter.fingerprint import fingerprint
from xmadapter.jobs.delivery import (
    WrittenReport,
    choices,
    experiment_id,
    failed_trials,
    not_evaluated,
    open_tracker,
    send_file,
)
from xmadapter.records import final_entry
from xmadapter.reports import build_report, mlflow_steps, write_report
from xmadapter.results import SweepFolder
from xmadapter.selection import choose
from xmadapter.storage import make_folder, write_durably
from xmadapter.tracking import tracking_uri
from xmadapter.trial import TrialResult

__all__ = ["Scorer", "evaluate_classification", "export_classification", "report_classification", "score_here"]


Scorer: TypeAlias = Callable[
    [TuningData, TestSet, Sequence[TrialResult], Sequence[Elsewhere], ClusterConfig],
    Iterator[tuple[FinalResult, Int[np.ndarray, "seeds n"]]],
]
"""Refits choices and scores the test splits, in order: in this process, or on a cluster."""


def score_here(
    data: TuningData,
    test: TestSet,
    choices: Sequence[TrialResult],
    elsewhere: Sequence[Elsewhere],
    cluster: ClusterConfig,
) -> Iterator[tuple[FinalResult, Int[np.ndarray, "seeds n"]]]:
    """Refit and score one choice after another in this process, as `run_final`."""
    device = "cuda" if cluster.trial_gpus and torch.cuda.is_available() else "cpu"
    return run_final(data, test, choices, elsewhere, device=device)


def evaluate_classification(
    config: EvaluateConfig, folder: SweepFolder, sweep: SweepConfig, score: Scorer
) -> list[FinalResult]:
    """Choose by validation, refit, score the test split once, record; as `evaluate_sweep`.

    A choice that was scored already, in an interrupted evaluation or before another method was added, is not fitted again.
    """
    store, best = choices(folder, TrialResult)
    data = store.tuning(sweep.protocol, sweep.classes)
    shifted = _shifted(config, data)
    folder.begin_look(best)
    test, elsewhere = _open_tests(sweep, store, shifted)
    cluster = config.cluster or sweep.cluster
    on = [sweep.classes, store.manifest.plan_fingerprint]
    on += [f"{name} {other.manifest.plan_fingerprint}" for name, other in shifted.items()]
    scored = _scored(folder, test, best, on, lambda missing: score(data, test, missing, elsewhere, cluster))
    path = folder.path / "predictions.parquet"
    _write_tables(path, (pq.read_table(part) for _, part in scored))
    results = [result for result, _ in scored]
    entry = final_entry(results, folder.studies(store.manifest.plan_fingerprint), looks=folder.looks)
    with open_tracker(folder) as tracker:
        tracker.record(entry)
        send_file(folder, tracker, store, path)
    return results


def _scored(
    folder: SweepFolder,
    test: TestSet,
    best: Sequence[TrialResult],
    on: Sequence[str],
    score: Callable[[Sequence[TrialResult]], Iterator[tuple[FinalResult, Int[np.ndarray, "seeds n"]]]],
) -> list[tuple[FinalResult, Path]]:
    """Score the choices that were not scored on this before; returns all results, and where the predictions of each lie."""
    keys = [fingerprint([choice.model_dump(mode="json"), *on]) for choice in best]
    parts = {key: make_folder(folder.path / "predictions") / f"{key}.parquet" for key in keys}
    scored = folder.scored(FinalResult)
    missing = {
        key: choice for key, choice in zip(keys, best, strict=True) if key not in scored or not parts[key].is_file()
    }
    final = score(list(missing.values()))
    bar = tqdm(final, initial=len(best) - len(missing), total=len(best), unit="method", desc="final test")
    for key, (result, predicted) in zip(missing, bar, strict=True):
        _write_tables(parts[key], [predictions_table(test, result, predicted)])
        folder.append("scored", key, result.model_dump(mode="json"))
        scored[key] = result
    return [(scored[key], parts[key]) for key in keys]


def _write_tables(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables of one schema into one file, one at a time."""

    def write(file: BinaryIO) -> None:
        with pq.ParquetWriter(file, PREDICTIONS, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table)

    write_durably(path, write)


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
    sweep: SweepConfig, store: FeatureStore, shifted: Mapping[str, FeatureStore]
) -> tuple[TestSet, list[Elsewhere]]:
    """Open the test split, that of the novel classes apart, and those elsewhere."""
    test, others = store.test(), [Elsewhere(name, other.test(), other.texts()) for name, other in shifted.items()]
    if sweep.classes == "all":
        return test, others
    classes = len(store.manifest.recipe.class_names)
    base = base_classes(classes)
    novel = Elsewhere("novel classes", test.of_classes(base, classes), store.texts().of_classes(base, classes))
    return test.of_classes(0, base), [novel, *others]


def report_classification(folder: SweepFolder, output: str) -> WrittenReport:
    """Write the report of an evaluated sweep, as `report_sweep`."""
    finals = folder.finals(FinalResult)
    if not finals:
        raise not_evaluated(folder)
    store = open_features(folder.config.features)
    failures, stopped = failed_trials(folder)
    report = build_report(
        finals,
        folder.results(store.manifest.plan_fingerprint, TrialResult),
        title=folder.config.experiment,
        manifest=store.manifest,
        config_fingerprint=folder.config.fingerprint,
        looks=folder.looks,
        failures=failures,
        stopped=stopped,
        tracking_uri=tracking_uri(folder.config.tracking),
        experiment_id=experiment_id(folder),
    )
    page = write_report(report, output)
    with open_tracker(folder) as tracker:
        for name in (page.name, "results.csv", "accuracy.png"):
            send_file(folder, tracker, store, page.with_name(name))
    return WrittenReport(page, *mlflow_steps(report))


def export_classification(config: ExportConfig, folder: SweepFolder, sweep: SweepConfig) -> Path:
    """Export the chosen method as a bundle, as `export_choice`."""
    store, best = choices(folder, TrialResult)
    choice = choose(best, method=config.method, shots=config.shots)
    tested = [final for final in folder.finals(FinalResult) if final.choice == choice]
    return export_bundle(
        store.tuning(sweep.protocol, sweep.classes),
        store.manifest,
        choice,
        seed=choice.seeds[0] if config.seed is None else config.seed,
        test=tested[-1].interval if tested else None,
        output=config.output,
    )
