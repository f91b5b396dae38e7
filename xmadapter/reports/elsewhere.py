"""What a report says of images the methods were not made for, and of classes that had fewer images than shots."""

from dataclasses import dataclass

from xmadapter.errors import some
from xmadapter.evaluation import Interval
from xmadapter.reports.grid import Grid
from xmadapter.reports.wording import count_of, half_width, percent, shots_title, visible

__all__ = ["ElsewhereTable", "elsewhere_tables", "short_classes"]


@dataclass(frozen=True)
class ElsewhereTable:
    """Accuracy on one test split elsewhere.

    Args:
        title: Of the table.
        note: What it shows.
        rows: By method, a cell for each shot count of the grid.
    """

    title: str
    note: str
    rows: dict[str, tuple[str, ...]]


def elsewhere_tables(grid: Grid) -> list[ElsewhereTable]:
    """Lay out each split elsewhere, and behind unseen classes the harmonic mean with the others."""
    tables = []
    for place, other in enumerate(grid.finals[0].elsewhere):
        images, name = count_of(other.test_rows, "test image"), visible(other.name)
        kind = "of which no method saw an image" if other.unseen else "on which nothing was fitted or chosen"
        rows = {
            method: tuple(_cell(final.elsewhere[place].interval) for final in grid.of(method))
            for method in grid.methods
        }
        tables.append(ElsewhereTable(f"On {name}", f"Test accuracy in % on {images}, {kind}.", rows))
        if other.unseen:
            rows = {
                method: tuple(_cell(final.harmonic(final.elsewhere[place])) for final in grid.of(method))
                for method in grid.methods
            }
            note = f"Of the accuracies in % on the base classes and on {name}, seed by seed."
            tables.append(ElsewhereTable("Harmonic mean", note, rows))
    return tables


def _cell(interval: Interval) -> str:
    return f"{percent(interval.estimate)} {half_width(interval)}".rstrip()


def short_classes(grid: Grid) -> list[str]:
    """Say at which shot counts classes had fewer images, and which."""
    choices = {final.choice.shots: final.choice for final in grid.finals}
    return [
        f"At {shots_title(shots)}, {count_of(len(choice.short), 'class', 'classes')} had fewer training images and gave all: "
        f"{some([f'{visible(name)} {images}' for name, images in choice.short.items()])}."
        for shots, choice in sorted(choices.items())
        if choice.short
    ]
