"""Pictures of reports, as PNG. The only importers of matplotlib are here."""

from xmadapter.reports.plots.accuracy import plot_accuracy, plot_cost
from xmadapter.reports.plots.recall import plot_recall

__all__ = ["plot_accuracy", "plot_cost", "plot_recall"]
