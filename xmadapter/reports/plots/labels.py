"""Names of lines and points, where they cover neither each other nor what they name."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox, BboxBase
from scipy.optimize import isotonic_regression

from xmadapter.reports.wording import visible

__all__ = ["LINE_INCHES", "MOST_LABELLED_POINTS", "Label", "label_lines", "label_points", "label_right", "short"]

LINE_INCHES = 0.155
MOST_LABELLED_POINTS = 7
"""Of more points than these, names stand at the right edge."""
_LABEL_SIZE = 8.5
_LABEL_LETTERS, _POINT_LETTERS = 30, 18

# `relpos` lets the leader end at the left of the name; it would otherwise cross it.
_LEADER = {"arrowstyle": "-", "linewidth": 0.7, "alpha": 0.6, "shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)}
_LABEL_PLACES = (
    *((9, 0, "left"), (-9, 0, "right"), (0, 13, "center"), (0, -13, "center"), (9, 13, "left"), (9, -13, "left")),
    *((-9, 13, "right"), (-9, -13, "right"), (0, 30, "center"), (0, -30, "center")),
)
"""Offsets of a name from its point, right and up in typographic points, and the alignment; the first is the best."""


class Label(NamedTuple):
    """A name and the place it belongs to, in data."""

    text: str
    colour: str
    x: float
    y: float


def label_right(axes: Axes, labels: Sequence[Label]) -> None:
    """Name lines at the right edge, as near to their ends as names fit below each other."""
    low, high = axes.get_ylim()
    line = LINE_INCHES * (high - low) / (axes.bbox.height / axes.figure.dpi)
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


def label_points(axes: Axes, labels: Sequence[Label], *, second_lines: Sequence[str]) -> None:
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


def label_lines(methods: Iterable[str]) -> int:
    """Lines that the labels at the right edge take, with the gaps between them."""
    return sum(short(method).count("\n") + 2 for method in methods)


def short(method: str) -> str:
    """Break a name into at most two lines."""
    return "\n".join(textwrap.wrap(visible(method), _LABEL_LETTERS, max_lines=2, placeholder=" …")) or "(no name)"


def _annotate(axes: Axes, label: Label, place: tuple[int, int, str]) -> Annotation:
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
