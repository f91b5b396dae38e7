"""What pipelines and the CLI wrap, each one function: checking sources, final test, report, export."""

from pathlib import Path

from xmadapter.config import EvaluateConfig, ExportConfig, FinetuneConfig, ReportConfig
from xmadapter.errors import ConfigError
from xmadapter.jobs.checks import check_sources, forecast_sweeps, measure_recall
from xmadapter.jobs.classification import (
    Scorer,
    evaluate_classification,
    export_classification,
    report_classification,
    score_here,
)
from xmadapter.jobs.delivery import WrittenReport, sync
from xmadapter.jobs.retrieval import evaluate_retrieval_sweep, export_retrieval_choice, report_retrieval_sweep
from xmadapter.reports import recall_summary, summary_table
from xmadapter.results import open_sweep_folder

__all__ = [
    "Scorer",
    "WrittenReport",
    "check_sources",
    "evaluate_sweep",
    "export_choice",
    "forecast_sweeps",
    "measure_recall",
    "report_sweep",
    "score_here",
    "sync",
]


def evaluate_sweep(config: EvaluateConfig, *, score: Scorer = score_here) -> str:
    """Choose by validation, refit, look at the test split once, record; the table to print.

    The look at the test split is counted before it happens; the report shows the count.

    Args:
        config: Which sweep.
        score: Refits and scores the choices of a classification sweep; those over captions were trained by their trials.

    Raises:
        ConfigError: No sweep, or it has no finished trial.
        TrackingError: The results are in the ledger, but MLflow has not received them.
    """
    folder = open_sweep_folder(config.sweep)
    if not isinstance(folder.config, FinetuneConfig):
        return summary_table(evaluate_classification(config, folder, folder.config, score))
    if config.shifted:
        raise ConfigError("shifted compares classes, and captions have none; nothing was scored; leave it out")
    return recall_summary(evaluate_retrieval_sweep(folder))


def report_sweep(config: ReportConfig) -> WrittenReport:
    """Write the report of an evaluated sweep: HTML, Markdown, CSV and the pictures.

    Raises:
        ConfigError: The sweep has not been evaluated.
        TrackingError: The report is written, but MLflow has not received it.
    """
    folder = open_sweep_folder(config.sweep)
    if isinstance(folder.config, FinetuneConfig):
        return report_retrieval_sweep(folder, config.output)
    return report_classification(folder, config.output)


def export_choice(config: ExportConfig) -> Path:
    """Export the chosen method as a bundle; by default the best by validation at the largest shot count.

    Raises:
        ConfigError: There is no such method, shot count or seed, or the output exists.
    """
    folder = open_sweep_folder(config.sweep)
    if isinstance(folder.config, FinetuneConfig):
        return export_retrieval_choice(config, folder)
    return export_classification(config, folder, folder.config)
