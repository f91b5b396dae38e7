"""write_recall_report: the report of a retrieval sweep as files, each durable, the page last."""

from pathlib import Path

from xmadapter.reports.recall.markdown import render_recall_markdown
from xmadapter.reports.recall.report import RecallReport
from xmadapter.reports.recall.tables import recall_comparison
from xmadapter.reports.writing import csv_bytes, write_files

__all__ = ["write_recall_report"]


def write_recall_report(report: RecallReport, output: str) -> Path:
    """Write report.html, report.md, results.csv and recall.png; the same report gives the same bytes.

    Args:
        report: What to write.
        output: Folder, made where it is absent; files of an earlier report are replaced.

    Returns:
        Path of report.html, which is written last and needs none of the others.

    Raises:
        ConfigError: The results were not measured in the same way; nothing was written.
        MissingExtra: matplotlib or jinja2 is not installed; nothing was written.
        ResourceError: The folder cannot be written.
    """
    return write_files(lambda: _contents(report), output)


def _contents(report: RecallReport) -> dict[str, bytes]:
    # Here, not above: tables must work, and start fast, where nobody draws.
    from xmadapter.reports.plots import plot_recall
    from xmadapter.reports.recall.page import render_recall_page

    picture = plot_recall(report.grid, title=report.title)
    page = render_recall_page(report, recall_png=picture)
    return {
        "recall.png": picture,
        "results.csv": csv_bytes(recall_comparison(report.finals, report.trials)),
        "report.md": render_recall_markdown(report).encode(),
        "report.html": page.encode(),
    }
