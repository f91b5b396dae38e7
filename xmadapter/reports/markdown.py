"""The report as Markdown: tables, what they do not show, and provenance."""

import re
from collections.abc import Sequence

from xmadapter.final import FinalResult
from xmadapter.reports import facts
from xmadapter.reports.elsewhere import elsewhere_tables, short_classes
from xmadapter.reports.facts import headline, interval_notes, looks_sentence, mlflow_steps, provenance, skips, summary
from xmadapter.reports.grid import Grid
from xmadapter.reports.paired import Paired, by_pair, losses, paired_cell
from xmadapter.reports.report import Report
from xmadapter.reports.tables import accuracy_cell, setting_line
from xmadapter.reports.wording import percent, shots_title, visible

__all__ = [
    "accuracy_markdown",
    "bullets",
    "elsewhere_markdown",
    "escaped",
    "paired_markdown",
    "render_markdown",
    "table_markdown",
]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")


def render_markdown(report: Report) -> str:
    """Lay out a report as Markdown."""
    grid = report.grid
    command, steps = mlflow_steps(report)
    sections = [
        f"# {escaped(report.title)}",
        *(
            ["**Protocol oracle: chosen on the test split; these accuracies are too high.**"]
            if grid.protocol == "oracle"
            else []
        ),
        escaped(headline(grid)),
        escaped(summary(report)),
        escaped(looks_sentence(report.looks)),
        *map(escaped, short_classes(grid)),
        "![Test accuracy over shots](accuracy.png)",
        "## Test accuracy in %",
        f"In brackets: validation accuracy. {escaped(setting_line(grid))}",
        accuracy_markdown(grid),
        *elsewhere_markdown(grid),
        *(["## Differences in percent points", paired_markdown(report.pairs)] if report.pairs else []),
        "## Where methods lose to the linear probe",
        bullets(losses(grid, report.pairs)),
        *(
            ["## Which hyperparameters mattered", facts.IMPORTANCE_NOTE, bullets(facts.importance_lines(report))]
            if report.importances
            else []
        ),
        *(["## Why trials failed", bullets(facts.failures(report.failures))] if report.failures else []),
        "## How to read the intervals",
        bullets(interval_notes(report)),
        "## Provenance",
        bullets(
            [
                f"{fact.name}: {fact.value}"
                for fact in provenance(report.manifest, config_fingerprint=report.config_fingerprint)
            ]
        ),
        *([bullets(skips(report.manifest))] if report.manifest.skipped else []),
        "## Compare in MLflow",
        f"    {command}",
        escaped(steps),
    ]
    return "\n\n".join(sections) + "\n"


def accuracy_markdown(grid: Grid) -> str:
    """Lay out test and validation accuracy, one row per method, one column per shot count."""
    rows = []
    for method in grid.methods:
        finals = [grid.at(method, shots) for shots in grid.shots]
        rows.append([escaped(method), *(_accuracies(final) if final else "" for final in finals)])
    return table_markdown(["method", *map(shots_title, grid.shots)], rows)


def elsewhere_markdown(grid: Grid, *, level: int = 2) -> list[str]:
    """Lay out a section for each test split elsewhere."""
    return [
        f"{'#' * level} {escaped(table.title)}\n\n{escaped(table.note)}\n\n"
        + table_markdown(
            ["method", *map(shots_title, grid.shots)],
            [[escaped(method), *cells] for method, cells in table.rows.items()],
        )
        for table in elsewhere_tables(grid)
    ]


def _accuracies(final: FinalResult) -> str:
    validation = final.choice.mean_validation
    return accuracy_cell(final) if validation is None else f"{accuracy_cell(final)} ({percent(validation)})"


def paired_markdown(pairs: Sequence[Paired]) -> str:
    """Lay out differences, one row per pair of methods, one column per shot count; bold where the interval excludes 0."""
    shots = sorted({pair.shots for pair in pairs})
    rows = [
        [f"{escaped(method)} minus {escaped(reference)}", *(_bold(cells.get(count)) for count in shots)]
        for (method, reference), cells in by_pair(pairs).items()
    ]
    return table_markdown(["difference", *map(shots_title, shots)], rows)


def _bold(pair: Paired | None) -> str:
    if pair is None:
        return ""
    return f"**{paired_cell(pair)}**" if pair.verdict in {"above", "below"} else paired_cell(pair)


def table_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table of escaped cells, the first column to the left, the others to the right."""
    rule = ["---", *["--:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def bullets(lines: Sequence[str]) -> str:
    """List lines, escaped."""
    return "\n".join(f"- {escaped(line)}" for line in lines)


def escaped(text: str) -> str:
    """Take their meaning from the characters that Markdown and HTML read."""
    return _SPECIAL.sub(r"\\\1", visible(text))
