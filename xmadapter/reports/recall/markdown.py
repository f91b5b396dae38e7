"""The report of a retrieval sweep as Markdown."""

from xmadapter.reports import facts
from xmadapter.reports.markdown import bullets, escaped, table_markdown
from xmadapter.reports.recall.pairs import against_heads, against_zero_shot, economy
from xmadapter.reports.recall.report import RecallReport
from xmadapter.reports.recall.rows import COLUMNS, Cell, chosen_rows, measured_cells, spent
from xmadapter.reports.recall.sentences import captions_sentence, headline, interval_notes, origins, summary
from xmadapter.reports.recall.tables import setting_line
from xmadapter.reports.wording import count_of, percent

__all__ = ["render_recall_markdown"]


def render_recall_markdown(report: RecallReport) -> str:
    """Lay out a report as Markdown."""
    grid = report.grid
    command, steps = facts.mlflow_steps(report)
    sections = [
        f"# {escaped(report.title)}",
        escaped(headline(grid)),
        escaped(summary(report)),
        escaped(captions_sentence(grid)),
        escaped(facts.looks_sentence(report.looks)),
        "![Recall](recall.png)",
        "## Test recall in %",
        f"Best in bold. {escaped(setting_line(grid))}",
        *(part for images in grid.shots for part in _block(report, images)),
        "## Against zero-shot",
        bullets(against_zero_shot(grid)),
        "## Against linear heads",
        bullets(against_heads(grid)),
        "## Recall for the parameters trained",
        bullets(economy(grid)),
        "## Chosen hyperparameters",
        _chosen(report),
        *(["## Why trials failed", bullets(facts.failures(report.failures))] if report.failures else []),
        "## How to read the intervals",
        bullets(interval_notes(grid)),
        "## Provenance",
        bullets([f"{fact.name}: {fact.value}" for fact in origins(report)]),
        *([bullets(facts.skips(report.manifest))] if report.manifest.skipped else []),
        "## Compare in MLflow",
        f"    {command}",
        escaped(steps),
    ]
    return "\n\n".join(sections) + "\n"


def _block(report: RecallReport, images: int) -> list[str]:
    finals = [final for final in report.grid.finals if final.choice.shots == images]
    header = ["method", *(f"{column.group}: {column.title}" for column in COLUMNS)]
    rows = []
    for final, cells in zip(finals, measured_cells(finals), strict=True):
        took = spent(final, report.trials)
        costs = [
            f"{took.trained_parameters:,}",
            f"{took.stored_kb:,.1f}",
            f"{took.trials:,}",
            f"{took.trial_seconds:,.1f}",
        ]
        rows.append([escaped(final.choice.method), *map(_cell, cells), *costs])
    return [
        f"### {count_of(images, 'training image')}",
        table_markdown([*header, "trained parameters", "stored kB", "trials", "trial-seconds"], rows),
    ]


def _cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    if not cell.below:
        return text
    return f"{text} {cell.below}" if cell.below.startswith("±") else f"{text} ({cell.below})"


def _chosen(report: RecallReport) -> str:
    rows = [
        [escaped(row.method), f"{row.images:,}", percent(row.validation), escaped(row.values or "defaults")]
        for row in chosen_rows(report.grid, report.trials)
    ]
    return table_markdown(["method", "training images", "mean recall on validation, %", "hyperparameters"], rows)
