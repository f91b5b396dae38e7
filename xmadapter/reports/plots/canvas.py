"""What all pictures share: a figure that no local settings change, its look by method, and its bytes."""

import io
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xmadapter.config import ZeroShotConfig
from xmadapter.final import FinalResult
from xmadapter.reports.grid import Grid
from xmadapter.reports.plots.labels import LINE_INCHES
from xmadapter.reports.wording import visible
from xmadapter.retrieval import RetrievalFinal

__all__ = ["ZERO_SHOT_COLOUR", "Look", "looks", "picture", "png"]

_WIDTH, _HEIGHT, _DPI = 8.0, 5.0, 150

# Okabe and Ito's palette without its yellow, which is too pale for a line on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# One more marker than colours, so that the pair repeats late.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
ZERO_SHOT_COLOUR = "#5f5f5f"


class Look(NamedTuple):
    """How a method is drawn."""

    colour: str
    marker: str


@contextmanager
def picture(title: str, *, aside: str, lines: int) -> Iterator[tuple[Figure, Axes]]:
    """Open a figure under matplotlib's own defaults, so that no local matplotlibrc changes a report.

    Args:
        title: Data set or experiment.
        aside: What stands in brackets behind it.
        lines: Lines of names at the right edge, which make the figure higher; 0 leaves no room for names there.
    """
    height = max(_HEIGHT, 1.6 + lines * LINE_INCHES)
    with style.context("default", after_reset=True), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box, which is all that can be done about it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(_WIDTH, height), dpi=_DPI)
        FigureCanvasAgg(figure)
        right = 0.69 if lines else 0.97
        axes = figure.add_axes((0.085, 0.88 / height, right - 0.085, 1 - 1.23 / height))
        heading = f"{textwrap.shorten(visible(title), 70, placeholder=' …')} ({aside})"
        axes.set_title(heading, fontsize=12, loc="left", parse_math=False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        yield figure, axes


def png(figure: Figure, caption: str) -> bytes:
    """Write a figure with a caption below it; the same figure gives the same bytes."""
    lines = [line for part in caption.split("\n") for line in textwrap.wrap(part, 130)]
    y = 0.1 / figure.get_figheight()
    figure.text(0.085, y, "\n".join(lines), fontsize=7.5, color="#555555", parse_math=False)
    file = io.BytesIO()
    # Without this, matplotlib writes its version into the file, and an upgrade changes bytes though no pixel changed.
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def looks(grid: Grid[FinalResult] | Grid[RetrievalFinal]) -> dict[str, Look]:
    """Give each method a colour and a marker, in order; zero-shot is a grey star."""
    zero_shot = grid.named(ZeroShotConfig)
    others = [method for method in grid.methods if method not in zero_shot]
    found = {
        method: Look(_COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)])
        for place, method in enumerate(others)
    }
    return found | dict.fromkeys(zero_shot, Look(ZERO_SHOT_COLOUR, "*"))
