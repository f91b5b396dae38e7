"""What stands in a picture: lines and bars of estimates in percent with their intervals, and the axes they need."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from xmadapter.evaluation import Interval
from xmadapter.reports.plots.canvas import ZERO_SHOT_COLOUR, Look
from xmadapter.reports.plots.labels import Label, short

__all__ = ["draw_bar", "draw_dashed", "draw_line", "set_count_axis", "set_percent_axis"]

_MARGIN = 5.0  # percent points between the outermost estimate and the edge of the picture


def set_percent_axis(axes: Axes, intervals: Sequence[Interval], *, name: str) -> None:
    """Cut the vertical axis a little outside the estimates; wide intervals leave the picture."""
    means = [interval.estimate for interval in intervals]
    axes.set_ylim(max(0.0, min(means) - _MARGIN), min(100.0, max(means) + _MARGIN))
    axes.set_ylabel(name)


def set_count_axis(axes: Axes, counts: Sequence[int], *, name: str) -> None:
    """Mark just these counts, ascending, on a logarithmic axis."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(counts[0] / 2**0.3, counts[-1] * 2**0.3)
    axes.xaxis.set_major_locator(FixedLocator(list(counts)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(value):,}"))
    axes.set_xlabel(name)


def draw_dashed(axes: Axes, method: str, mean: float) -> Label:
    """Draw a method that uses no training image across the picture; return its label."""
    axes.axhline(mean, color=ZERO_SHOT_COLOUR, linestyle=(0, (5, 3)), linewidth=1.4, zorder=1)
    return Label(short(method), ZERO_SHOT_COLOUR, axes.get_xlim()[1], mean)


def draw_line(axes: Axes, method: str, points: Sequence[tuple[int, Interval]], look: Look, *, alpha: float) -> Label:
    """Draw one method over counts, with a band; return its label, at the right end of its line."""
    counts = [count for count, _ in points]
    low, mean, high = np.array([(one.low, one.estimate, one.high) for _, one in points]).T
    axes.fill_between(counts, low, high, color=look.colour, alpha=alpha, linewidth=0)
    for edge in (low, high):
        axes.plot(counts, edge, color=look.colour, alpha=3 * alpha, linewidth=0.7)
    axes.plot(counts, mean, color=look.colour, marker=look.marker, markersize=6, linewidth=1.8, zorder=3)
    return Label(short(method), look.colour, counts[-1], mean[-1])


def draw_bar(axes: Axes, method: str, interval: Interval, look: Look, *, x: float) -> Label:
    """Draw one result with its interval; return its label."""
    low, mean, high = interval.low, interval.estimate, interval.high
    axes.plot([x, x], [low, high], color=look.colour, alpha=0.25, linewidth=3, solid_capstyle="butt")
    axes.plot([x], [mean], look.marker, color=look.colour, markersize=11 if look.marker == "*" else 8, zorder=3)
    return Label(short(method), look.colour, x, mean)
