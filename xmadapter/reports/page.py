"""The report of a classification sweep as one HTML page that needs nothing beside itself."""

from xmadapter.reports import facts
from xmadapter.reports.choices import chosen_rows, class_rows, cost_rows
from xmadapter.reports.elsewhere import elsewhere_tables, short_classes
from xmadapter.reports.paired import by_pair, losses
from xmadapter.reports.report import Report
from xmadapter.reports.tables import setting_line
from xmadapter.reports.templates import fill

__all__ = ["render_page"]


def render_page(report: Report, *, accuracy_png: bytes, cost_png: bytes) -> str:
    """Lay out a report as HTML, with its pictures inside.

    Args:
        report: What to say; every text of it is escaped.
        accuracy_png: Accuracy over shots.
        cost_png: Accuracy over stored size.
    """
    grid, manifest = report.grid, report.manifest
    command, steps = facts.mlflow_steps(report)
    values = {
        "kind": "few-shot",
        "report": report,
        "grid": grid,
        "headline": facts.headline(grid),
        "summary": facts.summary(report),
        "looks": facts.looks_sentence(report.looks),
        "setting": setting_line(grid),
        "accuracy_png": accuracy_png,
        "cost_png": cost_png,
        "short": short_classes(grid),
        "elsewhere": elsewhere_tables(grid),
        "differences": by_pair(report.pairs),
        "losses": losses(grid, report.pairs),
        "classes": class_rows(grid.best, manifest.recipe.class_names[: len(grid.best.class_accuracy)]),
        "costs": cost_rows(grid, report.trials),
        "chosen": chosen_rows(grid, report.trials),
        "importance_note": facts.IMPORTANCE_NOTE,
        "importances": report.importances,
        "failures": facts.failures(report.failures),
        "interval_notes": facts.interval_notes(report),
        "provenance": facts.provenance(manifest, config_fingerprint=report.config_fingerprint),
        "skips": facts.skips(manifest),
        "mlflow_command": command,
        "mlflow_steps": steps,
    }
    return fill("page.html", values)
