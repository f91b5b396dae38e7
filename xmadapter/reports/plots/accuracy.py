"""Accuracy over shots, and accuracy over what a method stores."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from xmadapter.config import ZeroShotConfig
from xmadapter.evaluation import Interval
from xmadapter.final import FinalResult
from xmadapter.reports.grid import Grid
from xmadapter.reports.plots.canvas import looks, picture, png
from xmadapter.reports.plots.labels import MOST_LABELLED_POINTS, label_lines, label_points, label_right
from xmadapter.reports.plots.marks import draw_bar, draw_dashed, draw_line, set_count_axis, set_percent_axis
from xmadapter.reports.tables import setting_line
from xmadapter.reports.wording import count_of

__all__ = ["plot_accuracy", "plot_cost"]


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
    styles = looks(grid)
    alpha = min(0.08, 0.4 / len(grid.methods))  # many bands on top of each other end in grey
    with picture(title, aside=grid.protocol, lines=label_lines(grid.methods)) as (figure, axes):
        set_count_axis(axes, grid.shots, name="Shots (training images per class, log scale)")
        set_percent_axis(axes, [*map(_percent, grid.finals)], name="Test accuracy (%)")
        labels = [draw_dashed(axes, method, _percent(grid.of(method)[-1]).estimate) for method in zero_shot]
        if len(grid.shots) == 1:
            labels += [
                draw_bar(
                    axes,
                    method,
                    _percent(grid.of(method)[0]),
                    styles[method],
                    x=grid.shots[0] * _dodge(place, len(others)),
                )
                for place, method in enumerate(others)
            ]
        else:
            labels += [draw_line(axes, method, _curve(grid, method), styles[method], alpha=alpha) for method in others]
        label_right(axes, labels)
        return png(figure, _accuracy_caption(grid))


def plot_cost(grid: Grid, *, title: str) -> bytes:
    """Draw test accuracy at the largest shot count over stored bytes, one labelled point per method, as PNG.

    Args:
        grid: What to draw.
        title: Data set or experiment.
    """
    shots = grid.shots[-1]
    finals = [final for final in grid.finals if final.choice.shots == shots]
    sizes = [max(final.choice.stored_bytes, 1) / 1000 for final in finals]
    styles, near = looks(grid), len(finals) <= MOST_LABELLED_POINTS
    lines = 0 if near else label_lines(grid.methods)
    with picture(f"{title}, {count_of(shots, 'shot')}", aside=grid.protocol, lines=lines) as (figure, axes):
        _set_size_axis(axes, sizes)
        set_percent_axis(axes, [*map(_percent, finals)], name="Test accuracy (%)")
        labels = [
            draw_bar(axes, final.choice.method, _percent(final), styles[final.choice.method], x=size)
            for final, size in zip(finals, sizes, strict=True)
        ]
        if near:
            trained = [f"{final.choice.trained_parameters:,} trained" for final in finals]
            label_points(axes, labels, second_lines=trained)
        else:
            label_right(axes, labels)
        note = "Stored: all that one seed needs to predict, in 1000 bytes. Trained: parameters fitted to the shots, per seed."
        return png(figure, f"{_interval_note(grid, 'Bars')}{setting_line(grid)}\n{note}")


def _percent(final: FinalResult) -> Interval:
    low, mean, high = (100 * value for value in (final.interval.low, final.interval.estimate, final.interval.high))
    return Interval(estimate=mean, low=low, high=high, level=final.interval.level)


def _curve(grid: Grid, method: str) -> list[tuple[int, Interval]]:
    return [(final.choice.shots, _percent(final)) for final in grid.of(method)]


def _set_size_axis(axes: Axes, sizes: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(min(sizes) / 2.5, max(sizes) * 4)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel("Stored size (kB, log scale)")


def _dodge(place: int, methods: int) -> float:
    # Where all methods stand at one shot count, their points are moved apart.
    return 2 ** (0.4 * (place + 0.5) / methods - 0.2)


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
