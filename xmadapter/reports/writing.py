"""write_report: a report as files, each durable, the page last."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv

from xmadapter.errors import MissingExtra
from xmadapter.reports.markdown import render_markdown
from xmadapter.reports.report import Report
from xmadapter.reports.tables import comparison
from xmadapter.storage import local_path, make_folder, write_durably

__all__ = ["csv_bytes", "write_files", "write_report"]


def write_report(report: Report, output: str) -> Path:
    """Write report.html, report.md, results.csv, accuracy.png and cost.png; the same report gives the same bytes.

    Args:
        report: What to write.
        output: Folder, made where it is absent; files of an earlier report are replaced.

    Returns:
        Path of report.html, which is written last and needs none of the others.

    Raises:
        MissingExtra: matplotlib or jinja2 is not installed; nothing was written.
        ResourceError: The folder cannot be written.
    """
    return write_files(lambda: _contents(report), output)


def write_files(render: Callable[[], Mapping[str, bytes]], output: str) -> Path:
    """Write the files of a report, each durably, in order.

    Args:
        render: Makes them, by name, report.html last.
        output: Folder, made where it is absent; files of an earlier report are replaced.

    Returns:
        Path of report.html.

    Raises:
        MissingExtra: A package that `render` imports is not installed; nothing was written.
        ResourceError: The folder cannot be written.
    """
    try:
        contents = render()
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"a report needs {error.name}, which is not installed; nothing was written; pip install 'xmadapter[reports]'"
        ) from error
    folder = make_folder(local_path(output))
    for name, content in contents.items():
        write_durably(folder / name, _writer(content))
    return folder / "report.html"


def csv_bytes(table: pa.Table) -> bytes:
    """Write a table as CSV."""
    file = io.BytesIO()
    pyarrow.csv.write_csv(table, file)
    return file.getvalue()


def _contents(report: Report) -> dict[str, bytes]:
    # Here, not above: tables must work, and start fast, where nobody draws.
    from xmadapter.reports.page import render_page
    from xmadapter.reports.plots import plot_accuracy, plot_cost

    title = report.title
    accuracy, cost = plot_accuracy(report.grid, title=title), plot_cost(report.grid, title=title)
    page = render_page(report, accuracy_png=accuracy, cost_png=cost)
    return {
        "accuracy.png": accuracy,
        "cost.png": cost,
        "results.csv": csv_bytes(comparison(report.grid.finals)),
        "report.md": render_markdown(report).encode(),
        "report.html": page.encode(),
    }


def _writer(content: bytes) -> Callable[[BinaryIO], object]:
    return lambda file: file.write(content)
