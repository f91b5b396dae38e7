"""Results of a retrieval sweep as a plain Arrow table, and as text for the terminal."""

from collections.abc import Sequence

import pyarrow as pa
from rich.text import Text

from xmadapter.evaluation import Interval
from xmadapter.reports.grid import Grid, make_recall_grid
from xmadapter.reports.recall.rows import COLUMNS, Cell, as_share, measured_cells, spent
from xmadapter.reports.terminal import plain, plain_table
from xmadapter.reports.wording import count_of, listed, visible
from xmadapter.retrieval import KS, FinetuneResult, RetrievalFinal

__all__ = ["RECALL_SCHEMA", "recall_comparison", "recall_summary", "setting_line"]

_DIRECTIONS = ("text_to_image", "image_to_text")
_MEASURES = (*(f"{direction}_r{k}" for direction in _DIRECTIONS for k in KS), "mean_recall", "minus_zero_shot_r1")
RECALL_SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("training_images", pa.int32()),
        ("seeds", pa.int32()),
        ("validation_mean_recall", pa.float64()),
        *((f"{measure}{end}", pa.float64()) for measure in _MEASURES for end in ("", "_low", "_high")),
        ("text_to_image_median_rank", pa.float64()),
        ("image_to_text_median_rank", pa.float64()),
        ("level", pa.float64()),
        ("first_seed", pa.int32()),
        ("first_seed_text_to_image_r1", pa.float64()),
        ("first_seed_text_to_image_r1_low", pa.float64()),
        ("first_seed_text_to_image_r1_high", pa.float64()),
        ("convention", pa.string()),
        ("test_images", pa.int32()),
        ("test_captions", pa.int32()),
        ("trained_parameters", pa.int64()),
        ("stored_bytes", pa.int64()),
        ("trials", pa.int32()),
        ("trial_seconds", pa.float64()),
        ("final_seconds", pa.float64()),
    ]
)
"""Recalls and their differences are shares in [0, 1]. Bounds are for other seeds, those of `minus_zero_shot_r1` for other test
captions (empty for zero-shot), and those of `first_seed` for other test images."""


def recall_comparison(finals: Sequence[RetrievalFinal], trials: Sequence[FinetuneResult]) -> pa.Table:
    """Tabulate results, one row per method and number of training images, as `RECALL_SCHEMA`.

    Characters of a name that do not print are spelled out.

    Raises:
        ConfigError: The results were not measured in the same way.
    """
    grid = make_recall_grid(finals)
    rows = [_row(final, trials) for method in grid.methods for final in grid.of(method)]
    return pa.Table.from_pylist(rows, schema=RECALL_SCHEMA)


def _row(final: RetrievalFinal, trials: Sequence[FinetuneResult]) -> dict[str, str | float | None]:
    choice, took = final.choice, spent(final, trials)
    first = as_share(final.test[0].text_to_image.recall[1])
    values = [column.measure(final) for column in COLUMNS]
    ranks = [value for value, column in zip(values, COLUMNS, strict=True) if column.better == "less"]
    shares = [value for value, column in zip(values, COLUMNS, strict=True) if column.better != "less"]
    bounded: dict[str, str | float | None] = {}
    for measure, value in zip(_MEASURES, shares, strict=True):
        bounded |= _bounded(measure, value)
    return {
        "method": visible(choice.method),
        "training_images": choice.shots,
        "seeds": len(choice.seeds),
        "validation_mean_recall": choice.score,
        **bounded,
        **{f"{name}_median_rank": rank.estimate for name, rank in zip(_DIRECTIONS, ranks, strict=True) if rank},
        "level": final.mean_recall.level,
        "first_seed": choice.seeds[0],
        **_bounded("first_seed_text_to_image_r1", first),
        "convention": final.test[0].convention,
        "test_images": final.images,
        "test_captions": final.texts,
        "trained_parameters": choice.trained_parameters,
        "stored_bytes": choice.stored_bytes,
        "trials": took.trials,
        "trial_seconds": took.trial_seconds,
        "final_seconds": final.seconds,
    }


def _bounded(name: str, value: Interval | None) -> dict[str, float | None]:
    if value is None:
        return {}
    return {name: value.estimate, f"{name}_low": value.low, f"{name}_high": value.high}


def setting_line(grid: Grid[RetrievalFinal]) -> str:
    """Say how the numbers of a table were measured."""
    final, seeds = grid.finals[0], "seed" if len(grid.seeds) == 1 else "seeds"
    return (
        f"Chosen on the validation split; {seeds} {listed(grid.seeds)}; "
        f"{count_of(final.images, 'test image')}, {count_of(final.texts, 'test caption')}."
    )


def recall_summary(finals: Sequence[RetrievalFinal]) -> str:
    """Lay out test recalls for a terminal, one table per number of training images, one row per method.

    Returns:
        Plain text without colour, at most 100 columns wide, ending in a line feed.

    Raises:
        ConfigError: The results were not measured in the same way.
    """
    grid = make_recall_grid(finals)
    return f"{_meaning(grid)}{setting_line(grid)}\n" + "".join(_block(grid, images) for images in grid.shots)


def _block(grid: Grid[RetrievalFinal], images: int) -> str:
    shown = [column for column in COLUMNS if column.better != "less"]
    finals = [final for final in grid.finals if final.choice.shots == images]
    table = plain_table()
    table.add_column("method", overflow="fold")
    for column in shown:
        short = {"text to image": "t-i ", "image to text": "i-t "}.get(column.group, "")
        table.add_column(f"{short}{column.title}".replace(" ", "\n"), justify="right", no_wrap=True)
    table.add_column("trained\nparameters", justify="right", no_wrap=True)
    for final, cells in zip(finals, measured_cells(finals, shown), strict=True):
        # Text, not str: a str is read as markup, and a method may be called "[red]".
        texts = [visible(final.choice.method), *map(_lines, cells), f"{final.choice.trained_parameters:,}"]
        table.add_row(*map(Text, texts))
    return f"\n{count_of(images, 'training image')}\n\n{plain(table)}"


def _lines(cell: Cell) -> str:
    return f"{cell.text}\n{cell.below}" if cell.below else cell.text


def _meaning(grid: Grid[RetrievalFinal]) -> str:
    start = "Test recall in %; t-i is text to image, i-t image to text, mean recall over both and all K"
    difference = "Minus zero-shot: t-i R@1, below it the 95 % bootstrap interval over test images.\n"
    below = difference if any(final.difference for final in grid.finals) else ""
    if len(grid.seeds) == 1:
        return f"{start}; of one seed.\n{below}"
    return f"{start}.\nBelow a recall: ± half the 95 % t-interval of the mean over seeds.\n{below}"
