"""Reports: tables for the terminal, and one page with pictures for people who were not there.

Neither matplotlib nor jinja2 is imported before a report is written.
"""

from xmadapter.reports.benchmark import BenchmarkEntry
from xmadapter.reports.benchmark_page import write_benchmark
from xmadapter.reports.facts import mlflow_steps
from xmadapter.reports.forecast import forecast_table
from xmadapter.reports.recall import RecallReport, recall_summary, write_recall_report
from xmadapter.reports.report import Report, build_report
from xmadapter.reports.tables import comparison, summary_table
from xmadapter.reports.writing import write_report

__all__ = [
    "BenchmarkEntry",
    "RecallReport",
    "Report",
    "build_report",
    "comparison",
    "forecast_table",
    "mlflow_steps",
    "recall_summary",
    "summary_table",
    "write_benchmark",
    "write_recall_report",
    "write_report",
]
