"""Pictures: accuracy over shots, and accuracy over what a method stores. The only importer of matplotlib."""

import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox, BboxBase
from scipy.optimize import isotonic_regression

from xmadapter.config import ZeroShotConfig
from xmadapter.final import FinalResult
from xmadapter.reports.grid import Grid
from xmadapter.reports.tables import setting_line
from xmadapter.reports.wording import count_of, visible

__all__ = ["plot_accuracy", "plot_cost"]

_WIDTH, _HEIGHT, _DPI = 8.0, 5.0, 150
_LABEL_SIZE, _LINE_INCHES = 8.5, 0.155
_LABEL_LETTERS, _POINT_LETTERS, _MOST_LABELLED_POINTS = 30, 18, 7
_MARGIN = 5.0  # percent points between the outermost estimate and the edge of the picture

# Okabe and Ito's palette without its yellow, which is too pale for a line on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# One more marker than colours, so that the pair repeats late.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
_ZERO_SHOT = "#5f5f5f"
# `relpos` lets the leader end at the left of the name; it would otherwise cross it.
_LEADER = {"arrowstyle": "-", "linewidth": 0.7, "alpha": 0.6, "shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)}
_LABEL_PLACES = (
    *((9, 0, "left"), (-9, 0, "right"), (0, 13, "center"), (0, -13, "center"), (9, 13, "left"), (9, -13, "left")),
    *((-9, 13, "right"), (-9, -13, "right"), (0, 30, "center"), (0, -30, "center")),
)
"""Offsets of a name from its point, right and up in typographic points, and the alignment; the first is the best."""


class _Look(NamedTuple):
    colour: str
    marker: str


class _Label(NamedTuple):
    text: str
    colour: str
    x: float
    y: float


def plot_accuracy(grid: Grid, *, title: str) -> bytes:
    """Draw test accuracy over shots, one line per method, as PNG.

    Bands are the t-intervals over seeds; they are cut at the edges of the picture, which follow the estimates. Methods without
    training images are a dashed line. The same grid gives the same bytes.

    Args:
        grid: What to draw.
        title: Data set or experiment.
    """
    zero_shot = grid.named(ZeroShotConfig)
    others = [method for method in grid.methods if method not in zero_shot]
    looks = _looks(grid)
    alpha = min(0.08, 0.4 / len(grid.methods))  # many bands on top of each other end in grey
    with _picture(grid, title, lines=_label_lines(grid)) as (figure, axes):
        _set_shots_axis(axes, grid.shots)
        _set_accuracy_axis(axes, grid.finals)
        labels = [_draw_zero_shot(axes, grid.of(method)[-1]) for method in zero_shot]
        if len(grid.shots) == 1:
            labels += [
                _draw_bar(axes, grid.of(method)[0], looks[method], x=grid.shots[0] * _dodge(place, len(others)))
                for place, method in enumerate(others)
            ]
        else:
            labels += [_draw_line(axes, grid.of(method), looks[method], alpha=alpha) for method in others]
        _label_right(axes, labels)
        return _png(figure, _accuracy_caption(grid))


def plot_cost(grid: Grid, *, title: str) -> bytes:
    """Draw test accuracy at the largest shot count over stored bytes, one labelled point per method, as PNG.

    Args:
        grid: What to draw.
        title: Data set or experiment.
    """
    shots = grid.shots[-1]
    finals = [final for final in grid.finals if final.choice.shots == shots]
    sizes = [max(final.choice.stored_bytes, 1) / 1000 for final in finals]
    looks, near = _looks(grid), len(finals) <= _MOST_LABELLED_POINTS
    lines = 0 if near else _label_lines(grid)
    with _picture(grid, f"{title}, {count_of(shots, 'shot')}", lines=lines) as (figure, axes):
        _set_size_axis(axes, sizes)
        _set_accuracy_axis(axes, finals)
        labels = [
            _draw_bar(axes, final, looks[final.choice.method], x=size)
            for final, size in zip(finals, sizes, strict=True)
        ]
        if near:
            trained = [f"{final.choice.trained_parameters:,} trained" for final in finals]
            _label_points(axes, labels, second_lines=trained)
        else:
            _label_right(axes, labels)
        note = "Stored: all that one seed needs to predict, in 1000 bytes. Trained: parameters fitted to the shots, per seed."
        return _png(figure, f"{_interval_note(grid, 'Bars')}{setting_line(grid)}\n{note}")


@contextmanager
def _picture(grid: Grid, title: str, *, lines: int) -> Iterator[tuple[Figure, Axes]]:
    """Open a figure under matplotlib's own defaults, so that no local matplotlibrc changes a report."""
    height = max(_HEIGHT, 1.6 + lines * _LINE_INCHES)
    with style.context("default", after_reset=True), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box, which is all that can be done about it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(_WIDTH, height), dpi=_DPI)
        FigureCanvasAgg(figure)
        right = 0.69 if lines else 0.97
        axes = figure.add_axes((0.085, 0.88 / height, right - 0.085, 1 - 1.23 / height))
        heading = f"{textwrap.shorten(visible(title), 70, placeholder=' …')} ({grid.protocol})"
        axes.set_title(heading, fontsize=12, loc="left", parse_math=False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        yield figure, axes


def _png(figure: Figure, caption: str) -> bytes:
    lines = [line for part in caption.split("\n") for line in textwrap.wrap(part, 130)]
    y = 0.1 / figure.get_figheight()
    figure.text(0.085, y, "\n".join(lines), fontsize=7.5, color="#555555", parse_math=False)
    file = io.BytesIO()
    # Without this, matplotlib writes its version into the file, and an upgrade changes bytes though no pixel changed.
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _looks(grid: Grid) -> dict[str, _Look]:
    zero_shot = grid.named(ZeroShotConfig)
    others = [method for method in grid.methods if method not in zero_shot]
    looks = {
        method: _Look(_COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)])
        for place, method in enumerate(others)
    }
    return looks | dict.fromkeys(zero_shot, _Look(_ZERO_SHOT, "*"))


def _percents(final: FinalResult) -> tuple[float, float, float]:
    interval = final.interval
    return 100 * interval.low, 100 * interval.estimate, 100 * interval.high


def _set_accuracy_axis(axes: Axes, finals: Sequence[FinalResult]) -> None:
    means = [_percents(final)[1] for final in finals]
    axes.set_ylim(max(0.0, min(means) - _MARGIN), min(100.0, max(means) + _MARGIN))
    axes.set_ylabel("Test accuracy (%)")


def _set_shots_axis(axes: Axes, shots: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(shots[0] / 2**0.3, shots[-1] * 2**0.3)
    axes.xaxis.set_major_locator(FixedLocator(list(shots)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("Shots (training images per class, log scale)")


def _set_size_axis(axes: Axes, sizes: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(min(sizes) / 2.5, max(sizes) * 4)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel("Stored size (kB, log scale)")


def _draw_zero_shot(axes: Axes, final: FinalResult) -> _Label:
    mean = _percents(final)[1]
    axes.axhline(mean, color=_ZERO_SHOT, linestyle=(0, (5, 3)), linewidth=1.4, zorder=1)
    return _Label(_short(final.choice.method), _ZERO_SHOT, axes.get_xlim()[1], mean)


def _draw_line(axes: Axes, finals: Sequence[FinalResult], look: _Look, *, alpha: float) -> _Label:
    """Draw one method over shots; return its label, at the right end of its line."""
    shots = [final.choice.shots for final in finals]
    low, mean, high = np.array([_percents(final) for final in finals]).T
    axes.fill_between(shots, low, high, color=look.colour, alpha=alpha, linewidth=0)
    for edge in (low, high):
        axes.plot(shots, edge, color=look.colour, alpha=3 * alpha, linewidth=0.7)
    axes.plot(shots, mean, color=look.colour, marker=look.marker, markersize=6, linewidth=1.8, zorder=3)
    return _Label(_short(finals[0].choice.method), look.colour, shots[-1], mean[-1])


def _draw_bar(axes: Axes, final: FinalResult, look: _Look, *, x: float) -> _Label:
    """Draw one result with its interval; return its label."""
    low, mean, high = _percents(final)
    axes.plot([x, x], [low, high], color=look.colour, alpha=0.25, linewidth=3, solid_capstyle="butt")
    axes.plot([x], [mean], look.marker, color=look.colour, markersize=11 if look.marker == "*" else 8, zorder=3)
    return _Label(_short(final.choice.method), look.colour, x, mean)


def _dodge(place: int, methods: int) -> float:
    # Where all methods stand at one shot count, their points are moved apart.
    return 2 ** (0.4 * (place + 0.5) / methods - 0.2)


def _label_right(axes: Axes, labels: Sequence[_Label]) -> None:
    """Name lines at the right edge, as near to their ends as names fit below each other."""
    low, high = axes.get_ylim()
    line = _LINE_INCHES * (high - low) / (axes.bbox.height / _DPI)
    order = sorted(labels, key=lambda label: label.y)
    heights = np.array([line * (label.text.count("\n") + 1) + 0.3 * line for label in order])
    below = np.cumsum(heights) - heights
    # Stacked without gaps, label i starts at `below[i]`. What each must be lifted beyond that may only grow from the bottom to
    # the top, or two would overlap; the nearest such lifts are an isotonic regression.
    lifts = isotonic_regression([label.y for label in order] - below - heights / 2).x
    lifts = np.clip(lifts, low, max(low, high - heights.sum()))
    for label, y in zip(order, lifts + below + heights / 2, strict=True):
        axes.annotate(
            label.text,
            xy=(label.x, label.y),
            xytext=(1.05, y),
            textcoords=axes.get_yaxis_transform(),
            color=label.colour,
            fontsize=_LABEL_SIZE,
            va="center",
            annotation_clip=False,
            parse_math=False,
            arrowprops={**_LEADER, "color": label.colour},
        )


def _label_points(axes: Axes, labels: Sequence[_Label], *, second_lines: Sequence[str]) -> None:
    """Name points beside them, at the first place where a name covers neither a point nor another name."""
    taken = [Bbox([axes.transData.transform((label.x, label.y))] * 2).padded(10) for label in labels]
    taken += [line.get_window_extent().padded(2) for line in axes.lines if np.size(line.get_ydata()) == 2]
    for label, line in zip(labels, second_lines, strict=True):
        text = f"{textwrap.fill(label.text, _POINT_LETTERS)}\n{line}"
        tries = [_annotate(axes, label._replace(text=text), place) for place in _LABEL_PLACES]
        boxes = [annotation.get_window_extent() for annotation in tries]
        # In whole pixels, so that places alike stay in order; outside the picture is worse than on top of something.
        costs = [round(sum(_shared(box, other) for other in taken) - 2 * _shared(box, axes.bbox)) for box in boxes]
        chosen = costs.index(min(costs))
        taken.append(boxes[chosen])
        for rejected in (*tries[:chosen], *tries[chosen + 1 :]):
            rejected.remove()


def _annotate(axes: Axes, label: _Label, place: tuple[int, int, str]) -> Annotation:
    right, up, align = place
    return axes.annotate(
        label.text,
        xy=(label.x, label.y),
        xytext=(right, up),
        textcoords="offset points",
        ha=align,
        va="center" if up == 0 else ("bottom" if up > 0 else "top"),
        color=label.colour,
        fontsize=_LABEL_SIZE,
        parse_math=False,
    )


def _shared(box: BboxBase, other: BboxBase) -> float:
    both = Bbox.intersection(box, other)
    return 0.0 if both is None else float(both.width * both.height)


def _label_lines(grid: Grid) -> int:
    """Lines that the labels at the right edge take, with the gaps between them."""
    return sum(_short(method).count("\n") + 2 for method in grid.methods)


def _short(method: str) -> str:
    return "\n".join(textwrap.wrap(visible(method), _LABEL_LETTERS, max_lines=2, placeholder=" …")) or "(no name)"


def _interval_note(grid: Grid, shape: str) -> str:
    if len(grid.seeds) == 1:
        return "One seed, so no interval. "
    level = f"{100 * grid.finals[0].interval.level:.0f}"
    return f"{shape}: {level} % t-intervals over {len(grid.seeds)} seeds, cut at the edges of the picture. "


def _accuracy_caption(grid: Grid) -> str:
    dashed = "Dashed: no training image used. " if grid.named(ZeroShotConfig) else ""
    if len(grid.shots) == 1:
        aside = f"Points stand side by side; all are at {count_of(grid.shots[0], 'shot')}."
        return f"{_interval_note(grid, 'Bars')}{setting_line(grid)}\n{dashed}{aside}"
    return f"{_interval_note(grid, 'Bands')}{setting_line(grid)}\n{dashed}"
