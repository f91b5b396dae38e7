"""A sweep over captioned images after its trials: final test, report, export."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from xmadapter.config import ExportConfig
from xmadapter.features import FeatureStore, open_features
from xmadapter.jobs.delivery import (
    WrittenReport,
    choices,
    experiment_id,
    failed_trials,
    not_evaluated,
    open_tracker,
    send_file,
)
from xmadapter.records import recall_entry
from xmadapter.reports import RecallReport, mlflow_steps, write_recall_report
from xmadapter.results import SweepFolder
from xmadapter.retrieval import (
    FinetuneResult,
    RetrievalFinal,
    RetrievalTest,
    export_retrieval,
    final_retrieval,
    ranks_table,
)
from xmadapter.selection import choose
from xmadapter.storage import write_durably
from xmadapter.study import Study
from xmadapter.tracking import tracking_uri

__all__ = ["evaluate_retrieval_sweep", "export_retrieval_choice", "report_retrieval_sweep"]


def evaluate_retrieval_sweep(folder: SweepFolder) -> list[RetrievalFinal]:
    """Choose by validation, rank the test split once, record; as `evaluate_sweep`."""
    store, best = choices(folder, FinetuneResult)
    data = store.retrieval()
    best.sort(key=lambda result: result.adapter.kind != "zero-shot")  # what the others are compared with comes first
    folder.begin_look(best)
    captioned = store.captioned_test()
    test = RetrievalTest(captioned, store.media(set(captioned.sample_ids)))
    device = "cuda" if folder.config.cluster.trial_gpus and torch.cuda.is_available() else "cpu"
    results, tables = [], []
    final = final_retrieval(data, test, [(choice, _states(folder, store)) for choice in best], device=device)
    for result, ranks in tqdm(final, total=len(best), unit="method", desc="final test"):
        results.append(result)
        tables.append(ranks_table(test, result, ranks))
    path = folder.path / "ranks.parquet"
    write_durably(path, lambda file: pq.write_table(pa.concat_tables(tables), file, compression="zstd"))
    with open_tracker(folder) as tracker:
        tracker.record(recall_entry(results, _studies(folder, store), looks=folder.looks))
        send_file(folder, tracker, store, path)
    return results


def report_retrieval_sweep(folder: SweepFolder, output: str) -> WrittenReport:
    """Write the report of an evaluated sweep, as `report_sweep`."""
    finals = folder.finals(RetrievalFinal)
    if not finals:
        raise not_evaluated(folder)
    store = open_features(folder.config.features)
    failures, stopped = failed_trials(folder)
    report = RecallReport(
        title=folder.config.experiment,
        finals=tuple(finals),
        trials=tuple(folder.results(store.manifest.plan_fingerprint, FinetuneResult)),
        manifest=store.manifest,
        config_fingerprint=folder.config.fingerprint,
        looks=folder.looks,
        failures=tuple(failures),
        stopped=stopped,
        tracking_uri=tracking_uri(folder.config.tracking),
        experiment_id=experiment_id(folder),
    )
    page = write_recall_report(report, output)
    with open_tracker(folder) as tracker:
        for name in (page.name, "results.csv", "recall.png"):
            send_file(folder, tracker, store, page.with_name(name))
    return WrittenReport(page, *mlflow_steps(report))


def export_retrieval_choice(config: ExportConfig, folder: SweepFolder) -> Path:
    """Export the chosen method as a bundle, as `export_choice`; `shots` of the config are training images here."""
    store, best = choices(folder, FinetuneResult)
    choice = choose(best, method=config.method, shots=config.shots)
    tested = [final for final in folder.finals(RetrievalFinal) if final.choice == choice]
    return export_retrieval(
        store.retrieval(),
        store.manifest,
        choice,
        seed=choice.seeds[0] if config.seed is None else config.seed,
        features=folder.config.features,
        test=tested[-1].recall("text_to_image", 1) if tested else None,
        states=_states(folder, store),
        output=config.output,
    )


def _studies(folder: SweepFolder, store: FeatureStore) -> list[Study]:
    return folder.studies(store.manifest.plan_fingerprint)


def _states(folder: SweepFolder, store: FeatureStore) -> str | None:
    return _studies(folder, store)[0].states
