"""The report of a retrieval sweep as one HTML page that needs nothing beside itself."""

from collections import Counter

from xmadapter.reports import facts
from xmadapter.reports.recall.pairs import against_heads, against_zero_shot, economy
from xmadapter.reports.recall.report import RecallReport
from xmadapter.reports.recall.rows import COLUMNS, chosen_rows, measured_cells, spent
from xmadapter.reports.recall.sentences import captions_sentence, headline, interval_notes, origins, summary
from xmadapter.reports.recall.tables import setting_line
from xmadapter.reports.templates import fill

__all__ = ["render_recall_page"]


def render_recall_page(report: RecallReport, *, recall_png: bytes) -> str:
    """Lay out a report as HTML, with its picture inside; every text of it is escaped."""
    grid = report.grid
    command, steps = facts.mlflow_steps(report)
    blocks = []
    for images in grid.shots:
        finals = [final for final in grid.finals if final.choice.shots == images]
        took = [spent(final, report.trials) for final in finals]
        blocks.append((images, list(zip(finals, measured_cells(finals), took, strict=True))))
    values = {
        "kind": "retrieval",
        "report": report,
        "grid": grid,
        "headline": headline(grid),
        "summary": summary(report),
        "captions": captions_sentence(grid),
        "looks": facts.looks_sentence(report.looks),
        "recall_png": recall_png,
        "setting": setting_line(grid),
        "columns": COLUMNS,
        "groups": Counter(column.group for column in COLUMNS),
        "blocks": blocks,
        "against_zero_shot": against_zero_shot(grid),
        "against_heads": against_heads(grid),
        "economy": economy(grid),
        "chosen": chosen_rows(grid, report.trials),
        "failures": facts.failures(report.failures),
        "interval_notes": interval_notes(grid),
        "provenance": origins(report),
        "skips": facts.skips(report.manifest),
        "mlflow_command": command,
        "mlflow_steps": steps,
    }
    return fill("recall.html", values)
