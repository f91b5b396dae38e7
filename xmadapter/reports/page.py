"""The report as one HTML page that needs nothing beside itself. The only importer of jinja2."""

import base64
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from xmadapter.reports import facts
from xmadapter.reports.choices import chosen_rows, class_rows, cost_rows
from xmadapter.reports.elsewhere import elsewhere_tables, short_classes
from xmadapter.reports.paired import by_pair, losses, paired_bounds
from xmadapter.reports.report import Report
from xmadapter.reports.tables import accuracy_cell, setting_line
from xmadapter.reports.wording import percent, points, shots_title, visible

__all__ = ["render_page"]


def render_page(report: Report, *, accuracy_png: bytes, cost_png: bytes) -> str:
    """Lay out a report as HTML, with its pictures inside.

    Args:
        report: What to say; every text of it is escaped.
        accuracy_png: Accuracy over shots.
        cost_png: Accuracy over stored size.
    """
    # Everything is escaped; nothing in the template is marked safe.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "visible": visible,
        "percent": percent,
        "shots_title": shots_title,
        "accuracy": accuracy_cell,
        "points": points,
        "inside": paired_bounds,
    }
    template = environment.from_string(files("xmadapter.reports").joinpath("page.html").read_text(encoding="utf-8"))
    grid, manifest = report.grid, report.manifest
    command, steps = facts.mlflow_steps(report)
    return template.render(
        report=report,
        grid=grid,
        headline=facts.headline(grid),
        summary=facts.summary(report),
        looks=facts.looks_sentence(report.looks),
        setting=setting_line(grid),
        accuracy_png=base64.b64encode(accuracy_png).decode(),
        cost_png=base64.b64encode(cost_png).decode(),
        short=short_classes(grid),
        elsewhere=elsewhere_tables(grid),
        differences=by_pair(report.pairs),
        losses=losses(grid, report.pairs),
        classes=class_rows(grid.best, manifest.recipe.class_names[: len(grid.best.class_accuracy)]),
        costs=cost_rows(grid, report.trials),
        chosen=chosen_rows(grid, report.trials),
        importance_note=facts.IMPORTANCE_NOTE,
        importances=report.importances,
        failures=facts.failures(report),
        interval_notes=facts.interval_notes(report),
        provenance=facts.provenance(report),
        skips=facts.skips(manifest),
        mlflow_command=command,
        mlflow_steps=steps,
    )
