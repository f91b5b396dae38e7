"""Recall over training images, or over trained parameters where all methods had the same images."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from xmadapter.config import ZeroShotConfig
from xmadapter.evaluation import Interval
from xmadapter.reports.grid import Grid
from xmadapter.reports.plots.canvas import looks, picture, png
from xmadapter.reports.plots.labels import MOST_LABELLED_POINTS, label_lines, label_points, label_right
from xmadapter.reports.plots.marks import draw_bar, draw_dashed, draw_line, set_count_axis, set_percent_axis
from xmadapter.reports.wording import count_of, listed
from xmadapter.retrieval import RetrievalFinal

__all__ = ["plot_recall"]


def plot_recall(grid: Grid[RetrievalFinal], *, title: str) -> bytes:
    """Draw a sweep over adapters inside an encoder, as PNG; the same grid gives the same bytes.

    Several numbers of training images: mean recall over them, one line per method. One: text to image recall@1 over trained
    parameters, one labelled point per method. Zero-shot is a dashed line in both.

    Args:
        grid: What to draw.
        title: Data set or experiment.
    """
    return _over_images(grid, title) if len(grid.shots) > 1 else _over_parameters(grid, title)


def _over_images(grid: Grid[RetrievalFinal], title: str) -> bytes:
    zero_shot, styles = grid.named(ZeroShotConfig), looks(grid)
    alpha = min(0.08, 0.4 / len(grid.methods))  # as over shots
    with picture(title, aside="mean recall", lines=label_lines(grid.methods)) as (figure, axes):
        set_count_axis(axes, grid.shots, name="Training images (log scale)")
        set_percent_axis(axes, [final.mean_recall for final in grid.finals], name="Mean test recall (%)")
        labels = [draw_dashed(axes, method, grid.of(method)[-1].mean_recall.estimate) for method in zero_shot]
        for method in grid.methods:
            if method not in zero_shot:
                curve = [(final.choice.shots, final.mean_recall) for final in grid.of(method)]
                labels.append(draw_line(axes, method, curve, styles[method], alpha=alpha))
        label_right(axes, labels)
        note = "Mean over both directions and recall@1, 5 and 10. "
        return png(figure, f"{_interval_note(grid, 'Bands')}{_setting(grid)}\n{note}{_dashed_note(grid)}")


def _over_parameters(grid: Grid[RetrievalFinal], title: str) -> bytes:
    styles, near = looks(grid), len(grid.methods) <= MOST_LABELLED_POINTS
    zero_shot = [final for final in grid.finals if isinstance(final.choice.adapter, ZeroShotConfig)]
    trained = [final for final in grid.finals if final not in zero_shot]
    heading, lines = f"{title}, {_images(grid.shots[0])}", 0 if near else label_lines(grid.methods)
    with picture(heading, aside="text to image", lines=lines) as (figure, axes):
        _set_parameter_axis(axes, [_parameters(final) for final in trained])
        set_percent_axis(axes, [*map(_first, grid.finals)], name="Test recall@1, text to image (%)")
        labels = [draw_dashed(axes, final.choice.method, _first(final).estimate) for final in zero_shot]
        if near:
            # Its name stands at the left edge, where nothing is trained.
            labels = [label._replace(x=axes.get_xlim()[0]) for label in labels]
        for final in trained:
            method = final.choice.method
            labels.append(draw_bar(axes, method, _first(final), styles[method], x=_parameters(final)))
        if near:
            counts = [f"{final.choice.trained_parameters:,} trained" for final in (*zero_shot, *trained)]
            label_points(axes, labels, second_lines=counts)
        else:
            label_right(axes, labels)
        note = "Trained: parameters fitted to the training images, per seed. "
        return png(figure, f"{_interval_note(grid, 'Bars')}{_setting(grid)}\n{note}{_dashed_note(grid)}")


def _first(final: RetrievalFinal) -> Interval:
    return final.recall("text_to_image", 1)


def _parameters(final: RetrievalFinal) -> int:
    return max(final.choice.trained_parameters, 1)


def _images(count: int) -> str:
    return count_of(count, "training image")


def _set_parameter_axis(axes: Axes, counts: Sequence[int]) -> None:
    low, high = min(counts, default=1), max(counts, default=1)
    axes.set_xscale("log")
    axes.set_xlim(low / 8, high * 4)
    # Between powers of ten only where few of them are in the picture.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlabel("Trained parameters (log scale)")


def _interval_note(grid: Grid[RetrievalFinal], shape: str) -> str:
    if len(grid.seeds) == 1:
        return "One seed, so no interval. "
    return f"{shape}: 95 % t-intervals over {len(grid.seeds)} seeds, cut at the edges of the picture. "


def _setting(grid: Grid[RetrievalFinal]) -> str:
    final = grid.finals[0]
    seeds = "Seed" if len(grid.seeds) == 1 else "Seeds"
    return f"{seeds} {listed(grid.seeds)}; {count_of(final.images, 'test image')}, {count_of(final.texts, 'caption')}."


def _dashed_note(grid: Grid[RetrievalFinal]) -> str:
    return "Dashed: no training image used." if grid.named(ZeroShotConfig) else ""
