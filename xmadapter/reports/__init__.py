"""Reports: tables for the terminal, and one page with pictures for people who were not there.

Neither matplotlib nor jinja2 is imported before `write_report` is called.
"""

from xmadapter.reports.benchmark import BenchmarkEntry
from xmadapter.reports.benchmark_page import write_benchmark
from xmadapter.reports.facts import mlflow_steps
from xmadapter.reports.forecast import forecast_table
from xmadapter.reports.report import Report, build_report
from xmadapter.reports.tables import comparison, summary_table
from xmadapter.reports.writing import write_report

__all__ = [
    "BenchmarkEntry",
    "Report",
    "build_report",
    "comparison",
    "forecast_table",
    "mlflow_steps",
    "summary_table",
    "write_benchmark",
    "write_report",
]
