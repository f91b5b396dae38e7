"""The report of a sweep over adapters inside an encoder: table for the terminal, page, Markdown, CSV and a picture."""

from xmadapter.reports.recall.report import RecallReport
from xmadapter.reports.recall.tables import recall_summary
from xmadapter.reports.recall.writing import write_recall_report

__all__ = ["RecallReport", "recall_summary", "write_recall_report"]
