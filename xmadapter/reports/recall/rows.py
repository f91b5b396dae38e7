"""What stands in the tables of a retrieval report: recalls with their spread, the difference to zero-shot, and the cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from xmadapter.evaluation import Interval, seed_interval
from xmadapter.reports.choices import departures, drawn
from xmadapter.reports.grid import Grid
from xmadapter.reports.wording import bounds, half_width, percent, points
from xmadapter.retrieval import KS, FinetuneResult, RetrievalFinal

__all__ = ["COLUMNS", "Cell", "Chosen", "Column", "Spent", "as_share", "chosen_rows", "measured_cells", "spent"]

Direction = Literal["text_to_image", "image_to_text"]


class Cell(NamedTuple):
    """One cell: what was measured, and below it how certain that is; `best` of its column."""

    text: str
    below: str = ""
    best: bool = False


class Column(NamedTuple):
    """A measured column.

    Args:
        group: Title above several columns.
        title: Of this one.
        measure: Takes the number; None where the method has none.
        write: Writes it.
        better: Whether more or less is; None marks none as the best.
    """

    group: str
    title: str
    measure: Callable[[RetrievalFinal], Interval | None]
    write: Callable[[Interval], Cell]
    better: Literal["more", "less"] | None = "more"


class Spent(NamedTuple):
    """What one method took at one number of training images; parameters and kB are of one seed."""

    trained_parameters: int
    stored_kb: float
    trials: int
    trial_seconds: float


@dataclass(frozen=True)
class Chosen:
    """Hyperparameters of one method at one number of training images, as text.

    Args:
        method: Title of the method.
        images: Training images.
        values: What the search drew, and what the config sets apart from the defaults.
        validation: Mean recall on the validation split, over seeds, in [0, 1].
    """

    method: str
    images: int
    values: str
    validation: float


def as_share(interval: Interval) -> Interval:
    """Turn percent, as recalls are kept, into shares, as everything else is written."""
    return Interval(
        estimate=interval.estimate / 100, low=interval.low / 100, high=interval.high / 100, level=interval.level
    )


def _recall(final: RetrievalFinal, *, direction: Direction, k: int) -> Interval:
    return as_share(final.recall(direction, k))


def _median(final: RetrievalFinal, *, direction: Direction) -> Interval:
    return seed_interval([getattr(report, direction).median_rank for report in final.test])


def _percent_cell(share: Interval) -> Cell:
    return Cell(percent(share.estimate), half_width(share))


def _rank_cell(rank: Interval) -> Cell:
    return Cell(f"{rank.estimate:,.1f}")


def _points_cell(difference: Interval) -> Cell:
    return Cell(points(difference.estimate), bounds(difference) if difference.high > difference.low else "")


def _of_direction(direction: Direction, name: str) -> list[Column]:
    recalls = [Column(name, f"R@{k}", partial(_recall, direction=direction, k=k), _percent_cell) for k in KS]
    return [*recalls, Column(name, "median rank", partial(_median, direction=direction), _rank_cell, better="less")]


COLUMNS = (
    *_of_direction("text_to_image", "text to image"),
    *_of_direction("image_to_text", "image to text"),
    Column("both", "mean recall", lambda final: as_share(final.mean_recall), _percent_cell),
    Column(
        "R@1, text to image",
        "minus zero-shot",
        lambda final: as_share(final.difference) if final.difference else None,
        _points_cell,
        better=None,
    ),
)
"""Everything measured on the test split, in the order of a table."""


def measured_cells(finals: Sequence[RetrievalFinal], columns: Sequence[Column] = COLUMNS) -> list[list[Cell]]:
    """Lay out results as rows of cells; in each column the best are marked, by what is printed.

    Args:
        finals: Of one number of training images, one per row.
        columns: Which to lay out.
    """
    by_column = [_marked([column.measure(final) for final in finals], column) for column in columns]
    return [list(row) for row in zip(*by_column, strict=True)]


def _marked(values: Sequence[Interval | None], column: Column) -> list[Cell]:
    cells = [column.write(value) if value else Cell("-") for value in values]
    known = [value for value in values if value]
    if column.better is None or len(known) < 2:
        return cells
    pick = max if column.better == "more" else min
    best = column.write(pick(known, key=lambda value: value.estimate)).text
    return [cell._replace(best=cell.text == best) for cell in cells]


def spent(final: RetrievalFinal, trials: Sequence[FinetuneResult]) -> Spent:
    """Count what a method took at the number of training images of a result."""
    choice = final.choice
    seconds = [trial.seconds for trial in trials if (trial.method, trial.shots) == (choice.method, choice.shots)]
    return Spent(choice.trained_parameters, choice.stored_bytes / 1000, len(seconds), sum(seconds))


def chosen_rows(grid: Grid[RetrievalFinal], trials: Sequence[FinetuneResult]) -> list[Chosen]:
    """List the chosen hyperparameters, method by method, by ascending numbers of training images.

    A field is named where any trial of the method departs from the default, so a default that won is shown too.
    """
    rows = []
    for method in grid.methods:
        finals = grid.of(method)
        tried = [trial.adapter for trial in trials if trial.method == method]
        shown = departures([*tried, *(final.choice.adapter for final in finals)])
        rows += [
            Chosen(method, final.choice.shots, drawn(final.choice.adapter, shown), final.choice.score)
            for final in finals
        ]
    return rows
