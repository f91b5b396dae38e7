"""What a sweep would run, as text for the terminal."""

from collections.abc import Mapping, Sequence

from rich.text import Text

from xmadapter.config import Choice, Range, SpaceEntry
from xmadapter.forecast import Forecast
from xmadapter.reports.terminal import plain, plain_table
from xmadapter.reports.wording import count_of, visible

__all__ = ["forecast_table"]


def forecast_table(rows: Sequence[Forecast], *, slots: int) -> str:
    """Lay out a forecast, method by method, and sum it up.

    Args:
        rows: As `forecast` made them.
        slots: Trials that run side by side.
    """
    several = len({row.experiment for row in rows}) > 1
    table = plain_table()
    for name in ("data set",) * several + ("method",):
        table.add_column(name, overflow="fold")
    for name in ("trials", "finished", "s a trial", "core-s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("search space, and what a trial solves", overflow="fold")
    for row in rows:
        names = [Text(visible(row.experiment))] * several + [Text(visible(row.method.title))]
        searched = _space(row.method.search_space) or "nothing"
        solved = ", ".join(row.method.solve_grid)
        total = f"{row.total_s:.1f}" if row.seconds else "-"
        space = Text(searched + (f"; solves {solved}" if solved else ""))
        table.add_row(*names, str(row.trials), str(row.finished), _seconds(row), total, space)
    return plain(table) + _sum(rows, slots)


def _space(space: Mapping[str, SpaceEntry]) -> str:
    return ", ".join(f"{name} {_entry(entry)}" for name, entry in space.items())


def _entry(entry: SpaceEntry) -> str:
    match entry:
        case Choice(choices=choices):
            return "{" + " ".join(map(str, choices)) + "}"
        case Range(low=low, high=high, log=log):
            return f"{low:g}..{high:g}{' log' if log else ''}"


def _seconds(row: Forecast) -> str:
    if not row.seconds:
        return "-"
    low, high = min(row.seconds.values()), max(row.seconds.values())
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"


def _sum(rows: Sequence[Forecast], slots: int) -> str:
    left, total = sum(row.trials for row in rows), sum(row.total_s for row in rows)
    unknown = sum(row.trials for row in rows if row.trials and not row.seconds)
    text = f"{count_of(left, 'trial')} to run: about {_duration(total / slots)} on {count_of(slots, 'core')}"
    text += f" beside start-up, {total / 3600:.2f} core-hours, as two trials of each method took"
    if unknown:
        text += f"; {unknown} of them are not in this figure, as their features are not encoded yet"
    return text + "; nothing was recorded\n"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
